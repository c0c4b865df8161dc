"""The HTTP door of the simulated Kommo: /api/v4/..., /oauth2/access_token and the simulator's own /_simulator/...

A bare ASGI app. Every account has the same address; the token says whose request it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from time import monotonic
from typing import Any, Final

import orjson

from runtime.asgi import Receive, Scope, Send
from simulator.api import control
from simulator.api.catalogue import FIRST_USER
from simulator.api.connection import hang, left, read, reset
from simulator.api.errors import (
    Refused,
    bare,
    blocked,
    forbidden,
    not_allowed,
    not_found,
    server_error,
    too_many,
    unauthorized,
    unpaid,
    wrong_body,
)
from simulator.api.kommo import Asked, Kommo, Outcome
from simulator.api.oauth import Bearer
from simulator.api.queries import nested
from simulator.world import USER_NAMES

HAL: Final = b"application/hal+json"

_API: Final = "/api/v4/"
_TOKEN: Final = "/oauth2/access_token"  # noqa: S105 a path
_HALF_SECONDS: Final = 0.02  # between half of an answer and a reset: what is still unsent would be lost with it

Reply = tuple[int, bytes, bytes]
"""Status, content type and body."""


class Door:
    """The ASGI app."""

    def __init__(self, kommo: Kommo) -> None:
        self._kommo = kommo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        try:
            if path.startswith("/_simulator"):
                await _send(send, *control.answer(self._kommo, scope, await read(receive)))
            else:
                await _Exchange(self._kommo, scope, receive, send).answer()
        except Refused as refused:
            await _send(send, refused.status, refused.content_type, refused.body)
        except ConnectionError:
            self._kommo.answers["gone"] += 1


class _Exchange:
    """One request of a client, its answer, and what goes wrong with it."""

    def __init__(self, kommo: Kommo, scope: Scope, receive: Receive, send: Send) -> None:
        self._kommo = kommo
        self._scope = scope
        self._receive = receive
        self._send = send
        self._at = kommo.clock.now()
        self._method: str = scope["method"]
        self._path: str = scope["path"]
        self._headers = dict(scope["headers"])
        self._address: str = (scope.get("client") or ("",))[0]
        self._account = 0
        self._request: int | None = None
        self._body: bytes | None = None

    async def answer(self) -> None:
        """Answer, or not."""
        strike: str | None = None
        try:
            self._kommo.gate.admit_address(self._address, monotonic())
            if self._path == _TOKEN:
                strike, reply = await self._token()
            elif self._path.startswith(_API):
                strike, reply = await self._api()
            else:
                raise not_found()
        except Refused as refused:
            reply = refused.status, refused.content_type, refused.body
        except _Broken as broken:
            self._kommo.answers[broken.how] += 1
            return
        if self._body is None and self._headers.get(b"content-length", b"0") != b"0":
            with contextlib.suppress(Refused):  # unread, it would show the client a reset instead of the refusal
                await self._read()
        await self._deliver(strike, reply)

    async def _token(self) -> tuple[str | None, Reply]:
        """POST /oauth2/access_token."""
        if self._method != "POST":
            raise not_allowed()
        body = _json(await self._read())
        if not isinstance(body, dict):
            raise wrong_body("Request body must be an object")
        kommo, strike = self._kommo, None
        self._account = kommo.oauth.account_of(body)
        trouble = kommo.trouble.of(self._account)
        if trouble.oauth or trouble.settled:
            strike = kommo.trouble.strike(self._account, self._method)
            await self._before(strike)
        told = kommo.oauth.exchange(body)
        return strike, (200, b"application/json", orjson.dumps(told))

    async def _api(self) -> tuple[str | None, Reply]:
        """Anything under /api/v4/."""
        kommo = self._kommo
        bearer = self._bearer()
        self._account = bearer.account
        strike = kommo.trouble.strike(self._account, self._method)
        await self._before(strike)
        kommo.gate.admit(self._account, self._address, monotonic())
        raw = await self._read()
        asked = Asked(
            account=self._account,
            user=self._user(bearer),
            method=self._method,
            path=self._path[len(_API) :],
            query=nested(self._scope["query_string"].decode("latin-1")) if self._scope["query_string"] else {},
            body=_json(raw) if self._method in ("POST", "PATCH") else None,
            at=self._at,
            href=self._href(),
        )
        outcome: Outcome = kommo.carry_out(asked, strike)
        self._request = outcome.request
        if outcome.body is None:
            return strike, (204, HAL, b"")
        return strike, (200, HAL, orjson.dumps(outcome.body))

    async def _before(self, strike: str | None) -> None:
        """Let happen what strikes a request before anything is done. Raises Refused and _Broken."""
        kommo, mischief = self._kommo, self._kommo.trouble.of(self._account)
        if strike == "resets_before":
            await reset(self._receive)
            raise _Broken("reset")
        if strike == "hung_before":
            await self._read()
            await hang(self._receive, mischief.hang_seconds, kommo.closing)
            await reset(self._receive)
            raise _Broken("hung")
        if strike == "too_many":
            kommo.gate.exceeded(self._address, monotonic())
            raise too_many(kommo.gate.limits.retry_after, mischief.too_many_json)
        if strike == "server_errors":
            raise server_error(uuid.uuid4().hex)
        if strike in _REFUSALS:
            raise _REFUSALS[strike]()

    async def _deliver(self, strike: str | None, reply: Reply) -> None:
        """Send an answer, or what is made of it."""
        kommo, request = self._kommo, self._request
        status, content_type, body = reply
        if latency := kommo.trouble.latency(self._account):
            await asyncio.sleep(latency)
        how = str(status)
        if strike in ("answers_lost", "hung_after"):
            if strike == "hung_after":
                await hang(self._receive, kommo.trouble.of(self._account).hang_seconds, kommo.closing)
            await reset(self._receive)
            how, delivered = ("reset" if strike == "answers_lost" else "hung"), False
        elif strike == "resets_mid_answer" and body:
            await _send_half(self._send, status, content_type, body)
            await reset(self._receive)
            how, delivered = "reset", False
        else:
            if strike == "server_errors_after":
                status, content_type, body = _reply(server_error(uuid.uuid4().hex))
            elif strike == "gateway_timeouts_after":
                status, content_type, body = _reply(bare(504))
            elif strike == "malformed" and body:
                body = body[: len(body) // 2]
            elif strike == "thin" and body:
                body = b"{}"
            delivered, how = not left(self._receive), str(status)
            await _send(self._send, status, content_type, body)
        kommo.answers[how] += 1
        if request is not None:
            kommo.ledger.delivered(request, delivered)

    async def _read(self) -> bytes:
        if self._body is None:
            self._body = await read(self._receive)
        return self._body

    def _bearer(self) -> Bearer:
        scheme, _, token = self._headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthorized()
        return self._kommo.oauth.bearer(token.strip())

    def _user(self, bearer: Bearer) -> int:
        """Return who acts: an admin's token may name another user by X-Context-User-ID."""
        named = self._headers.get(b"x-context-user-id")
        if named is None or bearer.user != FIRST_USER:
            return bearer.user
        if not named.isdigit() or int(named) not in USER_NAMES:
            raise forbidden()
        return int(named)

    def _href(self) -> str:
        return f"{self._scope['scheme']}://{self._headers.get(b'host', b'localhost').decode('latin-1')}/api/v4"


class _Broken(Exception):
    """The connection is no more."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


_REFUSALS: Final = {
    "gateway_timeouts": lambda: bare(504),
    "unavailable": lambda: bare(503),
    "down": lambda: bare(503),
    "blocked": blocked,
    "unauthorized": unauthorized,
    "unpaid": unpaid,
    "forbidden": forbidden,
}


def _reply(refused: Refused) -> Reply:
    return refused.status, refused.content_type, refused.body


def _json(raw: bytes) -> Any:
    if not raw:
        return None
    try:
        return orjson.loads(raw)
    except ValueError:
        raise wrong_body("Syntax error") from None


def _head(status: int, content_type: bytes, body: bytes) -> dict[str, Any]:
    headers = [(b"content-length", str(len(body)).encode())] if status != 204 else []
    if body:
        headers.append((b"content-type", content_type))
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _send(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    await send(_head(status, content_type, body))
    await send({"type": "http.response.body", "body": body})


async def _send_half(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    await send(_head(status, content_type, body))
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    await asyncio.sleep(_HALF_SECONDS)
