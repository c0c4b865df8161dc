"""Answers and failures of every form become one error each, by status, type and the form of the body."""

from __future__ import annotations

import datetime as dt
import json
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.kommo.problems import MOST_RETRY_AFTER, KommoError, Wrong
from runtime.classify import classify
from schemas.errors import ErrorClass

SECRET = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiI3NyJ9.c2lnbmF0dXJl"
VALIDATION = {
    "title": "Bad Request",
    "type": "https://httpstatus.es/400",
    "status": 400,
    "detail": "Request validation failed",
    "validation-errors": [
        {
            "request_id": "0",
            "errors": [
                {"code": "NotSupportedChoice", "path": "custom_fields_values.0.field_id", "detail": "The value 1"},
                {"code": "InvalidType", "path": "name", "detail": "Anna, anna@example.com"},
            ],
        }
    ],
}


def of(status: int, body: Any = b"", headers: dict[str, str] | None = None) -> KommoError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return KommoError.of_response("POST /leads", httpx.Response(status, content=content, headers=headers))


@pytest.mark.parametrize(
    ("status", "body", "error_class", "blocked", "left"),
    [
        (400, VALIDATION, ErrorClass.VALIDATION, False, False),
        (400, b"", ErrorClass.VALIDATION, False, False),
        (401, {"detail": "Invalid user name or password"}, ErrorClass.AUTHENTICATION, False, False),
        (402, b"<html>", ErrorClass.AUTHORIZATION, False, False),
        (403, {"title": "Forbidden"}, ErrorClass.AUTHORIZATION, False, False),
        (403, [], ErrorClass.AUTHORIZATION, False, False),
        (403, b"403 Forbidden", ErrorClass.RATE_LIMIT, True, False),
        (403, b"<html>403</html>", ErrorClass.RATE_LIMIT, True, False),
        (403, b"", ErrorClass.RATE_LIMIT, True, False),
        (404, b"", ErrorClass.NOT_FOUND, False, False),
        (405, {}, ErrorClass.VALIDATION, False, False),
        (408, b"", ErrorClass.EXTERNAL_SERVICE, False, False),
        (409, {}, ErrorClass.VALIDATION, False, False),
        (422, {}, ErrorClass.VALIDATION, False, False),
        (429, b"Too Many", ErrorClass.RATE_LIMIT, False, False),
        (429, {"retry_after": 300}, ErrorClass.RATE_LIMIT, False, False),
        (301, b"", ErrorClass.EXTERNAL_SERVICE, False, False),
        (500, {"title": "ErrInternalServer"}, ErrorClass.EXTERNAL_SERVICE, False, True),
        (503, b"", ErrorClass.EXTERNAL_SERVICE, False, True),
        (504, b"", ErrorClass.EXTERNAL_SERVICE, False, True),
        (599, b"", ErrorClass.EXTERNAL_SERVICE, False, True),
    ],
)
def test_an_answer_is_one_error(status: int, body: Any, error_class: ErrorClass, blocked: bool, left: bool) -> None:
    error = of(status, body)
    assert (error.error_class, error.blocked, error.left, error.status) == (error_class, blocked, left, status)
    assert classify(error) is error_class
    assert str(status) in str(error)


def test_validation_errors_are_read_and_the_message_names_fields_but_no_value() -> None:
    error = of(400, VALIDATION)
    assert error.title == "Bad Request"
    assert error.detail == "Request validation failed"
    assert error.validation == (
        Wrong("custom_fields_values.0.field_id", "NotSupportedChoice", "The value 1"),
        Wrong("name", "InvalidType", "Anna, anna@example.com"),
    )
    assert (
        str(error) == "POST /leads: 400 Bad Request; custom_fields_values.0.field_id: NotSupportedChoice; "
        "name: InvalidType"
    )


def test_neither_words_of_a_body_nor_a_token_are_in_message_or_repr() -> None:
    error = of(
        400,
        {
            "title": f"Anna {SECRET}",
            "detail": f"anna@example.com {SECRET}",
            "validation-errors": [{"errors": [{"code": "Anna Smith", "path": "+44 20 7946", "detail": SECRET}]}],
        },
    )
    for text in (str(error), repr(error)):
        assert "Anna" not in text
        assert "7946" not in text
    assert SECRET not in str(vars(error)), "what Kommo echoes of a token is taken out of its words"


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"Retry-After": "12"}, b"", 12),
        ({}, {"retry_after": 300}, 300),
        ({"Retry-After": "2"}, {"retry_after": 300}, 2),
        ({}, {"retry_after": "7"}, 7),
        ({"Retry-After": "-5"}, b"", 0),
        ({"Retry-After": "1e999"}, b"", MOST_RETRY_AFTER),
        ({"Retry-After": "nan"}, b"", None),
        ({"Retry-After": "soon"}, b"", None),
        ({}, {"retry_after": None}, None),
        ({}, {"retry_after": [1]}, None),
        ({}, b"no JSON", None),
    ],
)
def test_retry_after_of_header_and_body(headers: dict[str, str], body: Any, seconds: float | None) -> None:
    assert of(429, body, headers).retry_after == seconds


def test_retry_after_may_be_a_date() -> None:
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=100)
    found = of(503, b"", {"Retry-After": format_datetime(moment, usegmt=True)}).retry_after
    assert found is not None
    assert 95 < found <= 100


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout(""), False),
        (httpx.PoolTimeout(""), False),
        (httpx.UnsupportedProtocol(""), False),
        (httpx.ReadTimeout(""), True),
        (httpx.WriteTimeout(""), True),
        (httpx.ReadError(""), True),
        (httpx.WriteError(""), True),
        (httpx.CloseError(""), True),
        (httpx.RemoteProtocolError(""), True),
        (httpx.DecodingError(""), True),
        (TimeoutError(), True),
    ],
)
def test_a_failed_exchange_by_its_type(error: Exception, left: bool) -> None:
    made = KommoError.of_exception("POST /leads", error)
    assert (made.error_class, made.left, made.status) == (ErrorClass.EXTERNAL_SERVICE, left, None)
    assert "refused" not in str(made)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["title", "detail", "validation-errors", "errors", "path", "code", "retry_after", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(status=st.integers(300, 599), body=_JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30))
def test_any_body_is_an_error_with_bounded_words(status: int, body: bytes) -> None:
    error = KommoError.of_answer("GET /x", status, {}, body)
    assert len(error.detail) <= 500
    assert str(error).isprintable()
    assert error.left == (status >= 500)
    assert error.retry_after is None or 0 <= error.retry_after <= MOST_RETRY_AFTER
