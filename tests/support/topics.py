"""What lies in a topic of an installation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import LeaderNotAvailableError, NotLeaderForPartitionError

from runtime.settings import Settings
from streams.topics import physical, topics
from tests.support.waiting import eventually


def partitions_of(settings: Settings, topic: str) -> list[TopicPartition]:
    """The partitions of a topic (its logical name)."""
    wanted = next(item for item in topics(settings) if item.name == topic)
    return [TopicPartition(physical(settings, topic), number) for number in range(wanted.partitions)]


async def everything(settings: Settings, topic: str) -> list[Any]:
    """All records of a topic, in the order of partition and offset."""
    async with _consumer(settings) as consumer:
        partitions = partitions_of(settings, topic)
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[Any] = []
        async with asyncio.timeout(60):
            while len(found) < sum(ends.values()):
                for part in (await consumer.getmany(timeout_ms=500)).values():
                    found += part
        return sorted(found, key=lambda item: (item.partition, item.offset))


async def amount(settings: Settings, topic: str) -> int:
    """How many records a topic has; none is read."""
    async with _consumer(settings) as consumer:
        return sum((await consumer.end_offsets(partitions_of(settings, topic))).values())


async def delete_records(settings: Settings, partitions: Sequence[TopicPartition], before: int = -1) -> None:
    """Delete what lies before an offset (-1: all there is); a topic just made may have to wait for its leaders."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()

    async def deleted() -> bool:
        try:
            await admin.delete_records(dict.fromkeys(partitions, RecordsToDelete(before_offset=before)))
        except (LeaderNotAvailableError, NotLeaderForPartitionError):
            return False
        return True

    try:
        await eventually(deleted, 20, "the partitions have leaders")
    finally:
        await admin.close()


@contextlib.asynccontextmanager
async def _consumer(settings: Settings) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=12 * 1024 * 1024,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()
