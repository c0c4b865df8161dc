"""Cursors: where a page ended, as an opaque text that fits the query it came from and no other.

A cursor grants nothing: it is a place in an order, and whatever it says, SQL restricts the rows to the reader's
accounts. So it is checked strictly and not signed, and stays good across restarts and processes.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import uuid
from typing import Any

import orjson

from projections.queries import Filter, Key, View

_MOST_CHARACTERS = 1024
_FINGERPRINT_BYTES = 12


class CursorError(ValueError):
    """A text that is no cursor, or one of another query; the message says which."""


def _fingerprint(view: View, wanted: Filter) -> bytes:
    filters = [wanted.entity_type, wanted.entity_id, wanted.event_types, wanted.since, wanted.until]
    more = [wanted.more] if wanted.more else []  # only then: cursors of lists without them stay good
    text = orjson.dumps([view.projection, view.version, wanted.accounts, *filters, *more])
    return hashlib.sha256(text).digest()[:_FINGERPRINT_BYTES]


def encode(view: View, wanted: Filter, key: Key) -> str:
    """Return the cursor for going on after the place `key` of a view, with the same filter."""
    return base64.urlsafe_b64encode(_fingerprint(view, wanted) + orjson.dumps(key, default=str)).rstrip(b"=").decode()


def decode(view: View, wanted: Filter, text: str) -> Key:
    """Return the place a cursor stands for. Raises CursorError."""
    if len(text) > _MOST_CHARACTERS:
        raise CursorError("is no cursor: take next_cursor of an answer as it is")
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        values = orjson.loads(raw[_FINGERPRINT_BYTES:])
    except (UnicodeEncodeError, binascii.Error, orjson.JSONDecodeError):
        raise CursorError("is no cursor: take next_cursor of an answer as it is") from None
    if not hmac.compare_digest(raw[:_FINGERPRINT_BYTES], _fingerprint(view, wanted)):
        raise CursorError(
            "belongs to another query: keep the address and its other parameters as they were (limit may change), "
            "or start without a cursor"
        )
    return _key(view, values)


def _key(view: View, values: Any) -> Key:
    if not isinstance(values, list) or len(values) != len(view.order):
        raise CursorError("is damaged: start without a cursor")
    try:
        return tuple(_value(value, kind) for value, (_, kind) in zip(values, view.order, strict=True))
    except (TypeError, ValueError, OverflowError):
        raise CursorError("is damaged: start without a cursor") from None


def _value(value: Any, kind: str) -> Any:
    if kind == "bigint":
        if type(value) is int and 0 <= value < 2**63:
            return value
        raise ValueError(kind)
    if type(value) is not str or "\0" in value:
        raise ValueError(kind)
    if kind == "timestamptz":
        moment = dt.datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError(kind)
        return moment.astimezone(dt.UTC)
    return uuid.UUID(value) if kind == "uuid" else value
