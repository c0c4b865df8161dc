"""GET /livez, /readyz and /metrics: how a process is seen from outside."""

from __future__ import annotations

import time
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from runtime.asgi import ASGIApp as ASGIApp
from runtime.asgi import Receive as Receive
from runtime.asgi import Scope as Scope
from runtime.asgi import Send as Send
from runtime.problem import Problem, send_problem
from schemas.errors import ErrorClass

PATHS = frozenset({"/livez", "/readyz", "/metrics"})


class Health:
    """What is not ready, by name and reason; parts of a process set and clear their own names."""

    def __init__(self, *waiting: str) -> None:
        self._not_ready: dict[str, str] = dict.fromkeys(waiting, "starting")
        self._since = time.time()

    def not_ready(self, part: str, reason: str) -> None:
        """Say that a part cannot do its work, and why (a person reads it)."""
        self._not_ready[part] = reason

    def ready(self, part: str) -> None:
        """Say that a part does its work."""
        self._not_ready.pop(part, None)

    @property
    def reasons(self) -> dict[str, str]:
        """Each part that is not ready, with its reason; empty when all are."""
        return dict(self._not_ready)

    def answer(self, path: str) -> tuple[int, bytes, bytes]:
        """Return HTTP status, content type and body for one of PATHS."""
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST.encode(), generate_latest()
        body: dict[str, Any] = {"status": "ok", "up_seconds": round(time.time() - self._since, 1)}
        status = 200
        if path == "/readyz" and self._not_ready:
            status, body["status"], body["not_ready"] = 503, "not ready", self.reasons
        return status, b"application/json", orjson.dumps(body)


async def answer(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    """Send one whole HTTP answer."""
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def with_health(health: Health, app: ASGIApp | None = None) -> ASGIApp:
    """Return an ASGI app that answers PATHS from `health` and gives the rest to `app` (without one: 404)."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in PATHS:
            if scope["method"] in ("GET", "HEAD"):
                await answer(send, *health.answer(scope["path"]))
            else:
                detail = f"{scope['method']} is not possible here: use GET"
                await send_problem(scope, send, Problem(405, detail, headers={"allow": "GET, HEAD"}))
        elif app is not None:
            await app(scope, receive, send)
        elif scope["type"] == "http":
            detail = "nothing is here: there is /livez, /readyz and /metrics"
            await send_problem(scope, send, Problem(404, detail, error_class=ErrorClass.NOT_FOUND))

    return serve
