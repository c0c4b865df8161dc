"""What is posted: only JSON, of a bounded size, and with a session only from the dashboard's own page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import orjson
from fastapi import Request

from runtime.problem import Problem
from schemas.errors import ErrorClass


def check_origin(request: Request, dashboard_url: str) -> None:
    """Raise Problem 403 where a browser says that another site's page sent this."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    own = {urlsplit(dashboard_url).netloc, request.headers.get("host", "")}
    foreign = site not in (None, "same-origin", "none") or (origin is not None and urlsplit(origin).netloc not in own)
    if foreign:
        raise Problem(403, "this is only for the dashboard's own page", error_class=ErrorClass.AUTHORIZATION)


async def read_json(request: Request, most_bytes: int) -> Any:
    """Return the body's JSON. Raises Problem 415, 413 or 400."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, 'send JSON with the header "Content-Type: application/json"')
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise Problem(413, f"the body may have {most_bytes} bytes")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Problem(400, "the body is no JSON") from None
