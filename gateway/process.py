"""The gateway's process: it needs Kafka and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.errors import KafkaError

from gateway.disabled import PATHS, DisabledDoor
from gateway.door import Door
from gateway.intake import Intake
from gateway.integrations import Integrations
from gateway.tokens import Keyring
from gateway.watch import AnswerWatch
from runtime.health import Health, Receive, Scope, Send, with_health
from runtime.logs import logger
from runtime.metrics import ANSWERS
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
    keys, integrations = Keyring.from_settings(settings), Integrations.from_settings(settings)
    health = Health("topics", "kafka", "accounts")
    accounts = Accounts()
    producer = Producer(settings, "gateway")

    async def store(delivery: Delivery) -> asyncio.Future[Any]:
        return await producer.send(WEBHOOKS, Record(delivery.key, delivery.body, delivery.headers()))

    intake = Intake(store, ack_seconds=settings.gateway_ack_seconds)
    answers = AnswerWatch()
    answers.show()
    webhooks = Door(
        keys,
        accounts,
        intake,
        answers,
        ready=lambda: not health.reasons.keys() & {"topics", "accounts"},
        body_seconds=settings.gateway_body_seconds,
    )
    disabled = DisabledDoor(integrations, intake, ready=lambda: "topics" not in health.reasons)

    async def doors(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await (disabled if scope.get("path") in PATHS else webhooks)(scope, receive, send)
        except Exception:
            ANSWERS.labels("500").inc()  # the server answers, see runtime/problem.py
            raise

    served = asyncio.Event()
    watching = asyncio.create_task(watch(producer.ping, "kafka", health, served))
    try:
        async with serving(
            with_health(health, doors), settings.gateway_host, settings.gateway_port, f"{PREFIX}GATEWAY"
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
