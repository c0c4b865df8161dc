"""`kommo-streams init`: topics and tables."""

from __future__ import annotations

import asyncio

from aiokafka.errors import KafkaError

from agents.migrations import migrations as agent_migrations
from dashboard.migrations import migrations as dashboard_migrations
from projections.projector import migrations as projection_migrations
from runtime.migrations import MigrationError, migrate
from runtime.postgres import AWAY, connect
from runtime.settings import PREFIX, Settings
from streams.topics import ensure_topics


class InitError(Exception):
    """A server is away or refuses; the message says which setting leads to it."""


async def initialise(settings: Settings) -> list[str]:
    """Create topics and tables where they are missing and return what was done, a line each. Raises InitError."""
    topics, tables = await asyncio.gather(_topics(settings), _tables(settings), return_exceptions=True)
    for outcome in (topics, tables):
        if isinstance(outcome, BaseException):
            raise outcome
    return [*topics, *tables] or ["nothing to do: topics and tables are there"]  # type: ignore[misc]


async def _topics(settings: Settings) -> list[str]:
    try:
        cluster = await ensure_topics(settings)
    except (KafkaError, OSError) as error:
        raise InitError(
            f"Kafka at {settings.kafka_bootstrap_servers} ({PREFIX}KAFKA_BOOTSTRAP_SERVERS) is away: {error}"
        ) from None
    created = [f"created topic {name}" for name in cluster.created]
    return [*created, *(f"differs: {difference}" for difference in cluster.differences)]


async def _tables(settings: Settings) -> list[str]:
    try:
        connection = await connect(settings, application="init")
        try:
            done = await migrate(connection, [*projection_migrations(), *dashboard_migrations(), *agent_migrations()])
        finally:
            await connection.close()
    except MigrationError as error:
        raise InitError(str(error)) from None
    except AWAY as error:
        raise InitError(f"PostgreSQL ({PREFIX}DATABASE_URL) is away or refuses: {error}") from None
    return [f"migrated {name}" for name in done]
