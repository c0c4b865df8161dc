"""What the gateway's tests share."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition

from gateway.tokens import Keyring, Token
from runtime.settings import Settings
from streams.topics import WEBHOOKS, physical
from tests.support.waiting import eventually

ACCOUNT = 16700680
FORM = {"content-type": "application/x-www-form-urlencoded"}
NO_KAFKA = "127.0.0.1:1"


def path(settings: Settings, account: int = ACCOUNT, generation: int = 1) -> str:
    return f"/webhooks/{Keyring.from_settings(settings).sign(Token(account, generation))}"


async def records(settings: Settings) -> list[Any]:
    """Everything that lies in kommo.webhooks now."""
    name = physical(settings, WEBHOOKS)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(name, number) for number in range(settings.webhooks_partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[Any] = []
        while len(found) < sum(ends.values()):
            for part in (await consumer.getmany(timeout_ms=500)).values():
                found += part
        return found
    finally:
        await consumer.stop()


async def is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def opened(settings: Settings) -> None:
    """Wait until the gateway listens, and is ready where it has a Kafka."""

    async def open_() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", settings.gateway_port)
        except OSError:
            return False
        writer.close()
        return True

    await eventually(open_)
    if settings.kafka_bootstrap_servers != NO_KAFKA:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.gateway_port}") as client:
            await eventually(lambda: is_ready(client))
