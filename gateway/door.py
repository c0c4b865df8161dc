"""POST /webhooks/{token}: the raw body to Kafka, acknowledged by all in-sync replicas, then 200.

A bare ASGI app: this door does one thing, and Kommo waits 2 s for it. It interprets nothing; what it cannot
understand it stores all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.errors import KafkaError, KafkaTimeoutError

from gateway.tokens import Keyring
from runtime.health import Receive, Scope, Send
from runtime.logs import logger
from runtime.metrics import ANSWER_SECONDS, ANSWERS, DELIVERIES, DELIVERY_BYTES
from runtime.problem import CONTENT_TYPE, Problem
from schemas.delivery import MAX_BODY_BYTES, Delivery
from schemas.errors import ErrorClass
from schemas.identity import new_delivery_id
from streams.accounts import Accounts

log = logger(__name__)

_PATH = "/webhooks/"
_ACCEPTED = ANSWERS.labels("200")

# A body that is too large is read to its end within reason, and thrown away: a client that is still sending when the
# connection closes sees a reset instead of the answer.
_MAX_DRAINED_BYTES = 8 * MAX_BODY_BYTES

Store = Callable[[Delivery], Awaitable[Any]]


class Door:
    """The ASGI app. `store` returns a future of Kafka's acknowledgement; `ready` says whether revocations are known."""

    def __init__(
        self,
        keys: Keyring,
        accounts: Accounts,
        store: Store,
        *,
        ready: Callable[[], bool],
        ack_seconds: float,
        body_seconds: float,
    ) -> None:
        self._keys = keys
        self._accounts = accounts
        self._store = store
        self._ready = ready
        self._ack_seconds = ack_seconds
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            status = await self._take(scope, receive)
        except Problem as problem:
            await _refuse(send, problem)
            ANSWERS.labels(str(problem.status)).inc()
        except _Gone:
            ANSWERS.labels("499").inc()
        else:
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            _ACCEPTED.inc()

    async def _take(self, scope: Scope, receive: Receive) -> int:
        path: str = scope["path"]
        if not path.startswith(_PATH):
            raise _not_found()
        if scope["method"] != "POST":
            raise Problem(405, "a webhook is a POST", headers={"allow": "POST"})
        if not self._ready():
            raise _not_now("which addresses are revoked is not known yet")
        token = self._keys.verify(path[len(_PATH) :].removesuffix("/"))
        if token is None or not self._valid(token.account_id, token.generation):
            raise _not_found()
        headers = dict(scope["headers"])
        body = await self._body(receive, headers.get(b"content-length"))
        start = time.monotonic()
        client = scope.get("client")
        delivery = Delivery(
            token.account_id,
            new_delivery_id(),
            time.time_ns() // 1000,
            body,
            content_type=_text(headers.get(b"content-type")),
            request_id=_text(headers.get(b"x-amocrm-requestid")),
            user_agent=_text(headers.get(b"user-agent")),
            remote_address=client[0] if client else "",
        )
        await self._acknowledged(delivery)
        ANSWER_SECONDS.observe(time.monotonic() - start)
        DELIVERIES.inc()
        DELIVERY_BYTES.inc(len(body))
        log.debug("accepted", correlation_id=delivery.delivery_id, bytes=len(body))
        return 200

    def _valid(self, account_id: int, generation: int) -> bool:
        known = self._accounts.get(account_id)
        return generation >= known.lowest_generation and not known.closed

    async def _body(self, receive: Receive, length: bytes | None) -> bytes:
        if length is not None and length.isdigit() and (len(length) > 12 or int(length) > _MAX_DRAINED_BYTES):
            raise _too_large()
        try:
            async with asyncio.timeout(self._body_seconds):
                return await _whole(receive)
        except TimeoutError:
            detail = f"the body did not come within {self._body_seconds:g} s"
            raise Problem(408, detail, headers={"connection": "close"}) from None

    async def _acknowledged(self, delivery: Delivery) -> None:
        try:
            async with asyncio.timeout(self._ack_seconds):
                await (await self._store(delivery))
        except (TimeoutError, KafkaTimeoutError):
            log.warning("not acknowledged in time", correlation_id=delivery.delivery_id, seconds=self._ack_seconds)
            raise _not_now("Kafka did not acknowledge the delivery in time") from None
        except (KafkaError, OSError) as error:
            log.warning("not acknowledged", correlation_id=delivery.delivery_id, error=repr(error))
            raise _not_now("Kafka did not take the delivery") from None


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


def _not_now(detail: str) -> Problem:
    return Problem(503, detail, error_class=ErrorClass.EXTERNAL_SERVICE, headers={"retry-after": "5"})


def _text(value: bytes | None) -> str:
    return value.decode("latin-1") if value else ""


async def _refuse(send: Send, problem: Problem) -> None:
    body = problem.body()
    headers = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
