from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import redis.asyncio as redis

from runtime.settings import Settings
from streams.topics import ensure_topics
from tests.integration.dashboard.support import Board, Rows, kafka_of, open_board
from tests.support.databases import lasting_database
from tests.support.installation import delete_topics, installation, redis_url_of
from tests.support.servers import Servers


@pytest.fixture(scope="session")
def shared_database(shared_servers: Servers) -> Iterator[str]:
    """A database with all tables for the tests of this folder: making one takes longer than most tests."""
    with lasting_database(shared_servers, "dashboard", "projections") as url:
        yield url


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """A Redis database of this worker's own."""
    return redis_url_of(servers)


@pytest.fixture
async def tables(shared_database: str, redis_url: str) -> str:
    """The URL of the shared database, its tables empty, and nothing of it in Redis."""
    connection = await asyncpg.connect(shared_database)
    await connection.execute(
        "TRUNCATE kommo_projections.activity_log_v2, kommo_projections.recent_updates_v1, "
        "kommo_projections.tasks_v1, kommo_projections.calls_v1, "
        "kommo_projections.commands_v1, kommo_projections.command_effects_v1, kommo_projections.dead_letters_v1, "
        "kommo_projections.positions, kommo.access_tokens"
    )
    await connection.close()
    cache = redis.from_url(redis_url)
    await cache.flushdb()
    await cache.aclose()
    return shared_database


@pytest.fixture
async def rows(tables: str) -> AsyncIterator[Rows]:
    connection = await asyncpg.connect(tables)
    yield Rows(connection)
    await connection.close()


@pytest.fixture
async def board(rows: Rows, tables: str, redis_url: str) -> AsyncIterator[Board]:
    """A running dashboard with a cache."""
    async with open_board(tables, redis_url) as running:
        yield running


@pytest.fixture
async def kafka(servers: Servers, tables: str) -> AsyncIterator[Settings]:
    """An installation whose topics are there."""
    settings = installation(servers, tables)
    await ensure_topics(settings)
    yield settings
    await delete_topics(settings)


@pytest.fixture
async def door(kafka: Settings, rows: Rows, tables: str, redis_url: str) -> AsyncIterator[Board]:
    """A running dashboard that has a Kafka, too."""
    async with open_board(tables, redis_url, **kafka_of(kafka)) as running:
        yield running
