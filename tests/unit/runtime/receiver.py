"""A small receiver of Sentry's envelopes: https://develop.sentry.dev/sdk/data-model/envelopes/."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef0123456789abcdef"


class Receiver:
    """What was sent to it: `events` as they were meant, `raw` all of it as text. `hangs` never answers."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.events: list[dict[str, Any]] = []
        self.raw = ""
        self.requests = 0
        self.ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.requests += 1
                if hangs:
                    receiver.ended.wait()
                    return
                assert self.path == "/api/7/envelope/"
                assert f"sentry_key={KEY}" in self.headers["x-sentry-auth"]
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                receiver.take(body)
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.dsn = f"http://{KEY}@127.0.0.1:{self.server.server_port}/7"

    def take(self, body: bytes) -> None:
        self.raw += body.decode()
        _, _, rest = body.partition(b"\n")
        while rest.strip():
            head, _, rest = rest.partition(b"\n")
            item = json.loads(head)
            length = item.get("length", rest.find(b"\n"))
            payload, rest = rest[:length], rest[length:].lstrip(b"\n")
            assert item["type"] == "event", item
            self.events.append(json.loads(payload))


@contextlib.contextmanager
def receiving(*, hangs: bool = False) -> Iterator[Receiver]:
    receiver = Receiver(hangs=hangs)
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.ended.set()
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join()
