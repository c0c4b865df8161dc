"""The outbox: records that were written with what they tell of go to Kafka, and are deleted when Kafka has them."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from aiokafka.errors import KafkaError

from runtime.failures import log_failure
from runtime.logs import logger
from runtime.metrics import DEAD_LETTERS, EVENTS
from runtime.postgres import AWAY
from runtime.waiting import pause
from schemas.deadletter import read_headers
from streams.producer import Producer, Record
from streams.topics import DEADLETTERS
from streams.topics import EVENTS as EVENTS_TOPIC

log = logger(__name__)

_MOST = 1000
_SEND_SECONDS = 10.0
_IDLE_SECONDS = 0.5

# Several workers publish side by side; order does not matter, as events carry their own.
_TAKE = """
DELETE FROM kommo_agents.outbox WHERE number IN (
    SELECT number FROM kommo_agents.outbox ORDER BY number LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING number, topic, key, value, headers
"""


async def publish_once(connection: Any, producer: Producer) -> int:
    """Send what waits, at most _MOST records, and return how many. A crash in between sends some again: same ids.

    Raises KafkaError or TimeoutError where Kafka does not acknowledge them: then they wait on.
    """
    async with connection.transaction():
        rows = sorted(await connection.fetch(_TAKE, _MOST), key=lambda row: int(row["number"]))
        by_topic: dict[str, list[Record]] = {}
        for row in rows:
            headers = [(name, value.encode()) for name, value in orjson.loads(row["headers"])]
            by_topic.setdefault(row["topic"], []).append(Record(row["key"], row["value"], headers))
        async with asyncio.timeout(_SEND_SECONDS):
            for topic, records in by_topic.items():
                await producer.send_all(topic, records)
    for topic, records in by_topic.items():
        _count(topic, records)
    return len(rows)


def _count(topic: str, records: list[Record]) -> None:
    for record in records:
        if topic == EVENTS_TOPIC:
            EVENTS.labels(orjson.loads(record.value or b"{}").get("type", "")).inc()
        elif topic == DEADLETTERS:
            told = read_headers(record.headers)
            DEAD_LETTERS.labels(told.get("error_class", "")).inc()
            log.warning(
                "set aside",
                reason=told.get("reason"),
                error_class=told.get("error_class"),
                original=f"{told.get('topic')}/{told.get('partition')}/{told.get('offset')}",
                correlation_id=told.get("correlation_id"),
            )


async def publish(pool: Any, producer: Producer, wake: asyncio.Event, stop: asyncio.Event) -> None:
    """Publish until `stop`; `wake` says that something was put in. While a server is away it waits."""
    while not stop.is_set():
        wake.clear()
        try:
            async with pool.acquire() as connection:
                sent = await publish_once(connection, producer)
        except (KafkaError, *AWAY) as error:
            log_failure(log, "the outbox waits", error)
            await pause(stop, 1.0)
            continue
        if sent < _MOST:
            waiting = asyncio.ensure_future(wake.wait())
            stopped = asyncio.ensure_future(stop.wait())
            await asyncio.wait([waiting, stopped], timeout=_IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            stopped.cancel()
