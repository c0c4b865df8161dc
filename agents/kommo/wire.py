"""One request and its answer on the wire: bounded in time and size, and certain of whether a byte has left.

A small connection pool for each account: one whose server hangs fills its own few connections, then its circuit opens,
and no other account waits for it. One pool for all would, besides, look at every connection for every request.
No redirect is followed, no proxy of the environment is used, TLS is verified.
"""

from __future__ import annotations

import asyncio
import ssl
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any

import httpx
from pydantic import SecretStr

from agents.kommo.problems import NOT_SENT, KommoError
from runtime.http_transport import HttpTransport
from runtime.settings import Settings

MOST_BYTES = 16 * 1024 * 1024  # of an answer's body, unpacked; a page of 250 leads has some 0.5 MB
CONNECTIONS = 8  # at once, to one account: no fewer
SPARE = 2  # for its tokens, when all others hang
CONNECT_SECONDS = 5.0
KEEP_SECONDS = 4.0  # shorter than any server keeps an idle connection: one it closes just now makes a write uncertain
UNUSED_SECONDS = 180.0  # longer than any exchange

BeforeSend = Callable[[], Awaitable[None]]

_STARTS = "http11.send_request_headers.started"


@dataclass(frozen=True, slots=True)
class Call:
    """A request. `what` names it without its query, for messages; secrets and bodies are in no repr."""

    account_id: int
    method: str
    what: str
    url: str = field(repr=False)
    content: bytes | None = field(default=None, repr=False)
    token: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose body was read whole; of a 4xx the body may be missing."""

    status: int
    headers: httpx.Headers = field(repr=False)
    content: bytes = field(repr=False)


class PoolPerAccount(httpx.AsyncBaseTransport):
    """A small connection pool for each account (`extensions["account"]`); those long unused are closed."""

    def __init__(self, context: ssl.SSLContext, connections: int) -> None:
        self._context = context
        self._limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_SECONDS
        )
        self._pools: dict[int, HttpTransport] = {}
        self._used: dict[int, float] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request through its account's pool."""
        account = request.extensions["account"]
        pool = self._pools.get(account)
        if pool is None:
            pool = self._pools[account] = HttpTransport(verify=self._context, trust_env=False, limits=self._limits)
        self._used.pop(account, None)
        self._used[account] = time.monotonic()  # at the end: the first is the longest unused
        await self._close_unused()
        return await pool.handle_async_request(request)

    async def _close_unused(self) -> None:
        oldest = next(iter(self._used))
        while self._used[oldest] < time.monotonic() - UNUSED_SECONDS:
            del self._used[oldest]
            await self._pools.pop(oldest).aclose()
            oldest = next(iter(self._used))

    async def aclose(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            await pool.aclose()


def connections_of(settings: Settings) -> int:
    """Return how many requests of one account may be under way at once."""
    return max(CONNECTIONS, settings.commands_per_account)


def open_http(settings: Settings, context: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """Return the HTTP client of a process, for all accounts."""
    return httpx.AsyncClient(
        transport=PoolPerAccount(context or httpx.create_ssl_context(), connections_of(settings) + SPARE),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # one account's are none of another's
        trust_env=False,
        follow_redirects=False,
    )


async def exchange(
    http: httpx.AsyncClient, call: Call, *, seconds: float, ready: BeforeSend | None = None
) -> Reply | KommoError:
    """Send a request and read its answer; what goes wrong is returned, not raised.

    So no frame of the HTTP library, whose variables hold the token, is in any traceback. `ready` is awaited when a
    connection is there and the next thing is the first byte; what it raises is raised here, and nothing has left.
    The whole answer must be there `seconds` after that.
    """
    departure = _Departure(ready, seconds)
    try:
        return await _exchange(http, call, departure)
    except BaseException as error:
        if error is not departure.error:
            raise
    # Without the frames that it came through.
    raise departure.error.with_traceback(departure.traceback)


class _Departure:
    """The moment at which a request leaves, and what is known from then on."""

    def __init__(self, ready: BeforeSend | None, seconds: float) -> None:
        self._ready = ready
        self.seconds = seconds
        self.left = False
        self.status: int | None = None
        self.limit: asyncio.Timeout | None = None
        self.error: Any = None
        self.traceback: TracebackType | None = None

    async def trace(self, event: str, _info: object) -> None:
        """Hear what httpcore does (its `trace` extension); raising here stops it."""
        if event != _STARTS:
            return
        try:
            if self._ready is not None:
                await self._ready()
        except BaseException as error:
            self.error, self.traceback = error, error.__traceback__
            raise
        self.left = True
        if self.limit is not None:
            self.limit.reschedule(asyncio.get_running_loop().time() + self.seconds)


class _Bearer(httpx.Auth):
    """Puts the token into the request at the last moment, so that no variable on the way shows it."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        yield request


class _Unreadable(Exception):
    """An answer's body is too long or wrongly packed."""


async def _exchange(http: httpx.AsyncClient, call: Call, departure: _Departure) -> Reply | KommoError:
    head: httpx.Headers | None = None
    try:
        async with asyncio.timeout(None) as departure.limit:
            request = http.build_request(
                call.method,
                call.url,
                content=call.content,
                headers=_HEADERS if call.content is None else _HEADERS_OF_JSON,
                timeout=httpx.Timeout(departure.seconds, connect=min(CONNECT_SECONDS, departure.seconds)),
                extensions={"trace": departure.trace, "account": call.account_id},
            )
            response = await http.send(request, auth=None if call.token is None else _Bearer(call.token), stream=True)
            departure.status, head = response.status_code, response.headers
            try:
                return Reply(response.status_code, response.headers, await _body(response))
            finally:
                await response.aclose()
    except (httpx.HTTPError, _Unreadable, TimeoutError) as error:
        status = departure.status
        # The status alone says that it was refused. (Of a 403 the body decides what it means.)
        if head is not None and status is not None and 400 <= status < 500 and status != 403:
            return Reply(status, head, b"")
        left = departure.left and not isinstance(error, NOT_SENT) and status != 403
        return KommoError.of_exception(call.what, error, left=left, status=status)


_HEADERS = {
    "Accept": "application/hal+json, application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": "kommo-streams",
}
_HEADERS_OF_JSON = {**_HEADERS, "Content-Type": "application/json"}


async def _body(response: httpx.Response) -> bytes:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise _Unreadable
    chunks = response.aiter_raw()
    return await (_plain(chunks) if encoding == "identity" else _unpacked(chunks))


async def _plain(chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MOST_BYTES:
            raise _Unreadable
    return bytes(body)


async def _unpacked(chunks: AsyncIterator[bytes]) -> bytes:
    """Unpack gzip by hand: httpx would unpack a small body into any amount of memory."""
    unpack = zlib.decompressobj(wbits=31)
    body = bytearray()
    try:
        async for chunk in chunks:
            body += unpack.decompress(chunk, MOST_BYTES + 1 - len(body))
            if len(body) > MOST_BYTES:
                raise _Unreadable
    except zlib.error:
        raise _Unreadable from None
    if body and not unpack.eof:
        raise _Unreadable
    return bytes(body)
