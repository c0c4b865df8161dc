"""What a statement costs on full tables: the blocks it touches, and its plan."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import asyncpg

from tests.support.databases import lasting_database
from tests.support.servers import Servers


@contextlib.contextmanager
def full_tables(servers: Servers, *fills: str) -> Iterator[str]:
    """A database with the projections' tables, filled by these statements once for many questions. Yields its URL."""

    async def fill(database: str) -> None:
        connection = await asyncpg.connect(database)
        try:
            for statement in fills:
                await connection.execute(statement)
        finally:
            await connection.close()

    with lasting_database(servers, "projections") as database:
        asyncio.run(fill(database))
        yield database


async def cost(connection: Any, statement: str, *arguments: Any) -> tuple[int, str]:
    """Return the blocks that a statement touches, and its plan."""
    explained = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {statement}", *arguments)
    plan = "\n".join(row[0] for row in explained)
    shared = next(line for line in plan.splitlines() if "Buffers: shared" in line)
    return sum(int(part.split("=")[1]) for part in shared.split() if "=" in part), plan
