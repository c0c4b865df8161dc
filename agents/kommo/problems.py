"""What can go wrong at Kommo, read from an answer or from the failure to get one, into the closed vocabulary.

Decided by status and exception type (https://developers.kommo.com/docs/http-codes, .../docs/limitations), never by the
words of a message. One thing Kommo shows only by the form of a body: a 403 whose body is not JSON is a block of the
caller's address, one whose body is JSON a missing right.
"""

from __future__ import annotations

import datetime as dt
import http
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx
import orjson

from runtime.classify import class_of_status
from runtime.logs import redact
from schemas.errors import ErrorClass

MOST_RETRY_AFTER = 86_400.0  # seconds: whatever an answer says, nothing waits longer than a day

# What names a field or a fault, and cannot be what a field holds.
_FIELD = re.compile(r"[a-z0-9_.\[\]]{1,120}")
_FAULT = re.compile(r"[A-Za-z]{1,60}")
_MOST_TEXT = 500
_MOST_WRONG = 50

# What never got as far as a connection of its own: not one byte of the request has left.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Wrong(NamedTuple):
    """One validation error: where in the request, Kommo's code (`NotSupportedChoice`), and its words."""

    path: str
    code: str
    detail: str


class KommoError(Exception):
    """A request to Kommo failed.

    `left` says whether the request may have left this machine and so may have been carried out: only then is its
    outcome unknown. `retry_after` is in seconds, as Kommo (or a limit of ours) says it. `blocked`: Kommo refuses the
    outgoing address, not the account. The message names request, status and wrong fields; `title`, `detail` and
    `validation` are Kommo's own words, which may repeat what was sent: they belong to the account, not into a log.
    """

    def __init__(
        self,
        error_class: ErrorClass,
        what: str,
        *,
        status: int | None = None,
        title: str = "",
        detail: str = "",
        validation: tuple[Wrong, ...] = (),
        retry_after: float | None = None,
        blocked: bool = False,
        left: bool = False,
    ) -> None:
        super().__init__(what)
        self.error_class = error_class
        self.status = status
        self.title = title
        self.detail = detail
        self.validation = validation
        self.retry_after = retry_after
        self.blocked = blocked
        self.left = left

    @property
    def message(self) -> str:
        """What it says. Sentry's client asks for this first; without it, for `detail`, which is not for others."""
        return str(self)

    @classmethod
    def of_answer(cls, what: str, status: int, headers: Mapping[str, str], content: bytes) -> KommoError:
        """Return the error that an answer is; `what` names the request without its query: `POST /leads`."""
        body = _object(content)
        blocked = status == 403 and body is None
        validation = _validation(body)
        phrase = _phrase(status)
        wrong = "".join(f"; {_named(_FIELD, item.path)}: {_named(_FAULT, item.code)}" for item in validation[:5])
        return cls(
            ErrorClass.RATE_LIMIT if blocked else class_of_status(status),
            f"{what}: {status} {'the outgoing address is blocked' if blocked else phrase}{wrong}",
            status=status,
            title=_text((body or {}).get("title")) or phrase,
            detail=_text((body or {}).get("detail")),
            validation=validation,
            retry_after=_retry_after(headers, body),
            blocked=blocked,
            left=status >= 500 or status < 300,
        )

    @classmethod
    def of_response(cls, what: str, response: httpx.Response) -> KommoError:
        """Return the error that a response, whose body was read, is."""
        return cls.of_answer(what, response.status_code, response.headers, response.content)

    @classmethod
    def of_exception(
        cls, what: str, error: Exception, *, left: bool | None = None, status: int | None = None
    ) -> KommoError:
        """Return the error that a failed exchange is; by its type, unless `left` is known better.

        `status` is that of an answer whose head came and whose body did not.
        """
        if left is None:
            left = not isinstance(error, NOT_SENT)
        name = type(error).__name__
        seen = "" if status is None else f" after the status {status}"
        return cls(ErrorClass.EXTERNAL_SERVICE, f"{what}: {name}{seen}", status=status, title=name, left=left)

    @classmethod
    def unreadable(cls, what: str, status: int, why: str) -> KommoError:
        """Return the error of an answer that says success in a form that cannot be read."""
        return cls(ErrorClass.EXTERNAL_SERVICE, f"{what}: {status}, {why}", status=status, title=why, left=True)


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        body = orjson.loads(content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else {}


def _validation(body: dict[str, Any] | None) -> tuple[Wrong, ...]:
    """Read `validation-errors`: [{"request_id", "errors": [{"code", "path", "detail"}]}]; only a 400 has them."""
    found: list[Wrong] = []
    for item in _list((body or {}).get("validation-errors")):
        errors = _list(item.get("errors")) if isinstance(item, dict) else []
        texts = ([_text(error.get(key)) for key in Wrong._fields] for error in errors if isinstance(error, dict))
        found.extend(Wrong(*text) for text in texts)
    return tuple(found[:_MOST_WRONG])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    if not isinstance(value, str | int):
        return ""
    return redact("".join(sign if sign.isprintable() else " " for sign in str(value)[:_MOST_TEXT]))


def _named(form: re.Pattern[str], text: str) -> str:
    return text if form.fullmatch(text) else "?"


def _retry_after(headers: Mapping[str, str], body: dict[str, Any] | None) -> float | None:
    """Read the header (seconds or a date, RFC 9110) or, without one, the member `retry_after` (seconds)."""
    said: Any = headers.get("retry-after")
    if said is None:
        said = (body or {}).get("retry_after")
    try:
        seconds = float(said)
    except (TypeError, ValueError):
        seconds = _until(said)
    return max(0.0, min(seconds, MOST_RETRY_AFTER)) if seconds == seconds else None


def _until(said: Any) -> float:
    try:
        moment = parsedate_to_datetime(said if isinstance(said, str) else "")
    except (TypeError, ValueError, OverflowError):
        return float("nan")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - dt.datetime.now(dt.UTC)).total_seconds()
