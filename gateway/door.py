"""POST /webhooks/{token}: the raw body to Kafka, acknowledged by all in-sync replicas, then 200.

A bare ASGI app: this door does one thing, and Kommo waits 2 s for it. It interprets nothing; what it cannot
understand it stores all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gateway.answers import accept, not_now, refuse
from gateway.intake import Intake
from gateway.tokens import Keyring
from gateway.watch import SLOW_SECONDS, AnswerWatch
from runtime.health import Receive, Scope, Send
from runtime.metrics import ANSWERS
from runtime.problem import Problem
from schemas.delivery import MAX_BODY_BYTES
from schemas.errors import ErrorClass
from streams.accounts import Accounts

_PATH = "/webhooks/"

# A body that is too large is read to its end within reason, and thrown away: a client that is still sending when the
# connection closes sees a reset instead of the answer.
_MAX_DRAINED_BYTES = 8 * MAX_BODY_BYTES

_OK, _GONE, _FAULT = 200, 499, 500


class Door:
    """The ASGI app. `ready` says whether revocations are known; `watch` is told of answers that Kommo calls invalid."""

    def __init__(
        self,
        keys: Keyring,
        accounts: Accounts,
        intake: Intake,
        watch: AnswerWatch,
        *,
        ready: Callable[[], bool],
        body_seconds: float,
    ) -> None:
        self._keys = keys
        self._accounts = accounts
        self._intake = intake
        self._watch = watch
        self._ready = ready
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        begun = time.monotonic()
        account_id, status = 0, _FAULT  # whatever else is raised, the server answers 500
        try:
            account_id, generation = self._genuine(scope)
            await self._take(account_id, generation, scope, receive)
            await accept(send)
            status = _OK
        except Problem as problem:
            status = problem.status
            await refuse(scope, send, problem)
        except _Gone:
            status = _GONE
            ANSWERS.labels("499").inc()
        finally:
            seconds = time.monotonic() - begun
            # A 404 after a genuine signature is a revoked address: Kommo may well disable that one.
            if (status != _OK or seconds > SLOW_SECONDS) and account_id and status != 404:
                self._watch.bad(account_id, status, seconds)

    def _genuine(self, scope: Scope) -> tuple[int, int]:
        """Return account and generation of the address. Raises Problem where no such address was ever given out."""
        path: str = scope["path"]
        if not path.startswith(_PATH):
            raise _not_found()
        if scope["method"] != "POST":
            raise Problem(405, "a webhook is a POST", headers={"allow": "POST"})
        token = self._keys.verify(path[len(_PATH) :].removesuffix("/"))
        if token is None:
            raise _not_found()
        return token.account_id, token.generation

    async def _take(self, account_id: int, generation: int, scope: Scope, receive: Receive) -> None:
        if not self._ready():
            raise not_now("which addresses are revoked is not known yet")
        known = self._accounts.get(account_id)
        if generation < known.lowest_generation or known.closed:
            raise _not_found()
        headers = dict(scope["headers"])
        body = await self._body(receive, headers.get(b"content-length"))
        await self._intake.take(scope, headers, account_id, body)

    async def _body(self, receive: Receive, length: bytes | None) -> bytes:
        if length is not None and length.isdigit() and (len(length) > 12 or int(length) > _MAX_DRAINED_BYTES):
            raise _too_large()
        try:
            async with asyncio.timeout(self._body_seconds):
                return await _whole(receive)
        except TimeoutError:
            detail = f"the body did not come within {self._body_seconds:g} s"
            raise Problem(408, detail, headers={"connection": "close"}) from None


class _Gone(Exception):
    """The client left before its body was whole."""


async def _whole(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        part: bytes = message.get("body", b"")
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        elif size > _MAX_DRAINED_BYTES:
            raise _too_large()
        else:
            parts.clear()
        if not message.get("more_body"):
            if size > MAX_BODY_BYTES:
                raise _too_large()
            return b"".join(parts)


def _not_found() -> Problem:
    return Problem(404, "no such webhook address", error_class=ErrorClass.NOT_FOUND)


def _too_large() -> Problem:
    return Problem(413, f"a body is at most {MAX_BODY_BYTES} bytes", headers={"connection": "close"})
