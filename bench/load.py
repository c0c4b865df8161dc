"""A load for HTTP doors: many keep-alive connections, as cheap as Python can make them, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from schemas.delivery import MAX_BODY_BYTES


class _Connection(asyncio.Protocol):
    def __init__(self, requests: list[bytes], counter: list[int], total: int, done: asyncio.Event) -> None:
        self._requests, self._counter, self._total, self._done = requests, counter, total, done
        self._next = 0
        self.bad = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if self._counter[0] >= self._total:
            if self._counter[1] >= self._total:
                self._done.set()
            return
        self._counter[0] += 1
        self._next = (self._next + 1) % len(self._requests)
        self._transport.write(self._requests[self._next])  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._counter[1] += 1  # answers of these doors are one packet
        if not data.startswith(b"HTTP/1.1 200"):
            self._counter[2] += 1
        self._send()


async def drive(host: str, port: int, requests: list[bytes], total: int, connections: int) -> tuple[float, int]:
    """Send `total` requests over the connections; return the seconds it took and how many were not answered 200."""
    counter, done = [0, 0, 0], asyncio.Event()
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(requests, counter, total, done), host, port)
    await done.wait()
    return time.perf_counter() - start, counter[2]


def request(path: str, body: bytes, host: str = "127.0.0.1") -> bytes:
    """Return one POST as bytes."""
    assert len(body) <= MAX_BODY_BYTES
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: amoCRM-Webhooks/3.0\r\n"
        f"content-type: application/x-www-form-urlencoded\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def main() -> None:
    """Read {port, paths, bodies, total, connections} from standard input, print {seconds, bad}."""
    task = json.load(sys.stdin)
    requests = [request(task["path"], body.encode("latin-1")) for body in task["bodies"]]
    seconds, bad = uvloop.run(drive("127.0.0.1", task["port"], requests, task["total"], task["connections"]))
    json.dump({"seconds": seconds, "bad": bad}, sys.stdout)


if __name__ == "__main__":
    main()
