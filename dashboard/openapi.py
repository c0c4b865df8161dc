"""What OpenAPI says beside the routes: how to sign in, and that every error is a problem document."""

from __future__ import annotations

import http
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Security
from fastapi.openapi.utils import get_openapi
from fastapi.security import APIKeyCookie, HTTPBearer

from dashboard.models import ProblemDetails
from runtime import problem

API_VERSION = "1.0.0"
_REFERENCE = "#/components/schemas/ProblemDetails"
_CORRELATION = {
    "X-Correlation-Id": {
        "description": "As `correlation_id` of the body; give it to whoever can read the log.",
        "schema": {"type": "string", "maxLength": 128},
    }
}

# They describe; the check itself is dashboard/access.py, the same for both.
SECURITY = [
    Security(
        HTTPBearer(
            scheme_name="token",
            bearerFormat="kst_<id>_<secret>",
            description="A token from `kommo-streams token create`.",
            auto_error=False,
        )
    ),
    Security(
        APIKeyCookie(
            name="kommo_streams_session",
            scheme_name="session",
            description="The page's session, traded for a one-time code.",
            auto_error=False,
        )
    ),
]

_REASONS = {
    400: "Something is wrong, unknown or doubled; `parameters` or `errors` names it.",
    401: "No valid token or session.",
    403: "Not for this account, without the right to give commands, or not from this origin.",
    404: "There is none, or not yet.",
    413: "The body is too long.",
    415: "The body is not JSON.",
    429: "Too many wrong codes, or too many commands; see Retry-After.",
    503: "The database is away, or Kafka where something is sent, or too many wait; see Retry-After.",
    504: "The event of `wait_for` did not become visible in time; see Retry-After.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses for these error statuses."""
    return {
        status: {
            "description": _REASONS.get(status, http.HTTPStatus(status).phrase),
            "headers": _CORRELATION,
            "content": {problem.CONTENT_TYPE: {"schema": {"$ref": _REFERENCE}}},
        }
        for status in statuses
    }


def describing(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Return a function that gives the app's OpenAPI document, made once."""
    made: dict[str, Any] = {}

    def describe() -> dict[str, Any]:
        if not made:
            document = get_openapi(title=app.title, version=API_VERSION, routes=app.routes, description=app.description)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            shape = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(shape.pop("$defs", {}))
            schemas["ProblemDetails"] = shape
            made.update(document)
        return made

    return describe
