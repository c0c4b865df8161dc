"""What every door of the gateway answers with: nothing and 200, or problem+json; each answer is counted."""

from __future__ import annotations

from runtime.asgi import Scope, Send
from runtime.metrics import ANSWERS
from runtime.problem import Problem, send_problem
from schemas.errors import ErrorClass

_ACCEPTED = ANSWERS.labels("200")


async def accept(send: Send) -> None:
    """Answer 200 with an empty body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
    _ACCEPTED.inc()


async def refuse(scope: Scope, send: Send, problem: Problem) -> None:
    """Answer with an error."""
    await send_problem(scope, send, problem)
    ANSWERS.labels(str(problem.status)).inc()


def not_now(detail: str, delivery_id: str = "") -> Problem:
    """Return the 503 of a delivery that cannot be stored now; its sender should come again."""
    return Problem(
        None,
        detail,
        error_class=ErrorClass.EXTERNAL_SERVICE,
        headers={"retry-after": "5"},
        correlation_id=delivery_id,
    )
