"""Offsets that were passed over, on real logs: only those that hold records are gaps."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from runtime.settings import Settings
from streams.gaps import OffsetGapError, OffsetTracker
from streams.topics import COMMANDS, ensure_topics, physical
from tests.support.topics import delete_records


async def log(settings: Settings, *transactions: int) -> TopicPartition:
    """Write so many records in each transaction to the first partition of a topic, and return that partition."""
    await ensure_topics(settings)
    partition = TopicPartition(physical(settings, COMMANDS), 0)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, transactional_id=settings.kafka_prefix
    )
    await producer.start()
    try:
        for count in transactions:
            async with producer.transaction():
                for _ in range(count):
                    await producer.send_and_wait(partition.topic, b"record", partition=0)
    finally:
        await producer.stop()
    return partition


async def test_a_record_that_was_passed_over_is_named(settings: Settings) -> None:
    partition = await log(settings, 5)
    tracker = OffsetTracker(settings)
    tracker.begin({partition: 0})
    for offset in (0, 1, 0, 1, 2):  # some again, as after a rebalance
        await tracker.take(partition, offset)
    with pytest.raises(OffsetGapError, match=r"offset 3 of .*kommo\.commands\.g1/0 was passed over: 4 came"):
        await tracker.take(partition, 4)


async def test_nothing_may_come_before_what_a_rebalance_said(settings: Settings) -> None:
    partition = await log(settings, 5)
    tracker = OffsetTracker(settings)
    tracker.begin({partition: 2})
    with pytest.raises(OffsetGapError, match="offset 2"):
        await tracker.take(partition, 3)


async def test_the_marker_of_a_transaction_and_what_was_deleted_are_no_gap(settings: Settings) -> None:
    partition = await log(settings, 2, 2)  # 0, 1, a marker, 3, 4, a marker
    tracker = OffsetTracker(settings)
    tracker.begin({partition: 0})
    await delete_records(settings, [partition], 1)
    for offset in (1, 3, 4):
        await tracker.take(partition, offset)
    tracker.begin({partition: 1})
    with pytest.raises(OffsetGapError):
        await tracker.take(partition, 3)
