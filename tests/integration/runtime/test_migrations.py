"""Migrations on real PostgreSQL: each is applied once, whole, whoever tries, and never with another text."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from runtime.migrations import Migration, MigrationError, migrate, migrate_missing

ONE = Migration("room/0001_one.sql", "CREATE TABLE one (number integer)")
TWO = Migration("room/0002_two.sql", "CREATE TABLE two (number integer)")


async def tables(connection: Any) -> list[str]:
    """The tables that the migrations made."""
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return [row[0] for row in rows]


async def test_each_is_applied_once_and_never_with_another_text(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        assert await migrate(connection, [ONE]) == [ONE.name]
        assert await migrate(connection, [ONE, TWO]) == [TWO.name]
        assert await migrate(connection, [ONE, TWO]) == []
        changed = Migration(ONE.name, f"{ONE.sql};")
        with pytest.raises(MigrationError, match=r"room/0001_one\.sql was applied with another text"):
            await migrate(connection, [changed, TWO])
    finally:
        await connection.close()


async def test_of_many_at_once_one_applies_and_the_others_find_it_done(database: str) -> None:
    connections = [await asyncpg.connect(database) for _ in range(4)]
    try:
        applied = await asyncio.gather(*(migrate(connection, [ONE, TWO]) for connection in connections))
        assert sorted(applied) == [[], [], [], [ONE.name, TWO.name]]
        assert await tables(connections[0]) == ["one", "two"]
    finally:
        for connection in connections:
            await connection.close()


async def test_one_that_fails_leaves_nothing_of_its_run(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await migrate_missing(connection, [ONE, Migration(TWO.name, "CREATE NONSENSE")])
        assert await tables(connection) == []
        await migrate_missing(connection, [ONE, TWO])
        assert await tables(connection) == ["one", "two"]
    finally:
        await connection.close()
