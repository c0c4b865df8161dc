"""One running dashboard for the tests of a module, on tables that are emptied before each; some have one of their own.

All tests here run in their module's event loop (`pytestmark` in each file), in which what they share lives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import redis.asyncio as redis

from runtime.settings import Settings
from streams.topics import COMMANDS, ensure_topics
from tests.integration.dashboard.support import Board, Rows, kafka_of, open_board
from tests.support.databases import lasting_database, new_database
from tests.support.installation import delete_topics, installation, redis_url_of
from tests.support.servers import Servers
from tests.support.topics import delete_records, partitions_of

_EMPTY = "; ".join(
    f"DELETE FROM {table}"  # of few rows it costs a fifth of TRUNCATE, and waits for no reader
    for table in (
        *("kommo_projections.activity_log_v2", "kommo_projections.recent_updates_v1", "kommo_projections.tasks_v1"),
        *("kommo_projections.calls_v1", "kommo_projections.commands_v1", "kommo_projections.command_effects_v1"),
        *("kommo_projections.dead_letters_v1", "kommo_projections.positions", "kommo.access_tokens"),
    )
)


@pytest.fixture(scope="session")
def shared_database(shared_servers: Servers) -> Iterator[str]:
    """A database with all tables for the tests of this folder: making one takes longer than most tests."""
    with lasting_database(shared_servers, "dashboard", "projections") as url:
        yield url


@pytest.fixture(scope="session")
def redis_url(shared_servers: Servers) -> str:
    """A Redis database of this worker's own."""
    return redis_url_of(shared_servers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connection(shared_database: str) -> AsyncIterator[Any]:
    """The connection with which a module's tests write rows."""
    connection = await asyncpg.connect(shared_database)
    yield connection
    await connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cache(redis_url: str) -> AsyncIterator[Any]:
    """The Redis of the dashboards."""
    cache = redis.from_url(redis_url)
    yield cache
    await cache.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def tables(shared_database: str, connection: Any, cache: Any) -> str:
    """The URL of the shared database, its tables empty, and nothing of it in Redis."""
    await connection.execute(_EMPTY)
    await cache.flushdb()
    return shared_database


@pytest.fixture
def rows(tables: str, connection: Any) -> Rows:
    return Rows(connection)


@pytest_asyncio.fixture(loop_scope="module")
async def new_rows(shared_servers: Servers) -> AsyncIterator[tuple[Rows, str]]:
    """Rows of a new database in which no worker has run, and its URL."""
    async with new_database(shared_servers, "dashboard", "projections") as url:
        connection = await asyncpg.connect(url)
        yield Rows(connection), url
        await connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_board(shared_database: str, redis_url: str) -> AsyncIterator[Board]:
    async with open_board(shared_database, redis_url) as running:
        yield running


@pytest.fixture
def board(shared_board: Board, tables: str) -> Board:
    """The module's running dashboard with a cache; nobody is signed in. Not for tests that open streams or stop it."""
    shared_board.client.cookies.clear()
    return shared_board


@pytest_asyncio.fixture(loop_scope="module")
async def own_board(tables: str, redis_url: str) -> AsyncIterator[Board]:
    """A running dashboard with a cache, which a test may stop, and whose streams are its own."""
    async with open_board(tables, redis_url) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_kafka(shared_servers: Servers, shared_database: str) -> AsyncIterator[Settings]:
    """An installation whose topics are there."""
    settings = installation(shared_servers, shared_database)
    await ensure_topics(settings)
    yield settings
    await delete_topics(settings)


@pytest_asyncio.fixture(loop_scope="module")
async def kafka(shared_kafka: Settings) -> Settings:
    """The module's installation; no commands lie in its topic."""
    await delete_records(shared_kafka, partitions_of(shared_kafka, COMMANDS))
    return shared_kafka


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_door(shared_kafka: Settings, shared_database: str, redis_url: str) -> AsyncIterator[Board]:
    async with open_board(shared_database, redis_url, **kafka_of(shared_kafka)) as running:
        yield running


@pytest.fixture
def door(shared_door: Board, kafka: Settings, tables: str) -> Board:
    """The module's running dashboard that has a Kafka, too."""
    shared_door.client.cookies.clear()
    return shared_door
