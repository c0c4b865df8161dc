"""The simulator's own door, /_simulator/...: what was done, what goes wrong, tokens, the clock.

It asks nobody who they are: let it listen where only its users are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from runtime.asgi import Scope
from simulator.api.catalogue import FIRST_USER
from simulator.api.kommo import Kommo
from simulator.api.mischief import MischiefError, read_mischief

Reply = tuple[int, bytes, bytes]

_JSON: Final = b"application/json"
_LINES: Final = b"application/x-ndjson"
_TEXT: Final = b"text/plain; charset=utf-8"

HELP: Final = """\
GET  /_simulator/ledger[?account=ID][&after=NUMBER]   every effect made, one a line as JSON
GET  /_simulator/counts                               requests by what they were answered, and webhooks
GET  /_simulator/mischief                             what goes wrong
PUT  /_simulator/mischief[?account=ID]                {"answers_lost": 0.1} for one account or all; {} ends it
POST /_simulator/token?account=ID[&user=ID][&seconds=N]   a long-lived token
POST /_simulator/code?account=ID[&user=ID]            an authorization code, and the integration it is for
POST /_simulator/revoke?account=ID                    all tokens of an account end
PUT  /_simulator/clock                                {"advance": SECONDS}
POST /_simulator/unblock                              blocked addresses are let in again
"""


class _Wrong(Exception):
    """What is asked for cannot be; the message says why."""


class _Told:
    """A request to this door."""

    def __init__(self, kommo: Kommo, query: dict[str, list[str]], body: bytes) -> None:
        self.kommo = kommo
        self._query = query
        self._body = body

    def number(self, name: str, default: int | None = None) -> int:
        """Return a number of the query."""
        found = self.number_or_none(name)
        if found is None:
            found = default
        if found is None:
            raise _Wrong(f"say {name}=NUMBER in the address")
        return found

    def number_or_none(self, name: str) -> int | None:
        """Return a number of the query, if it has it."""
        found = self._query.get(name, [""])[-1]
        if not found:
            return None
        if not (found.isascii() and found.isdecimal()):
            raise _Wrong(f"{name}={found} is no number")
        return int(found)

    def json(self) -> Any:
        """Return the body."""
        try:
            return orjson.loads(self._body or b"{}")
        except ValueError:
            raise _Wrong("the body is no JSON") from None


def answer(kommo: Kommo, scope: Scope, body: bytes) -> Reply:
    """Return status, content type and body of the answer."""
    name = scope["path"].removeprefix("/_simulator").strip("/")
    handler = _HANDLERS.get((scope["method"], name))
    if handler is None:
        return 404 if name else 200, _TEXT, HELP.encode()
    try:
        return handler(_Told(kommo, parse_qs(scope["query_string"].decode("latin-1")), body))
    except (_Wrong, MischiefError) as error:
        return 400, _JSON, orjson.dumps({"detail": str(error)})


def _ledger(told: _Told) -> Reply:
    lines = told.kommo.ledger.lines(told.number_or_none("account"), told.number("after", 0))
    return 200, _LINES, b"".join(lines)


def _counts(told: _Told) -> Reply:
    sent = told.kommo.postman.counts
    webhooks = {"sent": sent.sent, "accepted": sent.accepted, "given_up": sent.given_up}
    return _json({"requests": dict(told.kommo.answers), "webhooks": webhooks})


def _mischief(told: _Told) -> Reply:
    return _json(told.kommo.trouble.told())


def _set_mischief(told: _Told) -> Reply:
    told.kommo.trouble.set(read_mischief(told.json()), told.number_or_none("account"))
    return _mischief(told)


def _token(told: _Told) -> Reply:
    seconds = told.number_or_none("seconds")
    account, user = told.number("account"), told.number("user", FIRST_USER)
    token = told.kommo.token(account, user) if seconds is None else told.kommo.token(account, user, seconds)
    return _json({"token": token})


def _code(told: _Told) -> Reply:
    own = told.kommo.oauth.integration
    integration = {"client_id": own.client_id, "client_secret": own.client_secret, "redirect_uri": own.redirect_uri}
    return _json({"code": told.kommo.code(told.number("account"), told.number("user", FIRST_USER)), **integration})


def _revoke(told: _Told) -> Reply:
    told.kommo.oauth.revoke(told.number("account"))
    return _json({})


def _clock(told: _Told) -> Reply:
    asked = told.json()
    seconds = asked.get("advance") if isinstance(asked, dict) else None
    if not isinstance(seconds, int | float) or seconds < 0:
        raise _Wrong('say {"advance": SECONDS}')
    told.kommo.clock.advance(seconds)
    return _json({"now": told.kommo.clock.now()})


def _unblock(told: _Told) -> Reply:
    told.kommo.gate.unblock()
    return _json({})


def _json(value: Any) -> Reply:
    return 200, _JSON, orjson.dumps(value)


_HANDLERS: Final[dict[tuple[str, str], Callable[[_Told], Reply]]] = {
    ("GET", "ledger"): _ledger,
    ("GET", "counts"): _counts,
    ("GET", "mischief"): _mischief,
    ("PUT", "mischief"): _set_mischief,
    ("POST", "token"): _token,
    ("POST", "code"): _code,
    ("POST", "revoke"): _revoke,
    ("PUT", "clock"): _clock,
    ("POST", "unblock"): _unblock,
}
