"""Values for columns: texts PostgreSQL can hold, numbers that are numbers."""

from __future__ import annotations

import re
from typing import Any

import orjson

_MAX_SUMMARY = 300

# NUL, which PostgreSQL cannot hold, and the marks that turn the direction of the words around a name.
_UNFIT = re.compile("[\0\u202a-\u202e\u2066-\u2069]")


def text(value: Any, limit: int = _MAX_SUMMARY) -> str | None:
    """Return a text of at most `limit` characters that stands safely beside others; None for nothing or no text."""
    if type(value) is not str or not value:
        return None
    held = _UNFIT.sub(_fit, value)
    return held if len(held) <= limit else held[: limit - 1] + "…"


def _fit(unfit: re.Match[str]) -> str:
    return "\ufffd" if unfit[0] == "\0" else ""


def number(value: Any) -> int | None:
    """Return a 64-bit number, None for anything else."""
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def jsonb(value: Any) -> str | None:
    """Return JSON for a jsonb column, None for nothing or for what is nested too deep to be written.

    NUL, which jsonb cannot hold, becomes U+FFFD.
    """
    if not value:
        return None
    try:
        written = orjson.dumps(value)
    except orjson.JSONEncodeError:
        return None
    return (orjson.dumps(_without_nul(value)) if b"\\u0000" in written else written).decode()


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return [_without_nul(item) for item in value] if isinstance(value, list) else value
