"""What the gateway's tests on a real Kafka share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from gateway.process import gateway
from runtime.settings import Settings
from streams.topics import WEBHOOKS, physical
from tests.support.gateway import opened
from tests.support.ports import free_port
from tests.support.waiting import running

FORM = {"content-type": "application/x-www-form-urlencoded"}


@contextlib.asynccontextmanager
async def gateway_with(settings: Settings, **more: Any) -> AsyncIterator[Settings]:
    """One more gateway on the topics of an installation, with other settings; yields them when it is ready."""
    own = settings.model_copy(update={"gateway_port": free_port(), **more})
    async with running(lambda stop: gateway(own, stop)):
        await opened(own)
        yield own


async def records(settings: Settings, *accounts: int) -> list[Any]:
    """What lies in kommo.webhooks now (of these accounts, where some are named)."""
    async with _reader(settings) as (consumer, partitions):
        ends = await consumer.end_offsets(partitions)
        found: list[Any] = []
        while len(found) < sum(ends.values()):
            for part in (await consumer.getmany(timeout_ms=500)).values():
                found += part
    keys = {str(account).encode() for account in accounts}
    return [item for item in found if not keys or item.key in keys]


async def stored(settings: Settings) -> int:
    """How many records lie in kommo.webhooks now, of whatever account."""
    async with _reader(settings) as (consumer, partitions):
        return sum((await consumer.end_offsets(partitions)).values())


@contextlib.asynccontextmanager
async def _reader(settings: Settings) -> AsyncIterator[tuple[Any, list[TopicPartition]]]:
    name = physical(settings, WEBHOOKS)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(name, number) for number in range(settings.webhooks_partitions)]
        consumer.assign(partitions)
        yield consumer, partitions
    finally:
        await consumer.stop()
