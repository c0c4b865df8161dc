"""The live stream: one look at the projections' positions for all clients, and whole first pages when they moved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import orjson

from dashboard.database import DatabaseAway
from dashboard.pages import Pages
from projections.queries import ACTIVITY, RECENT_UPDATES, Accounts, Connection, View, progress
from runtime.logs import logger
from runtime.problem import Problem
from schemas.errors import ErrorClass

log = logger(__name__)

ROWS = 50
MOST_CLIENTS = 200
POLL_SECONDS = 0.2
HEARTBEAT_SECONDS = 15.0
_REREAD_SECONDS = 15.0  # what changes without a position (an erasure, a switched version) shows this soon
_CHECK_SECONDS = 2.0
_VIEWS: dict[str, View] = {"activity": ACTIVITY, "recent_updates": RECENT_UPDATES}
_STATUS = "status"


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


class Client:
    """One open stream. It holds the latest of each kind of message only, however slowly it is read."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self._messages: dict[str, bytes] = {}
        self._news = asyncio.Event()

    def offer(self, name: str, data: bytes) -> None:
        """Put a message in place of an unread one of its kind."""
        self._messages[name] = data
        self._news.set()

    def wake(self) -> None:
        """End a wait()."""
        self._news.set()

    async def wait(self, seconds: float) -> None:
        """Return when there is something to take, or the time is over."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def take(self, *, pages: bool) -> list[bytes]:
        """Return and forget the messages; without `pages` only those that tell nothing of any account."""
        self._news.clear()
        names = [name for name in self._messages if pages or name == _STATUS]
        return [_event(name, self._messages.pop(name)) for name in names]


class Live:
    """All open streams of this process, and the poll that feeds them while there are any."""

    def __init__(self, database: Connection, pages: Pages) -> None:
        self._database = database
        self._pages = pages
        self._clients: set[Client] = set()
        self._shown: dict[tuple[Accounts, str], bytes] = {}
        self._positions: dict[str, Any] = {}
        self._reread_at = 0.0
        self._status = b""
        self._wake = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def clients(self) -> int:
        """How many streams are open."""
        return len(self._clients)

    def attach(self, accounts: Accounts) -> Client:
        """Open a stream of these accounts' pages. Raises Problem 503 where no more fit."""
        if self._closed or len(self._clients) >= MOST_CLIENTS:
            raise Problem(
                503,
                "the dashboard is stopping"
                if self._closed
                else "too many live streams are open; read the lists instead",
                error_class=ErrorClass.RATE_LIMIT,
                headers={"Retry-After": "5"},
            )
        client = Client(accounts)
        self._clients.add(client)
        if self._status:
            client.offer(_STATUS, self._status)
        for name in _VIEWS:
            if (accounts, name) in self._shown:
                client.offer(name, self._shown[accounts, name])
        self._wake.set()
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        return client

    def detach(self, client: Client) -> None:
        """Close a stream; what only it needed is forgotten."""
        self._clients.discard(client)
        wanted = {client.accounts for client in self._clients}
        self._shown = {key: body for key, body in self._shown.items() if key[0] in wanted}

    def close(self) -> None:
        """End all streams, because the process ends."""
        self._closed = True
        for client in self._clients:
            client.wake()

    async def stream(self, client: Client, allowed: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
        """Yield server-sent events until the process ends or `allowed` says no (asked every 2 s and before pages).

        While the database is away nobody can be asked: then the stream stays, and shows no page.
        """
        yield b"retry: 1000\n: kommo-streams\n\n"
        loop = asyncio.get_running_loop()
        beat = loop.time() + HEARTBEAT_SECONDS
        while not self._closed:
            await client.wait(_CHECK_SECONDS)
            try:
                asked = True
                if not await allowed():
                    return
            except DatabaseAway:
                asked = False
            for message in client.take(pages=asked):
                yield message
                beat = loop.time() + HEARTBEAT_SECONDS
            if loop.time() >= beat:
                yield b": still here\n\n"
                beat = loop.time() + HEARTBEAT_SECONDS

    async def _poll(self) -> None:
        self._positions, self._reread_at = {}, 0.0
        while self._clients and not self._closed:
            self._wake.clear()
            try:
                await self._look()
                self._say(True, "")
            except DatabaseAway as error:
                self._say(False, error.why)
            except Exception:  # whatever it is, the streams must go on
                log.exception("reading for the live streams failed")
                self._say(False, "the dashboard failed to read; see its log")
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        # The positions first: what is committed after this look is seen by the next one.
        found = await progress(self._database)
        positions = {name: found.get((view.projection, view.version)) for name, view in _VIEWS.items()}
        due = now >= self._reread_at
        moved = [n for n in _VIEWS if due or n not in self._positions or positions[n] != self._positions[n]]
        failed, scopes = False, sorted({client.accounts for client in self._clients}, key=str)
        for accounts in scopes:
            try:
                for name in _VIEWS:
                    if name in moved or (accounts, name) not in self._shown:
                        await self._show(accounts, name)
                failed = False
            except DatabaseAway:
                # One tenant's page that takes too long must not keep the others from theirs; two in a row: an outage.
                if failed or len(scopes) == 1:
                    raise
                failed = True
                for name in _VIEWS:
                    self._shown.pop((accounts, name), None)  # so the next look tries again
        self._positions = positions
        if due:
            self._reread_at = now + _REREAD_SECONDS

    async def _show(self, accounts: Accounts, name: str) -> None:
        body = await self._pages.fresh(_VIEWS[name], accounts, ROWS)
        if self._shown.get((accounts, name)) != body:
            readers = [client for client in self._clients if client.accounts == accounts]
            if readers:
                self._shown[accounts, name] = body
            self._tell(readers, name, body)

    def _say(self, reading: bool, why: str) -> None:
        status = orjson.dumps({"reading": reading, "reason": why})
        if status != self._status:
            self._status = status
            self._tell(self._clients, _STATUS, status)

    @staticmethod
    def _tell(clients: Iterable[Client], name: str, data: bytes) -> None:
        for client in clients:
            client.offer(name, data)
