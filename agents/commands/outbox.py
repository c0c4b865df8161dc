"""The outbox: records that were written with what they tell of go to Kafka, and are deleted when Kafka has them.

Each topic by itself: one that cannot be written to holds up no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson
from aiokafka.errors import KafkaError

from agents.commands.table import OUTBOX_TOPICS
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
    SELECT number FROM kommo_agents.outbox WHERE topic = $1 ORDER BY number LIMIT $2 FOR UPDATE SKIP LOCKED
)
RETURNING number, key, value, headers
"""


class Outbox:
    """Publishes what is in the outbox. `pool` is asyncpg's."""

    def __init__(self, pool: Any, producer: Producer) -> None:
        self._pool, self._producer = pool, producer
        self._wakes = {topic: asyncio.Event() for topic in OUTBOX_TOPICS}

    def wake(self, topics: Iterable[str]) -> None:
        """Say that something was put in for these topics."""
        for topic in topics:
            self._wakes[topic].set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop`. While a server is away it waits."""
        await asyncio.gather(*(self._publish(topic, wake, stop) for topic, wake in self._wakes.items()))

    async def _publish(self, topic: str, wake: asyncio.Event, stop: asyncio.Event) -> None:
        while not stop.is_set():
            wake.clear()
            try:
                async with self._pool.acquire() as connection:
                    sent = await publish_once(connection, self._producer, topic)
            except (KafkaError, *AWAY) as error:
                log_failure(log, "the outbox waits", error, topic=topic)
                await pause(stop, 1.0)
                continue
            if sent < _MOST:
                waiting = asyncio.ensure_future(wake.wait())
                stopped = asyncio.ensure_future(stop.wait())
                await asyncio.wait([waiting, stopped], timeout=_IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                stopped.cancel()


async def publish_once(connection: Any, producer: Producer, topic: str) -> int:
    """Send what waits for a topic (its logical name), at most _MOST records, and return how many.

    A crash in between sends some again: same ids. Raises KafkaError or TimeoutError where Kafka does not acknowledge
    them: then they wait on.
    """
    async with connection.transaction():
        rows = sorted(await connection.fetch(_TAKE, topic, _MOST), key=lambda row: int(row["number"]))
        records = [
            Record(row["key"], row["value"], [(name, text.encode()) for name, text in orjson.loads(row["headers"])])
            for row in rows
        ]
        if records:
            async with asyncio.timeout(_SEND_SECONDS):
                await producer.send_all(topic, records)
    _count(topic, records)
    return len(records)


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
