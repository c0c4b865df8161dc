"""A gateway's stand-in."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator

from runtime.health import ASGIApp, Receive, Scope, Send
from runtime.process import serving

ACCOUNT = 16700680
TOKEN = "k1.16700680.1.c2lnbmF0dXJl"


class Door:
    """A gateway's stand-in that keeps what it gets and answers as it is told; nothing while it is `held`."""

    def __init__(
        self,
        status: Callable[[int], int] = lambda _: 200,
        seconds: float = 0.0,
        by_body: Callable[[bytes], int] | None = None,
        held: bool = False,
    ) -> None:
        self._open = asyncio.Event()
        if not held:
            self._open.set()
        self.bodies: list[bytes] = []
        self.headers: list[dict[bytes, bytes]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._status = status
        self._by_body = by_body
        self._seconds = seconds

    def release(self) -> None:
        """Answer what waits."""
        self._open.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await self._answer(scope, receive, send)
        finally:
            self._at_once -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.headers.append(dict(scope["headers"]))
        self.bodies.append(body)
        status = self._status(len(self.bodies)) if self._by_body is None else self._by_body(body)
        await asyncio.sleep(self._seconds)
        await self._open.wait()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def standing(door: ASGIApp) -> AsyncIterator[str]:
    async with serving(door, "127.0.0.1", 0, "a port") as port:
        yield f"http://127.0.0.1:{port}/webhooks/{TOKEN}"


@contextlib.contextmanager
def standing_beside(door: ASGIApp) -> Iterator[str]:
    """The same in a thread of its own, for a command that runs in this one."""
    found: list[str] = []
    stands, stop = threading.Event(), threading.Event()

    async def stand() -> None:
        async with standing(door) as url:
            found.append(url)
            stands.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(stand(),))
    thread.start()
    try:
        assert stands.wait(60)
        yield found[0]
    finally:
        stop.set()
        thread.join()
