"""A server that does on the wire exactly what a test says, and keeps what it got."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Deed = Callable[["Server", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Got:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    at: float
    connection: int

    @property
    def token(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass
class Server:
    """Does the deeds of its list in their order, then `otherwise`."""

    base_url: str
    deeds: list[Deed] = field(default_factory=list)
    otherwise: Deed | None = None
    got: list[Got] = field(default_factory=list)
    connections: int = 0
    by_path: dict[str, list[Deed]] = field(default_factory=dict)

    def next(self, target: str) -> Deed:
        path = target.partition("?")[0]
        if self.by_path.get(path):
            return self.by_path[path].pop(0)
        if self.deeds:
            return self.deeds.pop(0)
        assert self.otherwise is not None, f"nothing is left to do for {target}"
        return self.otherwise

    def of(self, path: str) -> list[Got]:
        return [got for got in self.got if got.target.partition("?")[0] == path]


def answer(status: int, body: Any = None, headers: dict[str, str] | None = None, *, delay: float = 0) -> Deed:
    """Answer; a str or bytes body as it is, anything else as JSON, None without a body."""

    async def deed(_server: Server, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delay)
        content = _bytes(body)
        lines = {"Content-Length": str(len(content)), "Content-Type": "application/hal+json"} | (headers or {})
        if status == 204:
            del lines["Content-Length"]
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + content)
        await writer.drain()

    return deed


def _bytes(body: Any) -> bytes:
    if body is None or isinstance(body, bytes):
        return body or b""
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def raw(*parts: bytes, every: float = 0.0, end: str = "close") -> Deed:
    """Write these bytes; then close, reset, or hang."""

    async def deed(_server: Server, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(every)
        if end == "hang":
            await asyncio.sleep(3600)
        if end == "reset":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        raise ConnectionResetError

    return deed


def held(gate: asyncio.Event, deed: Deed) -> Deed:
    """Do a deed once the gate is open."""

    async def waiting(server: Server, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await deed(server, writer)

    return waiting


hang = raw(end="hang")
reset = raw(end="reset")
close = raw()


@contextlib.asynccontextmanager
async def serving(
    *deeds: Deed, otherwise: Deed | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Run the server while the context lasts."""
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        server.connections += 1
        number = server.connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                at = time.monotonic()
                method, target, _ = head[0].split(" ")
                lines = (line.partition(": ") for line in head[1:] if line)
                headers = {name.lower(): value for name, _, value in lines}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                server.got.append(Got(method, target, headers, body, at, number))
                await server.next(target)(server, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            with contextlib.suppress(Exception):
                writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    server = Server(f"http{'s' if tls else ''}://127.0.0.1:{port}", list(deeds), otherwise)
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def jwt(**claims: Any) -> str:
    """A JSON Web Token of these claims; its signature is nobody's."""
    parts = ({"typ": "JWT", "alg": "RS256"}, claims)
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{text}.c2lnbmF0dXJlLW9mLW5vYm9keQ"
