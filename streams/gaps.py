"""Records that a reader was never handed: an offset that is passed over is noticed, and the log is asked about it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from runtime.settings import Settings
from streams.connection import connection, started, stopped

_ASK_SECONDS = 30.0


class OffsetGapError(Exception):
    """Records of the log were passed over; the message says where. Whoever starts again reads them."""


class OffsetTracker:
    """The next offset of each partition: a rebalance says from where it is read, and each record moves it on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._next: dict[TopicPartition, int] = {}

    def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        """Take note that partitions are read from these offsets on."""
        self._next.update(positions)

    async def take(self, partition: TopicPartition, offset: int) -> None:
        """Take note of a record; one that comes again moves back. Raises OffsetGapError, KafkaError, TimeoutError.

        Where offsets were passed over the log is asked: not each of them holds a record, as a transaction ends with a
        marker, and what was deleted leaves a gap.
        """
        expected = self._next.get(partition, offset)
        if offset > expected:
            first = await _first_record(self._settings, partition, expected)
            if first < offset:
                where = f"{partition.topic}/{partition.partition}"
                raise OffsetGapError(f"the record at offset {first} of {where} was passed over: {offset} came instead")
        self._next[partition] = offset + 1


async def _first_record(settings: Settings, partition: TopicPartition, offset: int) -> int:
    """Return the offset of the first record at or after this one; there must be one."""
    consumer = AIOKafkaConsumer(**connection(settings, "gaps"), auto_offset_reset="earliest")
    await started(consumer)
    try:
        consumer.assign([partition])
        consumer.seek(partition, offset)
        async with asyncio.timeout(_ASK_SECONDS):
            record = await consumer.getone(partition)
        found: int = record.offset
        return found
    finally:
        await stopped(consumer)
