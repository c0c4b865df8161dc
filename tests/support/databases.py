"""Databases of a test's own, copied from one in which the tables were made once a run."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg

from agents.migrations import migrations as of_agents
from dashboard.migrations import migrations as of_dashboard
from projections.projector import migrations as of_projections
from runtime.migrations import migrate
from tests.support.servers import Servers, alone

TABLES = {"agents": of_agents, "dashboard": of_dashboard, "projections": of_projections}
"""Whose tables a database can have."""

_numbers = itertools.count(1)


def url_of(servers: Servers, name: str) -> str:
    """The URL of a database of these servers."""
    return f"{servers.database_url.rpartition('/')[0]}/{name}"


async def create_database(servers: Servers, *tables: str) -> str:
    """Make a database with the tables of these rooms (of none: an empty one), and return its name."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    async with _administrator(servers) as connection:
        template = await _template(servers, connection, sorted(tables)) if tables else "template1"
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return name


async def drop_database(servers: Servers, name: str) -> None:
    """Drop a database, whoever is connected to it."""
    async with _administrator(servers) as connection:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextlib.asynccontextmanager
async def new_database(servers: Servers, *tables: str) -> AsyncIterator[str]:
    """Make a database, give its URL, and drop it; no connection is held meanwhile, so PostgreSQL may be killed."""
    name = await create_database(servers, *tables)
    try:
        yield url_of(servers, name)
    finally:
        await drop_database(servers, name)


@contextlib.contextmanager
def lasting_database(servers: Servers, *tables: str) -> Iterator[str]:
    """The same for a fixture that outlives an event loop."""
    name = asyncio.run(create_database(servers, *tables))
    try:
        yield url_of(servers, name)
    finally:
        asyncio.run(drop_database(servers, name))


@contextlib.asynccontextmanager
async def _administrator(servers: Servers) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(servers.database_url)
    try:
        yield connection
    finally:
        await connection.close()


_templates: dict[tuple[str, str], None] = {}


async def _template(servers: Servers, administrator: Any, rooms: list[str]) -> str:
    """The database to copy, made by the first worker of the run that needs it on these servers."""
    name = "_".join(["template", *rooms])
    if (servers.database_url, name) in _templates:
        return name
    with alone(name):  # renamed when whole: what another worker finds has its tables
        if not await administrator.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await administrator.execute(f'DROP DATABASE IF EXISTS "{name}_new"')
            await administrator.execute(f'CREATE DATABASE "{name}_new"')
            connection = await asyncpg.connect(url_of(servers, f"{name}_new"))
            try:
                await migrate(connection, [item for room in rooms for item in TABLES[room]()])
            finally:
                await connection.close()
            await administrator.execute(f'ALTER DATABASE "{name}_new" RENAME TO "{name}"')
    _templates[servers.database_url, name] = None
    return name
