"""Schema migrations: numbered SQL texts, each applied once, under a lock, in one transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import asyncpg

from runtime.logs import logger

log = logger(__name__)

_NUMBERED = re.compile(r"[0-9]{4}_[a-z0-9_]+\.sql")

_LOCK = 0x6B6F6D6D6F  # "kommo": every process that migrates takes this advisory lock

_TABLE = """
CREATE SCHEMA IF NOT EXISTS kommo;
CREATE TABLE IF NOT EXISTS kommo.migrations (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationError(Exception):
    """A migration that was applied reads differently now; the message names it."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One change of the database: a name that never changes, and its SQL."""

    name: str
    sql: str


def migration(package: str, file: str) -> Migration:
    """Return the migration kept as an SQL file beside a package's modules; its name is `package/file`."""
    return Migration(f"{package}/{file}", resources.files(package).joinpath(file).read_text("utf-8"))


def migrations_of(package: str) -> list[Migration]:
    """Return the migrations of a package: its numbered SQL files, in order."""
    names = sorted(file.name for file in resources.files(package).iterdir() if _NUMBERED.fullmatch(file.name))
    return [migration(package, name) for name in names]


async def migrate_missing(connection: Any, migrations: Sequence[Migration]) -> None:
    """Apply what is missing; where nothing is, no right to change the schema is needed. Raises MigrationError."""
    try:
        applied = {row["name"] for row in await connection.fetch("SELECT name FROM kommo.migrations")}
    except asyncpg.UndefinedTableError:
        applied = set()
    if any(item.name not in applied for item in migrations):
        await migrate(connection, migrations)


async def migrate(connection: Any, migrations: Sequence[Migration]) -> list[str]:
    """Apply what is not applied yet, in the given order, and return the names applied now.

    Any number of processes may do this at once: one works, the others wait. Raises MigrationError where an applied
    migration's text was changed (write a new one instead).
    """
    applied: list[str] = []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        known = dict(await connection.fetch("SELECT name, checksum FROM kommo.migrations"))
        for item in migrations:
            checksum = hashlib.sha256(item.sql.encode()).hexdigest()
            if item.name not in known:
                await connection.execute(item.sql)
                await connection.execute(
                    "INSERT INTO kommo.migrations (name, checksum) VALUES ($1, $2)", item.name, checksum
                )
                applied.append(item.name)
            elif known[item.name] != checksum:
                raise MigrationError(
                    f"migration {item.name} was applied with another text: this program and the database "
                    "do not belong together; a change needs a migration of its own"
                )
    if applied:
        log.info("migrated", migrations=applied)
    return applied
