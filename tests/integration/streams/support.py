"""What the tests of streams/ share: everything that lies in a topic, and changes of topics."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from runtime.settings import Settings
from streams.topics import MIB, physical


@contextlib.asynccontextmanager
async def administrator(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client."""
    client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def lies_in(settings: Settings, topic: str, partitions: int) -> dict[int, list[Any]]:
    """Every record of a topic, by partition, in the order of the offsets."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=11 * MIB,
    )
    await consumer.start()
    try:
        wanted = [TopicPartition(physical(settings, topic), number) for number in range(partitions)]
        consumer.assign(wanted)
        ends = await consumer.end_offsets(wanted)
        found: dict[int, list[Any]] = {number: [] for number in range(partitions)}
        while any(len(found[at.partition]) < ends[at] for at in wanted):
            for at, records in (await consumer.getmany(timeout_ms=500)).items():
                found[at.partition] += records
        return found
    finally:
        await consumer.stop()
