"""The dashboard's ASGI app: the API, the session, the page; every error is a problem document."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dashboard import api, circuits, giving, letters, page, session
from dashboard.api import Services
from dashboard.openapi import describing
from runtime.asgi import ASGIApp, Receive, Scope, Send
from runtime.classify import class_of_status, classify
from runtime.logs import logger
from runtime.problem import Problem, answer_of, correlation_id, unforeseen
from runtime.settings import Settings
from schemas.errors import ErrorClass

log = logger(__name__)

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_ELSEWHERE = (
    "there is /, /api/v1/activity, /api/v1/recent-updates, /api/v1/tasks, /api/v1/calls, /api/v1/commands, "
    "/api/v1/deadletters, /api/v1/circuits, /api/v1/live, /session and /openapi.json"
)


def build(settings: Settings, services: Services) -> ASGIApp:
    """Return the app."""
    app = FastAPI(
        title="kommo-streams dashboard",
        description="What happened in Kommo: the projections of the event log, per account.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(api.router(services))
    app.include_router(giving.router(services, settings))
    app.include_router(letters.router(services))
    app.include_router(circuits.router(services))
    app.include_router(session.router(services, settings))
    app.router.routes.extend(page.routes())
    app.openapi = describing(app)  # type: ignore[method-assign]
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unforeseen)
    return _outermost(app)


def _answer(request: Request, problem: Problem, *, logged: bool = False) -> Response:
    headers, body = answer_of(problem, request.scope, logged=logged)
    return Response(body, problem.status, headers={"cache-control": "no-store", **headers})


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for nothing else
    return _answer(request, error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return _answer(request, Problem(404, f"nothing is here: {_ELSEWHERE}", error_class=ErrorClass.NOT_FOUND))
    detail = str(error.detail)
    if error.status_code == 405:
        detail = f"{request.method} is not possible here: use {headers.get('Allow', 'another method')}"
    error_class = class_of_status(error.status_code)
    return _answer(request, Problem(error.status_code, detail, error_class=error_class, headers=headers))


async def _unforeseen(request: Request, error: Exception) -> Response:
    return _answer(request, unforeseen(error), logged=True)  # by _outermost


def _outermost(app: ASGIApp) -> ASGIApp:
    """Add the security headers to every answer, and log what nobody foresaw, once."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        name = correlation_id(scope)  # known before the router copies the scope
        try:
            await app(scope, receive, send_with_headers)
        except ClientDisconnect:
            return
        except Exception as error:  # answered by _unforeseen
            log.exception(
                "a request failed",
                method=scope.get("method"),
                path=scope.get("path"),
                correlation_id=name,
                error_class=classify(error).value,
            )

    return serve
