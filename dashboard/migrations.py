"""The dashboard's own tables: who may read, and who may give commands."""

from __future__ import annotations

from typing import Any

from runtime import migrations as runner
from runtime.migrations import Migration, migrations_of


def migrations() -> list[Migration]:
    """Return the migrations of the tokens, codes and sessions."""
    return migrations_of("dashboard")


async def migrate_missing(connection: Any) -> None:
    """Apply those that are missing. Raises MigrationError."""
    await runner.migrate_missing(connection, migrations())
