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
from runtime.waiting import pause, until_there
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
    storage = _Storage(settings)
    door = Door(
        keys,
        accounts,
        storage.store,
        ready=lambda: not health.reasons,
        ack_seconds=settings.gateway_ack_seconds,
        body_seconds=settings.gateway_body_seconds,
    )
    app = with_health(health, door)
    served = asyncio.Event()
    storing = asyncio.create_task(storage.run(health, served))
    try:
        async with serving(app, settings.gateway_host, settings.gateway_port, f"{PREFIX}GATEWAY") as port:
            log.info("listening", host=settings.gateway_host, port=port)
            await until_there(lambda: ensure_topics(settings), "topics", health, stop, KafkaError, OSError)
            health.ready("topics")
            await follow_accounts(settings, accounts, health, stop)
    finally:
        # The door closes first: what was let in is still acknowledged.
        served.set()
        await storing


class _Storage:
    """The producer behind the door; one that failed for good is replaced."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Producer | None = None
        self._broken = asyncio.Event()

    async def store(self, delivery: Delivery) -> asyncio.Future[Any]:
        if self._producer is None:
            raise KafkaError("no connection to Kafka yet")
        record = Record(delivery.key, delivery.body, delivery.headers())
        try:
            return await self._producer.send(WEBHOOKS, record)
        except KafkaError as error:
            if not error.retriable:
                self._broken.set()
            raise

    async def run(self, health: Health, done: asyncio.Event) -> None:
        while not done.is_set():
            try:
                async with Producer(self._settings, "gateway") as producer:
                    self._producer = producer
                    health.ready("kafka")
                    self._broken.clear()
                    await _first(done, self._broken)
            except (KafkaError, OSError) as error:
                health.not_ready("kafka", f"{type(error).__name__}: {error}")
                log.warning("Kafka is away, trying again", error=repr(error))
                await pause(done, 1.0)
            finally:
                self._producer = None


async def _first(*events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
