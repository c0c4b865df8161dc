"""Error answers as RFC 9457 problem+json, the same from every HTTP door."""

from __future__ import annotations

import http
from typing import Any

import orjson

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):
    """An error answer: HTTP status, a detail for a person, and members a program can read.

    `headers` go into the answer (for example Retry-After); `members` are added to the JSON object.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        error_class: str = "validation",
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}
        self.members = {
            "type": "about:blank",
            "title": http.HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "error_class": error_class,
            **members,
        }

    def body(self) -> bytes:
        """Return the JSON object as bytes."""
        return orjson.dumps(self.members)
