"""Ingest beside a getmany-and-send loop that does not decode."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agents.ingest import handle
from bench.report import Report, compare
from bench.world import bodies, fill_webhooks, installation
from runtime.process import tune_collector
from runtime.settings import Settings
from service.embedded import Addresses
from streams.consumer import BatchConsumer
from streams.producer import Producer
from streams.topics import EVENTS, WEBHOOKS, physical

COUNT = 50_000


async def run(addresses: Addresses, report: Report, rounds: int) -> None:
    """Deliveries a second from one topic to the other, durable, in one process."""
    items = bodies(COUNT)
    tune_collector()
    async with installation(addresses) as settings:
        await fill_webhooks(settings, items)
        await compare(
            report,
            "ingest, deliveries",
            lambda: _ingest(settings),
            lambda: _loop(settings),
            "getmany and send, no decoding",
            0.4,
            rounds,
            floor=10_000,
        )


async def _ingest(settings: Settings) -> float:
    group = f"bench-{time.time_ns()}"
    async with (
        Producer(settings, "bench") as producer,
        BatchConsumer(settings, topic=WEBHOOKS, group=group, reader="bench") as consumer,
    ):
        done, start = 0, 0.0
        while done < COUNT:
            batch = await consumer.read()
            start = start or time.perf_counter()
            await handle(batch, producer)
            await consumer.done(batch)
            done += len(batch)
        return COUNT / (time.perf_counter() - start)


async def _loop(settings: Settings) -> float:
    name, target = physical(settings, WEBHOOKS), physical(settings, EVENTS)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=f"bench-{time.time_ns()}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=1024 * 1024,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        enable_idempotence=True,
        acks="all",
        compression_type="zstd",
        max_batch_size=512 * 1024,
    )
    await consumer.start()
    await producer.start()
    try:
        consumer.assign([TopicPartition(name, number) for number in range(settings.webhooks_partitions)])
        done, start = 0, 0.0
        while done < COUNT:
            fetched = await consumer.getmany(timeout_ms=500, max_records=5000)
            start = start or time.perf_counter()
            futures: list[Any] = []
            for records in fetched.values():
                futures += [await producer.send(target, record.value, key=record.key) for record in records]
            await asyncio.gather(*futures)
            if fetched:
                await consumer.commit()
            done += len(futures)
        return COUNT / (time.perf_counter() - start)
    finally:
        await producer.stop()
        await consumer.stop()
