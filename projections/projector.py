"""The projector's process: it runs any number of projections, each on its own."""

from __future__ import annotations

import asyncio
import pkgutil
from collections.abc import Sequence
from typing import cast

from aiokafka.errors import KafkaError

from projections.names import PROJECTIONS
from projections.projection import Projection
from projections.runner import Runner
from runtime.health import Health, with_health
from runtime.migrations import Migration, migrate, migrations_of
from runtime.postgres import AWAY, connect
from runtime.process import serving
from runtime.settings import PREFIX, Settings
from runtime.waiting import until_there, watching
from streams.producer import Producer
from streams.topics import ensure_topics


def migrations() -> list[Migration]:
    """Return the migrations of the projections' tables."""
    return migrations_of("projections")


def made(name: str) -> Projection:
    """Return a new instance of the projection of this name."""
    return cast(Projection, pkgutil.resolve_name(PROJECTIONS[name])())


async def apply_migrations(settings: Settings) -> None:
    """Bring the projections' tables up to date. Raises one of runtime.postgres.AWAY, or MigrationError."""
    connection = await connect(settings, application="migrations")
    try:
        await migrate(connection, migrations())
    finally:
        await connection.close()


async def _ask(settings: Settings) -> None:
    connection = await connect(settings, application="health")
    try:
        await connection.execute("SELECT 1")
    finally:
        await connection.close()


async def projector(settings: Settings, stop: asyncio.Event, names: Sequence[str] = ()) -> None:
    """Run the named projections (all, if none is named) until `stop` is set.

    One that stops, fails or lags never holds up another; /readyz says which, and what to do.
    """
    health = Health("postgresql", "kafka")
    app = with_health(health)
    async with serving(app, settings.projector_host, settings.projector_port, f"{PREFIX}PROJECTOR"):
        await until_there(lambda: apply_migrations(settings), "postgresql", health, stop, *AWAY)
        health.ready("postgresql")
        cluster = await until_there(lambda: ensure_topics(settings), "kafka", health, stop, KafkaError, OSError)
        letters = Producer(settings, "projector")
        await until_there(letters.__aenter__, "kafka", health, stop, KafkaError, OSError)
        health.ready("kafka")
        try:
            runners = [
                Runner(settings, made(name), cluster.cluster_id, letters, health) for name in (names or PROJECTIONS)
            ]
            async with (
                watching(letters.ping, "kafka", health),
                watching(lambda: _ask(settings), "postgresql", health),
                asyncio.TaskGroup() as tasks,
            ):
                for runner in runners:
                    tasks.create_task(runner.run(stop))
                await stop.wait()
        finally:
            await letters.__aexit__()
