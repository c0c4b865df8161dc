from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.conftest import Servers

_numbers = itertools.count(1)


@pytest.fixture
async def database(servers: Servers) -> AsyncIterator[str]:
    """The URL of a new, empty database; no connection is held meanwhile, so PostgreSQL may be killed."""
    name = f"acceptance_{os.getpid()}_{next(_numbers)}"
    await _execute(servers, f'CREATE DATABASE "{name}"')
    try:
        yield servers.database_url.rpartition("/")[0] + f"/{name}"
    finally:
        await _execute(servers, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _execute(servers: Servers, statement: str) -> None:
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
