"""What a task's body says of its deadline and of what it is on: a value, that there is none, or nothing at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from projections.columns import number
from schemas.wire import text_time

_MAX_SECONDS = 10**11  # as in schemas/wire.py: the year 5138
_SECOND = 1_000_000

_ELEMENTS = {1: "contact", 2: "lead", 3: "company", 12: "customer"}
"""What a task may be on, by element_type (dotzero/amocrm-php, src/Models/Note.php)."""


def from_unix_seconds(value: Any) -> int | None:
    """Return microseconds since 1970 from unix seconds, None for what is no time."""
    return value * _SECOND if type(value) is int and 0 < value < _MAX_SECONDS else None


def deadline(fields: Mapping[str, Any]) -> tuple[int | None] | None:
    """Return what a body says of the deadline: (microseconds), (None,) for none; None where it says nothing.

    complete_before is unix seconds, complete_till "Y-m-d H:i:s" in UTC; 0, an empty text and -1 mean none.
    """
    before, till = fields.get("complete_before"), fields.get("complete_till")
    at = from_unix_seconds(before) or text_time(till)
    if at is not None:
        return (at,)
    none = ("complete_before" in fields and _is_none(before)) or ("complete_till" in fields and _is_none(till))
    return (None,) if none else None


def on(fields: Mapping[str, Any]) -> tuple[str | None, str | None] | None:
    """Return what a body says the task is on: (type, id), (None, None) for nothing; None where it does not say it."""
    if "element_id" not in fields:
        return None
    kind, identifier = fields.get("element_type"), number(fields["element_id"])
    if identifier is not None and identifier > 0:
        if type(kind) is not int or kind < 0:
            return None
        entity = _ELEMENTS.get(kind)
        return (entity, str(identifier)) if entity else (None, None)
    return (None, None) if _is_none(fields["element_id"]) else None


def _is_none(value: Any) -> bool:
    return value is None or (type(value) in (int, str) and value in (0, -1, "", "0", "-1", "0000-00-00 00:00:00"))
