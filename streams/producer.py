"""Producers: records acknowledged by all in-sync replicas before anyone hears that they are safe."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from pydantic import ValidationError

from runtime.logs import logger
from runtime.metrics import DEAD_LETTERS
from runtime.settings import Settings
from schemas.catalogue import EVENT_TYPES
from schemas.deadletter import DeadLetter
from schemas.event import HEADERS, SCHEMA, Event
from streams.connection import connection, started, stopped
from streams.partitions import Partitioner
from streams.topics import DEADLETTERS, EVENTS, MIB, physical, topics

log = logger(__name__)

_BATCH_BYTES = 256  # around one record in a batch of its own
_HEADER_BYTES = 10


class Record(NamedTuple):
    """What goes into a topic."""

    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Producer:
    """An idempotent producer with acks=all and zstd; the project's one way to write to Kafka.

    An async context manager. After a failure the broker may have a record all the same, so callers repeat, and
    identity absorbs the repeat. While the broker is away but known a write waits: callers bound their own patience.

    A batch that fails for good leaves a gap in the sequence of aiokafka's idempotent producer, and the broker refuses
    whatever comes after it. So after any failed write the next one gets a new aiokafka producer.
    """

    def __init__(self, settings: Settings, client_id: str, *, compress: bool = True) -> None:
        self._settings = settings
        self._options: dict[str, Any] = {
            **connection(settings, client_id),
            "enable_idempotence": True,
            "acks": "all",
            "linger_ms": 0,  # a door that waits for each acknowledgement is slower with any
            "compression_type": "zstd" if compress else None,
            "max_batch_size": 512 * 1024,
            "max_request_size": 11 * MIB,
            "request_timeout_ms": 30_000,
            "retry_backoff_ms": 50,
        }
        self._producer: AIOKafkaProducer | None = None
        self._broken = False
        self._replacing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._partitioners: dict[str, Partitioner] = {}
        self._limits = {topic.name: topic.max_message_bytes - _BATCH_BYTES for topic in topics(settings)}

    async def __aenter__(self) -> Self:
        await self._sound()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._producer is not None:
            await _end(self._producer)
        await asyncio.gather(*self._retiring)

    async def ping(self) -> None:
        """Return if a broker answers. Raises KafkaError or OSError; the caller bounds the wait."""
        await (await self._sound()).client.fetch_all_metadata()

    async def _sound(self) -> AIOKafkaProducer:
        """Return a producer that has not failed, a new one where it has."""
        if self._producer is not None and not self._broken:
            return self._producer
        async with self._replacing:
            if self._producer is None or self._broken:
                fresh = AIOKafkaProducer(**self._options)
                await started(fresh)
                if self._producer is not None:
                    log.warning("a write failed: going on with a new producer")
                    task = asyncio.create_task(_end(self._producer))
                    self._retiring.add(task)
                    task.add_done_callback(self._retiring.discard)
                self._producer, self._broken = fresh, False
            return self._producer

    def _look(self, acknowledged: asyncio.Future[Any]) -> None:
        if not acknowledged.cancelled() and acknowledged.exception() is not None:
            self._broken = True

    async def partition(self, topic: str, key: bytes) -> int:
        """Return the partition of a key in a logical topic."""
        partitioner = self._partitioners.get(topic)
        if partitioner is None:
            partitions = await (await self._sound()).partitions_for(physical(self._settings, topic))
            partitioner = self._partitioners[topic] = Partitioner(len(partitions))
        return partitioner.partition(key)

    async def send(self, topic: str, record: Record) -> asyncio.Future[Any]:
        """Hand one record over and return a future of its acknowledgement.

        Raises MessageSizeTooLargeError for what the topic does not take, KafkaError where it cannot even be queued.
        """
        self._check(topic, record)
        partition = await self.partition(topic, record.key)
        producer = await self._sound()
        try:
            future: asyncio.Future[Any] = await producer.send(
                physical(self._settings, topic),
                value=record.value,
                key=record.key,
                partition=partition,
                headers=list(record.headers),
            )
        except KafkaError:
            self._broken = True
            raise
        future.add_done_callback(self._look)
        return future

    async def send_all(self, topic: str, records: Iterable[Record]) -> None:
        """Write records, in their order within each partition, and return when all are acknowledged.

        Built as whole batches: a third of the cost of single sends. Raises MessageSizeTooLargeError if the topic does
        not take one of them, before anything is written; KafkaError if any was not acknowledged, then some may be.
        """
        by_partition: dict[int, list[Record]] = {}
        for record in records:
            self._check(topic, record)
            by_partition.setdefault(await self.partition(topic, record.key), []).append(record)
        name, producer = physical(self._settings, topic), await self._sound()
        parts = (_send_part(producer, name, partition, part) for partition, part in by_partition.items())
        for outcome in await asyncio.gather(*parts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                self._broken = True
                raise outcome

    def _check(self, topic: str, record: Record) -> None:
        # What the broker refuses costs everyone who writes beside it a new producer.
        size = len(record.key) + len(record.value or b"")
        for name, value in record.headers:
            size += len(name) + len(value or b"") + _HEADER_BYTES
        if size > self._limits[topic]:
            raise MessageSizeTooLargeError(f"a record of {size} bytes for {topic}, which takes {self._limits[topic]}")

    async def set_aside(self, letters: Iterable[DeadLetter]) -> None:
        """Write dead letters and wait until they are safe; one too large goes with its coordinates and no value.

        Raises KafkaError where Kafka does not acknowledge them.
        """
        sent = [(letter, await self._send_letter(letter)) for letter in letters]
        for letter, future in sent:
            await future
            DEAD_LETTERS.labels(letter.error_class.value).inc()
            log.warning(
                "set aside",
                reason=letter.reason,
                error_class=letter.error_class.value,
                item=letter.item,
                original=f"{letter.topic}/{letter.partition}/{letter.offset}",
                correlation_id=letter.correlation_id,
            )

    async def _send_letter(self, letter: DeadLetter) -> asyncio.Future[Any]:
        try:
            return await self.send(DEADLETTERS, Record(letter.key or b"", letter.value, letter.headers()))
        except MessageSizeTooLargeError:
            headers = [*letter.headers(), ("dead_letter_value", b"too large")]
            return await self.send(DEADLETTERS, Record(letter.key or b"", b"", headers))


async def _end(producer: AIOKafkaProducer) -> None:
    if not await stopped(producer):
        log.warning("a producer did not end in time: Kafka is away")


async def _send_part(producer: AIOKafkaProducer, topic: str, partition: int, records: list[Record]) -> None:
    batch = producer.create_batch()
    for record in records:
        fits = batch.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers))
        if fits is None:
            await (await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers))
    await (await producer.send_batch(batch, topic, partition=partition))


class EventProducer(Producer):
    """The way for any gateway to put events of its own making on kommo.events.

    async with EventProducer(settings, "my-gateway") as events:
        await events.publish([event])
    """

    async def publish(self, events: Iterable[Event]) -> None:
        """Write events and return when all are acknowledged.

        Raises ValueError for a type or version that is not in the catalogue, or data that is not of the type's model,
        before anything is written: such an event would stop every projection. Raises KafkaError where an event was
        not acknowledged; publishing again is harmless.
        """
        checked = [_checked(event) for event in events]
        await self.send_all(EVENTS, [Record(event.key, event.to_json(), HEADERS) for event in checked])


def _checked(event: Event) -> Event:
    kind = EVENT_TYPES.get(event.type)
    if kind is None or event.dataschema != f"{SCHEMA}{kind.name}:{kind.version}":
        raise ValueError(f"event {event.id}: {event.type} ({event.dataschema}) is not in the catalogue of event types")
    try:
        kind.model.model_validate(event.data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"event {event.id}: data.{where}: {first['msg']} (see {kind.model.__name__})") from None
    return event
