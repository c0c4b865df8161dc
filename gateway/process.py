"""The gateway's process: it needs Kafka and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.errors import KafkaError

from gateway.door import Door
from gateway.tokens import Keyring
from runtime.health import Health, with_health
from runtime.logs import logger
from runtime.process import serving
from runtime.settings import PREFIX, Settings
from runtime.waiting import until_there, watch
from schemas.delivery import Delivery
from streams.accounts import Accounts, follow_accounts
from streams.producer import Producer, Record
from streams.topics import WEBHOOKS, ensure_topics

log = logger(__name__)


async def gateway(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Until Kafka is there every delivery is answered 503, and Kommo comes again."""
    keys = Keyring.from_settings(settings)
    health = Health("topics", "kafka", "accounts")
    accounts = Accounts()
    producer = Producer(settings, "gateway")

    async def store(delivery: Delivery) -> asyncio.Future[Any]:
        return await producer.send(WEBHOOKS, Record(delivery.key, delivery.body, delivery.headers()))

    door = Door(
        keys,
        accounts,
        store,
        ready=lambda: not health.reasons.keys() & {"topics", "accounts"},
        ack_seconds=settings.gateway_ack_seconds,
        body_seconds=settings.gateway_body_seconds,
    )
    served = asyncio.Event()
    watching = asyncio.create_task(watch(producer.ping, "kafka", health, served))
    try:
        async with serving(
            with_health(health, door), settings.gateway_host, settings.gateway_port, f"{PREFIX}GATEWAY"
        ) as port:
            log.info("listening", host=settings.gateway_host, port=port)
            await until_there(lambda: ensure_topics(settings), "topics", health, stop, KafkaError, OSError)
            health.ready("topics")
            await follow_accounts(settings, accounts, health, stop)
    finally:
        # The door closes first: what was let in is still acknowledged.
        served.set()
        await watching
        await producer.__aexit__()
