"""What Kommo answers instead of doing what was asked: problem+json, and two answers that are not.

Shapes and statuses are those of https://developers.kommo.com/docs/http-codes and
https://developers.kommo.com/docs/limitations; what these pages do not say is marked INFERRED where it is used.
"""

from __future__ import annotations

import http
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

PROBLEM: Final = b"application/problem+json"
TEXT: Final = b"text/html; charset=utf-8"

NOT_A_CHOICE: Final = "The value you selected is not a valid choice."


class Issue(NamedTuple):
    """One thing wrong in one item: Kommo's code, the path within the item (`custom_fields_values.0.field_id`)."""

    code: str
    path: str
    detail: str


class Refused(Exception):
    """An answer that is an error: HTTP status, content type and body."""

    def __init__(self, status: int, body: bytes, content_type: bytes = PROBLEM) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.content_type = content_type


def problem(status: int, detail: str, **members: Any) -> Refused:
    """Return a problem: {"title", "type", "status", "detail"} and further members."""
    told = {"title": http.HTTPStatus(status).phrase, "type": f"https://httpstatus.es/{status}", "status": status}
    return Refused(status, orjson.dumps({**members, **told, "detail": detail}))


def invalid(issues: Mapping[str, Sequence[Issue]]) -> Refused:
    """Return the 400 that tells what is wrong in which item, by request id."""
    told = [
        {"request_id": request_id, "errors": [issue._asdict() for issue in found]}
        for request_id, found in issues.items()
    ]
    return problem(400, "Request validation failed", **{"validation-errors": told})


def wrong_body(detail: str) -> Refused:
    """Return the 400 of a body that is no JSON, of the wrong kind, or empty: it has no validation-errors."""
    return problem(400, detail)


def unauthorized() -> Refused:
    """Return the 401 of a token that is expired, revoked or none."""
    return problem(401, "Invalid user name or password")


def unpaid() -> Refused:
    """Return the 402 of an account that is not paid for."""
    return problem(402, "Payment Required")


def forbidden() -> Refused:
    """Return the 403 of a user without the right to do that."""
    return problem(403, "Access denied")


def blocked() -> Refused:
    """Return the 403 of an address that is blocked: plain text, whatever was asked."""
    return Refused(403, b"403 Forbidden", TEXT)


def not_found() -> Refused:
    """Return a 404."""
    return problem(404, "Not Found")


def not_allowed() -> Refused:
    """Return a 405: leads, for example, cannot be deleted by the API."""
    return problem(405, "Method Not Allowed")


def limit_exceeded(most: int) -> Refused:
    """Return the 422 of a list or a body with too many items."""
    return problem(422, f"Limit {most} per page")


def too_many(retry_after: int, as_json: bool = True) -> Refused:
    """Return a 429; a proxy in front of Kommo answers one that is no JSON."""
    if not as_json:
        return Refused(429, b"<html><body><h1>429 Too Many Requests</h1></body></html>", TEXT)
    told = {"title": "Too Many Requests", "status": 429, "detail": "Too many requests", "retry_after": retry_after}
    return Refused(429, orjson.dumps(told), b"application/json")


def server_error(trace: str) -> Refused:
    """Return a 500."""
    return Refused(500, orjson.dumps({"title": "ErrInternalServer", "trace_id": trace}), b"application/json")


def bare(status: int) -> Refused:
    """Return what a proxy in front of Kommo answers (502, 503, 504): a page."""
    phrase = http.HTTPStatus(status).phrase
    return Refused(status, f"<html><body><h1>{status} {phrase}</h1></body></html>".encode(), TEXT)


def bad_grant(hint: str, status: int = 400) -> Refused:
    """Return why no token is given.

    400, but 401 for a refresh token that was used up (seen in amocrm/amocrm-api-php #123 and #315).
    """
    told = {"hint": hint, "title": "Bad Request", "type": "https://developers.kommo.com/v3/errors/OAuthProblemJson"}
    detail = "The request is missing a required parameter or a parameter is invalid"
    return Refused(status, orjson.dumps(told | {"status": status, "detail": detail}))
