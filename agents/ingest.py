"""Ingest: raw deliveries in, events out, batch by batch.

A batch is decoded, its events are sent in order and acknowledged by the broker, then its offsets are committed. A
crash in between repeats it, and the repeat has the same ids. What cannot be decoded is set aside whole.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import KafkaError

from runtime.classify import classify, describe
from runtime.failures import log_failure
from runtime.health import Health, with_health
from runtime.logs import logger
from runtime.metrics import BATCH_SECONDS, EVENTS
from runtime.process import serving
from runtime.settings import PREFIX, Settings
from runtime.waiting import pause, until_there, watching
from schemas.deadletter import DeadLetter
from schemas.decoder import EncodedEvent, Rejection, decode
from schemas.delivery import DeliveryError, read_delivery
from schemas.errors import ErrorClass
from schemas.event import HEADERS
from streams.consumer import Batch, BatchConsumer
from streams.producer import Producer, Record
from streams.topics import EVENTS as EVENTS_TOPIC
from streams.topics import WEBHOOKS, ensure_topics

log = logger(__name__)

READER = "ingest"
GROUP = "kommo-streams.ingest"

_PART = 500  # deliveries decoded while the part before is on its way
_PART_BYTES = 8 * 1024 * 1024  # or less, where they grow into more
_SLICE = 50  # deliveries decoded before the event loop gets its turn: about 3 ms


async def ingest(settings: Settings, stop: asyncio.Event) -> None:
    """Run the agent until `stop` is set; while Kafka is away it waits, and says so on /readyz."""
    health = Health("kafka")
    async with serving(with_health(health), settings.ingest_host, settings.ingest_port, f"{PREFIX}INGEST"):
        await until_there(lambda: ensure_topics(settings), "kafka", health, stop, KafkaError, OSError)
        while not stop.is_set():
            try:
                async with (
                    Producer(settings, READER) as producer,
                    BatchConsumer(settings, topic=WEBHOOKS, group=GROUP, reader=READER) as consumer,
                    watching(producer.ping, "kafka", health),
                ):
                    await _work(consumer, producer, stop)
            except (KafkaError, OSError) as error:
                # Nothing was committed that was not acknowledged: starting anew repeats at most one batch.
                health.not_ready("kafka", describe(error))
                log_failure(log, "Kafka is away, trying again", error)
                await pause(stop, 1.0)


async def _work(consumer: BatchConsumer, producer: Producer, stop: asyncio.Event) -> None:
    while not stop.is_set():
        async with consumer.busy:
            batch = await consumer.read()
            if batch.records:
                start = time.monotonic()
                await handle(batch, producer)
                await consumer.done(batch)
                BATCH_SECONDS.labels(READER).observe(time.monotonic() - start)


async def handle(batch: Batch, producer: Producer) -> None:
    """Send everything a batch of raw deliveries becomes, and return when all of it is acknowledged.

    While one part is on its way the next is decoded. Raises KafkaError where something was not acknowledged;
    handling the batch again is harmless.
    """
    sending: asyncio.Task[None] | None = None
    part = _Part()
    for number, record in enumerate(batch.records, 1):
        if number % _SLICE == 0:
            await asyncio.sleep(0)
        part.take(record)
        if part.deliveries >= _PART or part.size >= _PART_BYTES or number == len(batch.records):
            if sending is not None:
                await sending
            sending = asyncio.create_task(part.send(producer))
            part = _Part()
    if sending is not None:
        await sending


@dataclass(slots=True)
class _Part:
    """What some deliveries became."""

    events: list[EncodedEvent] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    deliveries: int = 0
    size: int = 0

    def take(self, record: Any) -> None:
        delivery_id = ""
        self.deliveries += 1
        try:
            delivery = read_delivery(record.key, record.value, record.headers)
            delivery_id = delivery.delivery_id
            decoded = decode(delivery)
        except DeliveryError as error:
            rejections = [Rejection("", str(error), classify(error))]
        except Exception as error:
            # A fault of ours must not stop the stream, and must not be lost: the delivery is kept whole.
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            log.exception("decoding failed", correlation_id=delivery_id, **place)
            rejections = [Rejection("", f"{type(error).__name__} in the decoder", ErrorClass.INTERNAL)]
        else:
            self.events += decoded.events
            self.size += sum(len(item.value) for item in decoded.events)
            rejections = decoded.rejections
            log.debug("decoded", correlation_id=delivery_id, events=len(decoded.events))
        self.letters += [
            DeadLetter.of(
                record,
                reader=READER,
                reason=rejection.reason,
                error_class=rejection.error_class,
                item=rejection.item,
                correlation_id=delivery_id,
            )
            for rejection in rejections
        ]

    async def send(self, producer: Producer) -> None:
        await producer.send_all(EVENTS_TOPIC, [Record(item.key, item.value, HEADERS) for item in self.events])
        await producer.set_aside(self.letters)
        for kind, count in Counter(item.type for item in self.events).items():
            EVENTS.labels(kind).inc(count)
