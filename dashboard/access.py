"""Who may read what and give commands: tokens of programs, one-time codes, and the sessions they are traded for.

All three are `kst_<16 hex id>_<43 base64url>`: looked up by the id, proven by the secret, of which only a hash is
kept. What is unknown, expired, revoked or malformed is answered alike, after the same work.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from projections.queries import Accounts, Connection
from runtime.problem import Problem
from schemas.errors import ErrorClass

Kind = Literal["api", "session", "code"]

SESSION_SECONDS = 12 * 3600
CODE_SECONDS = 15 * 60
REMEMBERED_SECONDS = 2.0
"""How long a look-up is believed: a revoked token works no longer than this."""
_REMEMBERED_MOST = 4096

_FORM = re.compile(r"kst_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)
_NOBODY = ("0" * 16, "")
_NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a credential allows: reading these accounts (None: all), and with `commands` giving commands for them."""

    id: str
    kind: Kind
    accounts: Accounts
    commands: bool = False

    def narrowed(self, account: int | None) -> Accounts:
        """Return the accounts to read: all of the grant, or the one asked for. Raises Problem 403."""
        if account is None:
            return self.accounts
        if self.accounts is not None and account not in self.accounts:
            raise Problem(
                403,
                f"parameter account: this token is not for account {account}; leave it out, or ask for a token that is",
                error_class=ErrorClass.AUTHORIZATION,
                parameters=[{"name": "account", "detail": "is not an account of this token"}],
            )
        return (account,)


@dataclass(frozen=True, slots=True)
class Credential:
    """A new credential: `text` is what its holder shows, once; the rest is what is kept."""

    id: str
    text: str
    secret_sha256: bytes


def new_credential() -> Credential:
    """Return a new random credential, not yet kept anywhere."""
    name, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    return Credential(name, f"kst_{name}_{secret}", _hash(secret))


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _parts(text: str) -> tuple[str, str]:
    found = _FORM.fullmatch(text)
    return (found[1], found[2]) if found else _NOBODY


def unauthenticated() -> Problem:
    """Return the one answer to every credential that is none."""
    return Problem(
        401,
        "a valid token is needed: send `Authorization: Bearer kst_...` (`kommo-streams token create` makes one), "
        "or open the page at the address `kommo-streams dashboard-url` prints",
        error_class=ErrorClass.AUTHENTICATION,
        headers={"WWW-Authenticate": 'Bearer realm="kommo-streams"'},
    )


_LOOK_UP = """
SELECT secret_sha256, accounts, commands FROM kommo.access_tokens
WHERE id = $1 AND kind = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""

# One statement, so that of two that show the same code exactly one gets a session. The hash may be compared here: who
# guesses secrets does not choose their hashes.
_TRADE = """
WITH used AS (
    DELETE FROM kommo.access_tokens
    WHERE id = $1 AND kind = 'code' AND secret_sha256 = $2 AND expires_at > now() AND revoked_at IS NULL
    RETURNING name, accounts, commands
)
INSERT INTO kommo.access_tokens (id, kind, name, accounts, commands, secret_sha256, expires_at)
SELECT $3, 'session', name, accounts, commands, $4, now() + make_interval(secs => $5) FROM used
RETURNING accounts
"""

_SWEEP = "DELETE FROM kommo.access_tokens WHERE kind IN ('session', 'code') AND expires_at < now() - interval '1 day'"


@dataclass(frozen=True, slots=True)
class _Known:
    secret_sha256: bytes
    accounts: Accounts
    commands: bool
    until: float


class Access:
    """Checks credentials, remembering each look-up for REMEMBERED_SECONDS. Any use may raise DatabaseAway."""

    def __init__(self, database: Connection) -> None:
        self._database = database
        self._known: OrderedDict[tuple[str, Kind], _Known] = OrderedDict()

    async def grant(self, text: str, kind: Kind) -> Grant | None:
        """Return what a credential of this kind allows, or None where it is not valid (any more)."""
        name, secret = _parts(text)
        known = await self._look_up(name, kind)
        right = hmac.compare_digest(_hash(secret), known.secret_sha256)
        return Grant(name, kind, known.accounts, known.commands) if right else None

    async def _look_up(self, name: str, kind: Kind) -> _Known:
        key, now = (name, kind), time.monotonic()
        known = self._known.get(key)
        if known is None or known.until < now:
            rows = await self._database.fetch(_LOOK_UP, name, kind)
            known = _Known(_NO_HASH, (), False, now + REMEMBERED_SECONDS)
            for row in rows:
                accounts = None if row["accounts"] is None else tuple(row["accounts"])
                known = _Known(row["secret_sha256"], accounts, row["commands"], now + REMEMBERED_SECONDS)
            self._known[key] = known
        self._known.move_to_end(key)
        while len(self._known) > _REMEMBERED_MOST:
            self._known.popitem(last=False)
        return known

    async def trade(self, code: str) -> Credential | None:
        """Use a one-time code up and return the session it becomes, or None where it is not valid."""
        name, secret = _parts(code)
        session = new_credential()
        rows = await self._database.fetch(
            _TRADE, name, _hash(secret), session.id, session.secret_sha256, float(SESSION_SECONDS)
        )
        if not rows:
            return None
        await self._database.fetch(_SWEEP)
        return session

    async def end(self, grant: Grant) -> None:
        """End a session now."""
        self._known.pop((grant.id, grant.kind), None)
        await self._database.fetch("DELETE FROM kommo.access_tokens WHERE id = $1 AND kind = 'session'", grant.id)


class Attempts:
    """Counts failed codes by client address: a few a minute are people, more is somebody trying."""

    def __init__(self, most: int = 10, seconds: float = 60.0, addresses: int = 1024) -> None:
        self._most, self._seconds, self._addresses = most, seconds, addresses
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()  # count, and when it is forgotten

    def check(self, address: str) -> None:
        """Raise Problem 429 where this address failed too often."""
        count, until = self._failed.get(address, (0, 0.0))
        left = until - time.monotonic()
        if count >= self._most and left > 0:
            raise Problem(
                429,
                "too many wrong codes from this address; wait a minute",
                error_class=ErrorClass.RATE_LIMIT,
                headers={"Retry-After": str(int(left) + 1)},
            )

    def failed(self, address: str) -> None:
        """Count a failure."""
        now = time.monotonic()
        count, until = self._failed.pop(address, (0, 0.0))
        self._failed[address] = (count + 1, until) if until > now else (1, now + self._seconds)
        while len(self._failed) > self._addresses:
            self._failed.popitem(last=False)
