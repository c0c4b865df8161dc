"""What every door of the gateway answers with: nothing and 200, or problem+json; each answer is counted."""

from __future__ import annotations

from runtime.health import Send
from runtime.metrics import ANSWERS
from runtime.problem import CONTENT_TYPE, Problem
from schemas.errors import ErrorClass

_ACCEPTED = ANSWERS.labels("200")


async def accept(send: Send) -> None:
    """Answer 200 with an empty body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
    _ACCEPTED.inc()


async def refuse(send: Send, problem: Problem) -> None:
    """Answer with an error."""
    body = problem.body()
    headers = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    ANSWERS.labels(str(problem.status)).inc()


def not_now(detail: str) -> Problem:
    """Return the 503 of a delivery that cannot be stored now; its sender should come again."""
    return Problem(503, detail, error_class=ErrorClass.EXTERNAL_SERVICE, headers={"retry-after": "5"})
