"""The tokens of the connected accounts, kept encrypted in PostgreSQL (agents/0001_credentials.sql)."""

from __future__ import annotations

import datetime as dt
import ipaddress
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from agents.kommo.vault import Vault

CLAIM_SECONDS = 60  # longer than a refresh may take: whoever claimed one and is gone holds up nobody for longer


@dataclass(frozen=True, slots=True)
class Pair:
    """What Kommo gave: an access token, until when it is valid, and the token that renews it once."""

    access: SecretStr
    expires_at: dt.datetime | None
    refresh: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who speaks for an account, and how it is. A long-lived token has neither client_uuid nor a refresh token."""

    account_id: int
    base_url: str
    pair: Pair
    client_uuid: str | None = None
    redirect_uri: str | None = None
    user_id: int | None = None
    why: str | None = None  # what needs a person; None: connected
    connected_at: dt.datetime | None = field(default=None, compare=False)
    refused_at: dt.datetime | None = None
    generation: int = 0


_COLUMNS = (
    "account_id, base_url, client_uuid, redirect_uri, access_token, refresh_token, expires_at, user_id, state, why, "
    "connected_at, refused_at, generation"
)
_GET = f"SELECT {_COLUMNS} FROM kommo_agents.credentials WHERE account_id = $1"  # noqa: S608 the columns are above
_PUT = """
INSERT INTO kommo_agents.credentials AS kept
    (account_id, base_url, client_uuid, redirect_uri, access_token, refresh_token, expires_at, user_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (account_id) DO UPDATE SET
    base_url = excluded.base_url, client_uuid = excluded.client_uuid, redirect_uri = excluded.redirect_uri,
    access_token = excluded.access_token, refresh_token = excluded.refresh_token, expires_at = excluded.expires_at,
    user_id = excluded.user_id, state = 'connected', why = NULL, connected_at = now(), refreshed_at = NULL,
    refused_at = NULL, generation = kept.generation + 1, refresh_claim = NULL, refresh_claimed_until = NULL
"""
_CLAIM = """
UPDATE kommo_agents.credentials
SET refresh_claim = $3, refresh_claimed_until = now() + make_interval(secs => $4)
WHERE account_id = $1 AND generation = $2
  AND (refresh_claimed_until IS NULL OR refresh_claimed_until < now())
RETURNING true
"""
_RELEASE = """
UPDATE kommo_agents.credentials SET refresh_claim = NULL, refresh_claimed_until = NULL
WHERE account_id = $1 AND refresh_claim = $2
"""
_RENEW = """
UPDATE kommo_agents.credentials
SET access_token = $4, refresh_token = $5, expires_at = $6, refreshed_at = now(), generation = generation + 1,
    state = 'connected', why = NULL, refused_at = NULL, refresh_claim = NULL, refresh_claimed_until = NULL
WHERE account_id = $1 AND generation = $2 AND refresh_claim = $3
RETURNING true
"""
_REFUSED = """
UPDATE kommo_agents.credentials SET state = 'needs_person', why = $3, refused_at = now()
WHERE account_id = $1 AND generation = $2
"""
_ACCEPTED = """
UPDATE kommo_agents.credentials SET state = 'connected', why = NULL, refused_at = NULL
WHERE account_id = $1 AND generation = $2 AND state = 'needs_person'
"""
_LIST = """
SELECT account_id, base_url, client_uuid, user_id, state, why, connected_at, refreshed_at, expires_at
FROM kommo_agents.credentials ORDER BY account_id
"""


class CredentialStore:
    """Reads and writes them; `database` is a pool or a connection."""

    def __init__(self, database: Any, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def get(self, account_id: int) -> Credentials | None:
        """Return an account's credentials, None where it is not connected. Raises VaultError."""
        row = await self._database.fetchrow(_GET, account_id)
        return None if row is None else self._read(row)

    async def put(self, credentials: Credentials) -> None:
        """Keep the credentials of a person's connecting: it replaces what was there."""
        access, refresh = self._encrypted(credentials.account_id, credentials.pair)
        await self._database.execute(
            _PUT,
            credentials.account_id,
            credentials.base_url,
            credentials.client_uuid,
            credentials.redirect_uri,
            access,
            refresh,
            credentials.pair.expires_at,
            credentials.user_id,
        )

    async def claim(self, credentials: Credentials) -> uuid.UUID | None:
        """Claim the refresh of this very pair: one caller gets a claim, all others None."""
        claim = uuid.uuid4()
        mine = await self._database.fetchval(
            _CLAIM, credentials.account_id, credentials.generation, claim, float(CLAIM_SECONDS)
        )
        return claim if mine else None

    async def release(self, credentials: Credentials, claim: uuid.UUID) -> None:
        """Give a claim up: the refresh came to nothing."""
        await self._database.execute(_RELEASE, credentials.account_id, claim)

    async def renew(self, credentials: Credentials, claim: uuid.UUID, pair: Pair) -> bool:
        """Keep the pair that a claimed refresh gave; False where someone else has been faster and it is void."""
        access, refresh = self._encrypted(credentials.account_id, pair)
        return bool(
            await self._database.fetchval(
                _RENEW, credentials.account_id, credentials.generation, claim, access, refresh, pair.expires_at
            )
        )

    async def refused(self, credentials: Credentials, why: str) -> None:
        """Note that Kommo refuses this very pair: a person must connect the account again."""
        await self._database.execute(_REFUSED, credentials.account_id, credentials.generation, why)

    async def accepted(self, credentials: Credentials) -> None:
        """Note that Kommo takes this very pair again."""
        await self._database.execute(_ACCEPTED, credentials.account_id, credentials.generation)

    async def retry(self, account_id: int) -> None:
        """Let refused tokens be tried at once: a person wants to know."""
        await self._database.execute(
            "UPDATE kommo_agents.credentials SET refused_at = NULL WHERE account_id = $1", account_id
        )

    def _encrypted(self, account_id: int, pair: Pair) -> tuple[bytes, bytes | None]:
        access, refresh = _places(account_id)
        return (
            self._vault.encrypt(access, pair.access),
            None if pair.refresh is None else self._vault.encrypt(refresh, pair.refresh),
        )

    def _read(self, row: Any) -> Credentials:
        access, refresh = _places(row["account_id"])
        pair = Pair(
            self._vault.decrypt(access, row["access_token"]),
            row["expires_at"],
            None if row["refresh_token"] is None else self._vault.decrypt(refresh, row["refresh_token"]),
        )
        same = ("account_id", "base_url", "client_uuid", "redirect_uri", "user_id", "why", "connected_at", "refused_at")
        return Credentials(pair=pair, generation=row["generation"], **{name: row[name] for name in same})


async def rotate(connection: Any, vault: Vault) -> int:
    """Encrypt all tokens with the first key and return of how many accounts. Raises VaultError; then none is."""
    async with connection.transaction():
        rows = await connection.fetch(
            "SELECT account_id, access_token, refresh_token FROM kommo_agents.credentials ORDER BY 1 FOR UPDATE"
        )
        for account_id, *kept in rows:
            places = zip(_places(account_id), kept, strict=True)
            anew = [None if secret is None else vault.rotate(place, secret) for place, secret in places]
            await connection.execute(
                "UPDATE kommo_agents.credentials SET access_token = $2, refresh_token = $3 WHERE account_id = $1",
                account_id,
                *anew,
            )
    return len(rows)


async def listed(database: Any) -> list[dict[str, Any]]:
    """Return the connected accounts, without their tokens: no key is needed."""
    return [dict(row) for row in await database.fetch(_LIST)]


async def forget(database: Any, account_id: int) -> bool:
    """Delete an account's tokens; False where there are none."""
    return bool(
        await database.fetchval("DELETE FROM kommo_agents.credentials WHERE account_id = $1 RETURNING true", account_id)
    )


def base_url_of(text: str) -> str:
    """Return an account's address in its one form, `https://SUB.kommo.com`.

    Raises ValueError that says what is accepted: https, and http to this machine only, for a simulator.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, parts, port = "", urlsplit(""), None
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment and parts.username is None
    if not host or not host.isascii() or not plain or parts.scheme not in ("https", "http"):
        raise ValueError("give the account's address, https://SUB.kommo.com, and nothing behind it")
    if parts.scheme == "http" and not _on_this_machine(host):
        raise ValueError("must begin with https://: over http anyone on the way could read the tokens")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + ("" if port is None else f":{port}")


def _on_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _places(account_id: int) -> Sequence[str]:
    return f"{account_id}/access", f"{account_id}/refresh"
