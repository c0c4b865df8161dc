"""The page's way in: a one-time code becomes a session cookie that no script can read and no other site can send."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from dashboard import parameters
from dashboard.access import SESSION_SECONDS, Attempts
from dashboard.api import PRIVATE, SESSION_COOKIE, Services
from dashboard.models import SessionView
from dashboard.openapi import SECURITY, problems
from dashboard.posted import check_origin, read_json
from projections.queries import accounts_seen
from runtime.problem import Problem
from runtime.settings import Settings
from schemas.errors import ErrorClass

MOST_BODY_BYTES = 4096
_MOST_ACCOUNTS = 200


async def read_code(request: Request) -> str:
    """Return the code of a body {"code": "..."}. Raises Problem."""
    value = await read_json(request, MOST_BODY_BYTES)
    if not isinstance(value, dict) or set(value) != {"code"} or not isinstance(value["code"], str):
        raise Problem(400, 'send {"code": "..."} and nothing else')
    code: str = value["code"]
    return code


_CODE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"code": {"type": "string", "description": "From the address's fragment."}},
                    "required": ["code"],
                    "additionalProperties": False,
                }
            }
        },
    }
}


def router(services: Services, settings: Settings) -> APIRouter:
    """Return the routes under /session."""
    routes = APIRouter(prefix="/session", tags=["session"])
    attempts = Attempts()
    cookie: dict[str, Any] = {
        "key": SESSION_COOKIE,
        "path": "/",
        "httponly": True,
        "samesite": "strict",
        "secure": settings.dashboard_url.startswith("https://"),
    }

    @routes.post(
        "",
        summary="Trade a one-time code for a session cookie",
        status_code=204,
        response_class=Response,
        responses=problems(400, 401, 403, 413, 415, 429, 500, 503),
        openapi_extra=_CODE_BODY,
    )
    async def begin(request: Request) -> Response:
        check_origin(request, settings.dashboard_url)
        address = request.client.host if request.client else ""
        attempts.check(address)
        session = await services.access.trade(await read_code(request))
        if session is None:
            attempts.failed(address)
            raise Problem(
                401,
                "this code is not valid: it works once, for 15 minutes; `kommo-streams dashboard-url` prints a new one",
                error_class=ErrorClass.AUTHENTICATION,
                headers={"WWW-Authenticate": 'Bearer realm="kommo-streams"'},
            )
        answer = Response(status_code=204, headers=PRIVATE)
        answer.set_cookie(value=session.text, max_age=SESSION_SECONDS, **cookie)
        return answer

    @routes.post(
        "/end",
        summary="End the session",
        status_code=204,
        response_class=Response,
        responses=problems(400, 403, 413, 415, 500, 503),
    )
    async def end(request: Request) -> Response:
        check_origin(request, settings.dashboard_url)
        await read_json(request, MOST_BODY_BYTES)  # a form of another site cannot send JSON
        grant = await services.access.grant(request.cookies.get(SESSION_COOKIE, ""), "session")
        if grant is not None:
            await services.access.end(grant)
        answer = Response(status_code=204, headers=PRIVATE)
        answer.delete_cookie(**cookie)
        return answer

    @routes.get(
        "",
        summary="What this session or token may see",
        response_class=Response,
        responses={200: {"model": SessionView}, **problems(400, 401, 500, 503)},
        dependencies=SECURITY,
    )
    async def show(request: Request) -> Response:
        grant = await services.reader(request)
        parameters.read(request.query_params.multi_items(), ())
        if grant.accounts is None:
            seen = await accounts_seen(services.database, _MOST_ACCOUNTS)
        else:
            seen = list(grant.accounts[:_MOST_ACCOUNTS])
        return Response(
            orjson.dumps({"accounts": grant.accounts, "seen": seen, "commands": grant.commands}),
            media_type="application/json",
            headers=PRIVATE,
        )

    return routes
