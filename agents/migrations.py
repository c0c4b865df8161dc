"""The agents' own tables: who may speak for an account, and what is to be done."""

from __future__ import annotations

from typing import Any

from runtime import migrations as runner
from runtime.migrations import Migration, migrations_of


def migrations() -> list[Migration]:
    """Return the migrations of the agents' tables."""
    return migrations_of("agents")


async def migrate_missing(connection: Any) -> None:
    """Apply those that are missing. Raises MigrationError."""
    await runner.migrate_missing(connection, migrations())
