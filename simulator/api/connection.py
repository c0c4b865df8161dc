"""What an ASGI app cannot say: that the connection is reset, or that the client has gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any

from runtime.asgi import Receive
from simulator.api.errors import bare

MOST_BODY_BYTES = 8 * 1024 * 1024

_NO_LINGER = struct.pack("ii", 1, 0)


async def read(receive: Receive) -> bytes:
    """Return the whole body. Raises ConnectionError where the client leaves before, Refused (413) for too much."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client left")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > MOST_BODY_BYTES:
            raise bare(413)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def reset(receive: Receive) -> None:
    """Reset the connection (RST, not a regular end), and wait until the server has noticed."""
    transport = getattr(_exchange(receive), "transport", None)
    if transport is None:
        raise RuntimeError("connections can be reset under uvicorn only")
    connection = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
    await gone(receive)


async def gone(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def hang(receive: Receive, seconds: float, closing: asyncio.Event) -> None:
    """Wait so many seconds, or until the client has gone or the simulator closes."""
    tasks = [asyncio.ensure_future(gone(receive)), asyncio.ensure_future(closing.wait())]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def left(receive: Receive) -> bool:
    """Return whether the client has gone, as far as is known."""
    return bool(getattr(_exchange(receive), "disconnected", False))


def _exchange(receive: Receive) -> Any:
    """Return uvicorn's object of this request and its answer; `send` may be wrapped, this is its own."""
    return getattr(receive, "__self__", None)
