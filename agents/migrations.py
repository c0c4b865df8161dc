"""The agents' own tables: who may speak for an account, and what is to be done."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import asyncpg

from runtime.migrations import Migration, migrate, migration

_MIGRATION = re.compile(r"[0-9]{4}_[a-z0-9_]+\.sql")


def migrations() -> list[Migration]:
    """Return the migrations of the agents' tables: the numbered SQL files of this package, in order."""
    names = sorted(file.name for file in resources.files("agents").iterdir() if _MIGRATION.fullmatch(file.name))
    return [migration("agents", name) for name in names]


async def migrate_missing(connection: Any) -> None:
    """Apply what is missing; where nothing is, no right to change the schema is needed. Raises MigrationError."""
    try:
        applied = {row["name"] for row in await connection.fetch("SELECT name FROM kommo.migrations")}
    except asyncpg.UndefinedTableError:
        applied = set()
    if any(item.name not in applied for item in migrations()):
        await migrate(connection, migrations())
