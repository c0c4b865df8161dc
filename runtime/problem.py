"""Error answers as RFC 9457 problem+json, the same from every HTTP door, each with an id that is in the log too."""

from __future__ import annotations

import http
import re
import uuid
from collections.abc import MutableMapping
from typing import Any

import orjson

from runtime.asgi import ASGIApp, Receive, Scope, Send
from runtime.classify import classify, describe
from runtime.failures import log_failure
from runtime.logs import logger
from schemas.errors import ErrorClass

log = logger(__name__)

CONTENT_TYPE = "application/problem+json"
TYPE = "urn:kommo-streams:error:"
"""What stands before the error class in `type`: the class says more than the status, so it is not about:blank."""
CORRELATION_HEADER = "x-correlation-id"

_CORRELATION_KEY = "kommo_streams.correlation_id"  # in the scope of a request
_GIVEN = (b"x-request-id", b"x-amocrm-requestid")
_SANE = re.compile(rb"[A-Za-z0-9._:+-]{1,128}")


def title_of(error_class: ErrorClass) -> str:
    """Return what a class means, in a few words."""
    return error_class.facts.meaning.partition(":")[0].rstrip(".")


class Problem(Exception):
    """An error answer: HTTP status (None: that of its class), a detail for a person, members a program can read.

    `headers` go into the answer (for example Retry-After); `members` are added to the JSON object. `correlation_id` is
    given where there is a better one than the request's.
    """

    def __init__(
        self,
        status: int | None,
        detail: str,
        *,
        error_class: ErrorClass = ErrorClass.VALIDATION,
        headers: dict[str, str] | None = None,
        correlation_id: str = "",
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = error_class.facts.status if status is None else status
        self.error_class = error_class
        self.headers = headers or {}
        self.correlation_id = correlation_id
        self.members = {
            "type": f"{TYPE}{error_class}",
            "title": title_of(error_class),
            "status": self.status,
            "detail": detail,
            "error_class": error_class.value,
            **members,
        }

    def body(self, correlation_id: str) -> bytes:
        """Return the JSON object as bytes."""
        return orjson.dumps({**self.members, "correlation_id": correlation_id})


def unforeseen(error: BaseException) -> Problem:
    """Return the answer to a request over which something was raised that is no Problem; it tells nothing of it."""
    found = classify(error)
    if found in (ErrorClass.DATABASE, ErrorClass.EXTERNAL_SERVICE):
        detail = "a server that this one needs does not answer; try again"
        return Problem(None, detail, error_class=found, headers={"retry-after": "5"})
    # Whatever else it is, whoever asked is not to blame: what was wrong with the request has been said by a Problem.
    detail = "this failed; the log says why, under the correlation id"
    return Problem(None, detail, error_class=ErrorClass.INTERNAL)


def correlation_id(scope: Scope) -> str:
    """Return the id of a request: the one it came with, where that is a sane one, else a new one; always the same."""
    known: str | None = scope.get(_CORRELATION_KEY)
    if known is None:
        headers = dict(scope["headers"])
        given = next((headers[name] for name in _GIVEN if _SANE.fullmatch(headers.get(name, b""))), None)
        known = scope[_CORRELATION_KEY] = given.decode() if given is not None else str(uuid.uuid4())
    return known


def answer_of(problem: Problem, scope: Scope, *, logged: bool = False) -> tuple[dict[str, str], bytes]:
    """Return headers and body of an error answer, and write a line about one of 500 or more, if none is written yet."""
    name = problem.correlation_id or correlation_id(scope)
    if problem.status >= 500 and not logged:
        cause = {"cause": describe(problem.__cause__)} if problem.__cause__ is not None else {}
        log_failure(log, "answered with an error", problem, status=problem.status, correlation_id=name, **cause)
    body = problem.body(name)
    headers = {"content-type": CONTENT_TYPE, "content-length": str(len(body)), CORRELATION_HEADER: name}
    return {**headers, **{key.lower(): value for key, value in problem.headers.items()}}, body


async def send_problem(scope: Scope, send: Send, problem: Problem, *, logged: bool = False) -> None:
    """Answer a request with an error."""
    headers, body = answer_of(problem, scope, logged=logged)
    raw = [(key.encode(), value.encode("latin-1", "replace")) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def guarded(app: ASGIApp) -> ASGIApp:
    """Return the app with an answer to whatever it raises: a Problem as it is, anything else as unforeseen()."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await app(scope, receive, watched)
        except Problem as problem:
            if not begun:
                await send_problem(scope, send, problem)
        except Exception as error:
            log.exception(
                "a request failed",
                method=scope.get("method"),
                path=scope.get("path"),
                correlation_id=correlation_id(scope),
                error_class=classify(error).value,
            )
            if not begun:
                await send_problem(scope, send, unforeseen(error), logged=True)

    return serve


def raw_answer(problem: Problem) -> bytes:
    """Return the whole answer to what is no HTTP request; the connection ends after it."""
    headers, body = answer_of(problem, {"headers": []})
    head = "".join(f"{key}: {value}\r\n" for key, value in {**headers, "connection": "close"}.items())
    phrase = http.HTTPStatus(problem.status).phrase
    return f"HTTP/1.1 {problem.status} {phrase}\r\n{head}\r\n".encode("latin-1") + body
