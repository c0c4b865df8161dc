"""One dead letter with the original record, under /api/v1/deadletters."""

from __future__ import annotations

import base64
import re
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from dashboard import parameters
from dashboard.api import PRIVATE, Services
from dashboard.models import DeadLetterWhole
from dashboard.openapi import SECURITY, problems
from dashboard.pages import dumped
from projections.queries import Row, letter
from runtime.problem import Problem
from schemas.errors import ErrorClass

PATH = "/api/v1/deadletters"
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_DESCRIBED = {
    "name": "letter_id",
    "in": "path",
    "required": True,
    "description": "A dead letter's id.",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}
_READ = (parameters.ACCOUNT,)


def router(services: Services) -> APIRouter:
    """Return the route that is about one dead letter."""
    routes = APIRouter(prefix=PATH, dependencies=SECURITY, tags=["projections"])

    @routes.get(
        "/{letter_id}",
        summary="A dead letter with the original record, whole",
        description="Key and value are text where they are UTF-8, else base64; `key_is_base64` and `value_is_base64` "
        "say which. The value may have 10 MiB.",
        response_class=Response,
        responses={200: {"model": DeadLetterWhole}, **problems(400, 401, 403, 404, 500, 503)},
        openapi_extra={"parameters": [_DESCRIBED, *(parameter.openapi() for parameter in _READ)]},
    )
    async def tell(request: Request) -> Response:
        grant = await services.reader(request)
        letter_id = request.path_params["letter_id"].lower()
        if not _ID.fullmatch(letter_id):
            raise parameters.refuse({"letter_id": "must be the id of a dead letter (32 hexadecimal digits)"})
        values = parameters.read(request.query_params.multi_items(), _READ)
        row = await letter(services.database, letter_id, grant.narrowed(values.get("account")))
        if row is None:
            raise Problem(404, f"there is no dead letter {letter_id} for this token", error_class=ErrorClass.NOT_FOUND)
        return Response(dumped(_whole(row)), media_type="application/json", headers=PRIVATE)

    return routes


def _whole(row: Row) -> dict[str, Any]:
    key, key_is_base64 = _text(row.pop("key"))
    value, value_is_base64 = _text(row.pop("value"))
    headers = [{"name": name, "value": told} for name, told in orjson.loads(row.pop("headers"))]
    return {
        **row,
        "key": key,
        "key_is_base64": key_is_base64,
        "value": value,
        "value_is_base64": value_is_base64,
        "headers": headers,
    }


def _text(raw: bytes | None) -> tuple[str | None, bool]:
    if raw is None:
        return None, False
    try:
        return raw.decode(), False
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode(), True
