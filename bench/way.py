"""The whole way through real processes: how long from the webhook to the visible row, and how much memory it takes."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.load import request
from bench.report import Figure, Report
from bench.world import bodies, installation, load, process, webhook_path
from runtime.settings import Settings
from service.embedded import Addresses
from streams.topics import EVENTS, physical

RATE = 200
SECONDS = 30
ACCOUNT = 16700680

Processes = dict[str, psutil.Process]


@contextlib.asynccontextmanager
async def _processes(settings: Settings) -> AsyncIterator[Processes]:
    async with (
        process(settings, "service", "gateway", port=settings.gateway_port) as gateway,
        process(settings, "service", "ingest", port=settings.ingest_port) as ingest,
        process(settings, "service", "projector", port=settings.projector_port) as projector,
        process(settings, "service", "dashboard", port=settings.dashboard_port) as dashboard,
    ):
        children = {"gateway": gateway, "ingest": ingest, "projector": projector, "dashboard": dashboard}
        yield {name: psutil.Process(child.pid) for name, child in children.items()}


async def latency(addresses: Addresses, report: Report) -> None:
    """Post leads at a steady rate and look for each in both tables, every 2 ms."""
    async with installation(addresses) as settings, _processes(settings):
        url = settings.database_url.get_secret_value()
        posted: dict[str, float] = {}
        seen: dict[str, dict[str, float]] = {"activity_log": {}, "recent_updates": {}}
        done = asyncio.Event()
        watchers = [asyncio.create_task(_watch(url, view, posted, seen[view], done)) for view in seen]
        await _post_steadily(settings, posted, RATE * SECONDS)
        async with asyncio.timeout(60):
            await asyncio.gather(*watchers)
    for view, times in seen.items():
        warm = sorted((at - posted[key]) * 1000 for key, at in times.items() if int(key) > RATE * 2)
        p50, p99 = statistics.median(warm), warm[int(len(warm) * 0.99)]
        report.add(
            Figure(
                f"webhook to visible row in {view}, {RATE}/s for {SECONDS} s",
                f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {warm[-1]:.0f} ms",
                "seen by a query every 2 ms",
                "-",
                "p50 40 ms, p99 200 ms",
                p50 < 40 and p99 < 200,
            )
        )


async def _post_steadily(settings: Settings, posted: dict[str, float], count: int) -> None:
    path = webhook_path(settings, ACCOUNT)
    connections = [await asyncio.open_connection("127.0.0.1", settings.gateway_port) for _ in range(16)]
    free: asyncio.Queue[Any] = asyncio.Queue()
    for connection in connections:
        free.put_nowait(connection)

    async def post(key: str) -> None:
        reader, writer = await free.get()
        at = int(time.time())
        body = f"leads[add][0][id]={key}&leads[add][0][name]=Lead+{key}&leads[add][0][last_modified]={at}"
        posted[key] = time.perf_counter()
        writer.write(request(path, body.encode()))
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        free.put_nowait((reader, writer))

    start = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(1, count + 1):
            tasks.create_task(post(str(number)))
            await asyncio.sleep(max(0.0, start + number / RATE - time.perf_counter()))
    for _reader, writer in connections:
        writer.close()


async def _watch(url: str, view: str, posted: dict[str, float], seen: dict[str, float], done: asyncio.Event) -> None:
    connection = await asyncpg.connect(url)
    query = (
        f"SELECT entity_id FROM kommo.{view} "
        "WHERE account_id = $1 AND entity_type = 'lead' AND entity_id = ANY($2::text[])"
    )
    while len(seen) < RATE * SECONDS:
        waiting = [key for key in list(posted) if key not in seen]
        if waiting:
            found = await connection.fetch(query, ACCOUNT, waiting)
            now = time.perf_counter()
            for row in found:
                seen[row[0]] = now
        await asyncio.sleep(0.002)
    await connection.close()


async def memory(addresses: Addresses, report: Report, total: int = 1_000_000) -> None:
    """Send a million deliveries the whole way and watch the resident memory of every process.

    The first tenth waits in Kafka before ingest may read it, and its events before the projector may: batches are as
    large as they get from then on, so what grows later would grow for ever.
    """
    async with installation(addresses) as settings, _processes(settings) as processes:
        url = settings.database_url.get_secret_value()
        connection = await asyncpg.connect(url)
        items = [body for account, body in bodies(20_000) if account == ACCOUNT]
        path, part = webhook_path(settings, ACCOUNT), total // 10
        sizes: dict[str, list[float]] = {name: [] for name in processes}
        start = time.perf_counter()
        for number in range(10):
            held = ("ingest", "projector") if number == 0 else ()
            for name in held:
                processes[name].suspend()
            await load(settings.gateway_port, path, items, part)
            for name in held:
                processes[name].resume()
                await _events_written(settings, part)
            if number in (0, 9):
                await _drained(connection, part * (number + 1))
            for name, child in processes.items():
                sizes[name].append(child.memory_info().rss / 2**20)
        took = time.perf_counter() - start
        await connection.close()
    for name, found in sizes.items():
        report.add(
            Figure(
                f"resident memory of {name} over {total:,} deliveries ({total / took:,.0f}/s the whole way)",
                f"{found[0]:.0f} MB after a backlog of {part:,}, {found[4]:.0f} at half, {found[-1]:.0f} at the end",
                "-",
                "-",
                "under 200 MB and flat",
                max(found) < 200 and found[-1] - found[0] < 20,
            )
        )


async def _events_written(settings: Settings, count: int) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers)
    await consumer.start()
    try:
        topic = physical(settings, EVENTS)
        partitions = [TopicPartition(topic, number) for number in range(settings.events_partitions)]
        async with asyncio.timeout(300):
            while sum((await consumer.end_offsets(partitions)).values()) < count:
                await asyncio.sleep(0.5)
    finally:
        await consumer.stop()


async def _drained(connection: Any, total: int) -> None:
    """Wait until both projections have read an event of each delivery and stand still for 5 s.

    Raises RuntimeError where they stand still for a minute before that.
    """
    query = (
        "SELECT coalesce(min(read), 0)::bigint FROM "
        "(SELECT sum(position) AS read FROM kommo_projections.positions GROUP BY projection) AS each"
    )
    last, since = -1, time.monotonic()
    while time.monotonic() - since < (5 if last >= total else 60):
        await asyncio.sleep(0.5)
        now = await connection.fetchval(query)
        if now != last:
            last, since = now, time.monotonic()
    if last < total:
        raise RuntimeError(f"a projection stands at {last}, {total} deliveries were accepted")
