"""The dashboard's own tables: who may read, and who may give commands."""

from __future__ import annotations

from typing import Any

import asyncpg

from runtime.migrations import Migration, migrate, migration


def migrations() -> list[Migration]:
    """Return the migrations of the tokens, codes and sessions."""
    return [migration("dashboard", name) for name in ("0001_access.sql", "0002_commands.sql")]


async def migrate_missing(connection: Any) -> None:
    """Apply what is missing; where nothing is, no right to change the schema is needed. Raises MigrationError."""
    try:
        applied = {row["name"] for row in await connection.fetch("SELECT name FROM kommo.migrations")}
    except asyncpg.UndefinedTableError:
        applied = set()
    if any(item.name not in applied for item in migrations()):
        await migrate(connection, migrations())
