"""Tokens as their keeper sees them: made, listed, revoked. Checking them is dashboard/access.py."""

from __future__ import annotations

import datetime as dt
from typing import Any

from dashboard.access import CODE_SECONDS, Credential, new_credential
from projections.queries import Accounts, Connection

_CREATE = """
INSERT INTO kommo.access_tokens (id, kind, name, accounts, secret_sha256, expires_at, commands)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_LIST = """
SELECT id, kind, name, accounts, commands, created_at, expires_at, revoked_at
FROM kommo.access_tokens
WHERE kind <> 'code' AND ($1 OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())))
ORDER BY kind, created_at, id
"""
_REVOKE = """
UPDATE kommo.access_tokens SET revoked_at = now()
WHERE revoked_at IS NULL AND (id = $1 OR (name = $1 AND kind = 'api'))
RETURNING id, kind, name
"""


async def create(
    connection: Connection,
    name: str,
    accounts: Accounts,
    expires_at: dt.datetime | None,
    kind: str = "api",
    *,
    commands: bool = False,
) -> Credential:
    """Keep a new credential and return it; its text is nowhere else. With `commands` it may give commands, too."""
    made = new_credential()
    listed = None if accounts is None else list(accounts)
    await connection.fetch(_CREATE, made.id, kind, name, listed, made.secret_sha256, expires_at, commands)
    return made


async def create_code(connection: Connection, accounts: Accounts, *, commands: bool = False) -> Credential:
    """Keep a new one-time code, which can be traded for a session of these accounts, with this right."""
    expires_at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=CODE_SECONDS)
    return await create(connection, "dashboard-url", accounts, expires_at, "code", commands=commands)


async def listed(connection: Connection, everything: bool) -> list[dict[str, Any]]:
    """Return tokens and sessions that are valid, or all that are kept; never a secret."""
    return [dict(row) for row in await connection.fetch(_LIST, everything)]


async def revoke(connection: Connection, name_or_id: str) -> list[dict[str, Any]]:
    """Revoke what has this id, and tokens with this name; return id, kind and name of each."""
    return [dict(row) for row in await connection.fetch(_REVOKE, name_or_id)]


def accounts_text(accounts: Accounts | list[int]) -> str:
    """Say which accounts, for a person."""
    if accounts is None:
        return "all accounts"
    return f"account{'s' if len(accounts) != 1 else ''} {', '.join(map(str, accounts))}"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a table of listed() rows."""
    head = ("ID", "KIND", "NAME", "ACCOUNTS", "MAY", "CREATED (UTC)", "EXPIRES (UTC)", "STATE")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    accounts = "*" if row["accounts"] is None else ",".join(map(str, row["accounts"]))
    if len(accounts) > 40:
        accounts = f"{accounts[:36]} ..."
    over = row["expires_at"] is not None and row["expires_at"] <= dt.datetime.now(dt.UTC)
    state = "revoked" if row["revoked_at"] else "expired" if over else "valid"
    expires = "never" if row["expires_at"] is None else f"{row['expires_at']:%Y-%m-%d %H:%M}"
    may = "read, command" if row["commands"] else "read"
    return row["id"], row["kind"], row["name"], accounts, may, f"{row['created_at']:%Y-%m-%d %H:%M}", expires, state
