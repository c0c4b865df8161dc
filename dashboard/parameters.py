"""The query parameters: one table that reads them, says what is wrong with them, and describes them in OpenAPI."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.problem import Problem
from schemas.actions import ACTIONS
from schemas.catalogue import EVENT_TYPES
from schemas.errors import ErrorClass

DEFAULT_LIMIT, MOST_ROWS = 50, 500
MOST_CURSOR = 2048
TASK_STATES = ["open", "completed", "deleted"]
DIRECTIONS = ["in", "out"]
COMMAND_STATES = ["waiting", "succeeded", "failed", "unknown"]
ERROR_CLASSES = [item.value for item in ErrorClass]
MOST_READER = 100
MOST_WAIT = 10

_ACCOUNT = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_USER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_ENTITY = re.compile(r"([a-z][a-z0-9_]{0,63})(?:/([^\s\x00-\x1f\x7f]{1,128}))?", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _account(text: str) -> int:
    if not _ACCOUNT.fullmatch(text) or int(text) >= 2**63:
        raise ValueError("must be the number of a Kommo account, for example 31337")
    return int(text)


def _entity(text: str) -> tuple[str, str | None]:
    found = _ENTITY.fullmatch(text)
    if found is None:
        raise ValueError("must be an entity type or type/id, for example lead or lead/123")
    return found[1], found[2]


def _one_of(*accepted: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in accepted:
            raise ValueError(f"must be {', '.join(accepted[:-1])} or {accepted[-1]}")
        return text

    return read


def _truth(text: str) -> bool:
    return _one_of("true", "false")(text) == "true"


def _user(text: str) -> int:
    if not _USER.fullmatch(text) or int(text) >= 2**63:
        raise ValueError("must be the number of a user of Kommo, for example 11087123")
    return int(text)


def _reader(text: str) -> str:
    if not 1 <= len(text) <= MOST_READER or "\0" in text:
        raise ValueError("must be the name of what sets aside, for example ingest, commands or activity_log.v2")
    return text


def _event_type(text: str) -> str:
    if text not in EVENT_TYPES:
        raise ValueError(
            "is no event type of this version: give a full name such as kommo.lead.added; "
            "/openapi.json lists them all at this parameter"
        )
    return text


def _time(text: str) -> dt.datetime:
    # A "+" that was not percent-encoded arrives as a space.
    if not _TIME.fullmatch(text):
        raise ValueError(
            "must be a time with its zone as in RFC 3339, for example 2026-03-01T00:00:00Z (write + as %2B)"
        )
    try:
        return dt.datetime.fromisoformat(text.upper()).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise ValueError("is no date and time that exists") from None


def _wait(text: str) -> int:
    if not _NUMBER.fullmatch(text) or not 0 <= int(text) <= MOST_WAIT:
        raise ValueError(f"must be a whole number of seconds from 0 to {MOST_WAIT}")
    return int(text)


def _limit(text: str) -> int:
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= MOST_ROWS:
        raise ValueError(f"must be a whole number from 1 to {MOST_ROWS}")
    return int(text)


def _cursor(text: str) -> str:
    if not 1 <= len(text) <= MOST_CURSOR:
        raise ValueError("is no cursor: take next_cursor of an answer as it is")
    return text


def _event_id(text: str) -> uuid.UUID:
    if not _UUID.fullmatch(text):
        raise ValueError("must be the id of an event (a UUID)")
    return uuid.UUID(text)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter. `read` returns its value, or raises ValueError that says what is accepted."""

    name: str
    read: Callable[[str], Any]
    description: str
    schema: dict[str, Any]
    repeats: bool = False

    def openapi(self) -> dict[str, Any]:
        """Return its OpenAPI parameter object."""
        schema = {"type": "array", "items": self.schema} if self.repeats else self.schema
        shape: dict[str, Any] = {
            "name": self.name,
            "in": "query",
            "required": False,
            "description": self.description,
            "schema": schema,
        }
        return shape | ({"style": "form", "explode": True} if self.repeats else {})


_DATE_TIME = {"type": "string", "format": "date-time"}

ACCOUNT = Parameter(
    "account",
    _account,
    "Only this Kommo account. Without it: every account the token is for.",
    {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
)
_ENTITY_SCHEMA = {"type": "string", "pattern": r"^[a-z][a-z0-9_]{0,63}(/\S{1,128})?$", "examples": ["lead", "lead/123"]}
_PAGES = (
    Parameter(
        "limit",
        _limit,
        "Most items in the answer.",
        {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": DEFAULT_LIMIT},
    ),
    Parameter(
        "cursor",
        _cursor,
        "Go on after a page: its `next_cursor`, with the other parameters as they were (`limit` may change).",
        {"type": "string", "maxLength": MOST_CURSOR},
    ),
)
_PAGING = (
    *_PAGES,
    Parameter(
        "wait_for",
        _event_id,
        "Answer once this event is visible here (read your own write); at most 10 s, then 504.",
        {"type": "string", "format": "uuid"},
    ),
)
LIST = (
    ACCOUNT,
    Parameter("entity", _entity, "Only entities of this type (`lead`), or one entity (`lead/123`).", _ENTITY_SCHEMA),
    Parameter(
        "type",
        _event_type,
        "Only events of this type; may be given several times.",
        {"type": "string", "enum": list(EVENT_TYPES)},
        repeats=True,
    ),
    Parameter("since", _time, "Only what happened at this time or later.", _DATE_TIME),
    Parameter("until", _time, "Only what happened before this time.", _DATE_TIME),
    *_PAGING,
)
TASKS = (
    ACCOUNT,
    Parameter(
        "entity",
        _entity,
        "Only tasks on entities of this type (`lead`), or on one entity (`lead/123`).",
        _ENTITY_SCHEMA,
    ),
    Parameter("state", _one_of(*TASK_STATES), "Only tasks in this state.", {"type": "string", "enum": TASK_STATES}),
    Parameter(
        "responsible",
        _user,
        "Only tasks of this user of Kommo.",
        {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
    ),
    Parameter(
        "overdue",
        _truth,
        "`true`: only open tasks whose deadline has passed; `false`: only all others.",
        {"type": "boolean"},
    ),
    Parameter("since", _time, "Only tasks whose deadline is at this time or later.", _DATE_TIME),
    Parameter("until", _time, "Only tasks whose deadline is before this time.", _DATE_TIME),
    *_PAGING,
)
CALLS = (
    ACCOUNT,
    Parameter(
        "entity",
        _entity,
        "Only calls on entities of this type (`contact`), or on one entity (`contact/123`).",
        _ENTITY_SCHEMA,
    ),
    Parameter(
        "direction", _one_of(*DIRECTIONS), "Only calls in this direction.", {"type": "string", "enum": DIRECTIONS}
    ),
    Parameter("since", _time, "Only calls at this time or later.", _DATE_TIME),
    Parameter("until", _time, "Only calls before this time.", _DATE_TIME),
    Parameter(
        "recording", _truth, "`true`: only calls with a recording; `false`: only those without.", {"type": "boolean"}
    ),
    *_PAGING,
)
COMMANDS = (
    ACCOUNT,
    Parameter(
        "entity",
        _entity,
        "Only commands about entities of this type (`lead`), or about one entity (`lead/123`).",
        _ENTITY_SCHEMA,
    ),
    Parameter(
        "state", _one_of(*COMMAND_STATES), "Only commands in this state.", {"type": "string", "enum": COMMAND_STATES}
    ),
    Parameter("action", _one_of(*ACTIONS), "Only commands of this action.", {"type": "string", "enum": list(ACTIONS)}),
    Parameter("since", _time, "Only commands whose last news is at this time or later.", _DATE_TIME),
    Parameter("until", _time, "Only commands whose last news is before this time.", _DATE_TIME),
    *_PAGING,
)
DEAD_LETTERS = (
    ACCOUNT,
    Parameter(
        "class", _one_of(*ERROR_CLASSES), "Only letters of this error class.", {"type": "string", "enum": ERROR_CLASSES}
    ),
    Parameter(
        "reader",
        _reader,
        "Only what this one set aside: `ingest`, `commands`, `activity_log.v2`, ...",
        {"type": "string", "minLength": 1, "maxLength": MOST_READER},
    ),
    Parameter("since", _time, "Only letters set aside (last) at this time or later.", _DATE_TIME),
    Parameter("until", _time, "Only letters set aside (last) before this time.", _DATE_TIME),
    *_PAGES,
)
WAIT = Parameter(
    "wait",
    _wait,
    "Answer once the command has ended or a person must decide, after at most so many seconds in any case.",
    {"type": "integer", "minimum": 0, "maximum": MOST_WAIT, "default": 0},
)


def read(pairs: Iterable[tuple[str, str]], accepted: tuple[Parameter, ...]) -> Mapping[str, Any]:
    """Return the values by name; of a parameter that repeats, a sorted tuple without doubles.

    Raises Problem 400 that names every wrong, doubled and unknown parameter and what is accepted.
    """
    known = {parameter.name: parameter for parameter in accepted}
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, text in pairs:
        parameter = known.get(name)
        if parameter is None:
            wrong[name[:64]] = f"is not known here: there are {', '.join(known) or 'no parameters'}"
        elif name in values and not parameter.repeats:
            wrong[name] = "is given twice: give it once"
        else:
            try:
                value = parameter.read(text)
            except ValueError as error:
                wrong[name] = str(error)
            else:
                values[name] = (*values.get(name, ()), value) if parameter.repeats else value
    if not wrong and "since" in values and "until" in values and values["since"] >= values["until"]:
        wrong["until"] = "must be later than since"
    if wrong:
        raise refuse(wrong)
    return {name: tuple(sorted(set(v))) if known[name].repeats else v for name, v in values.items()}


def refuse(wrong: Mapping[str, str]) -> Problem:
    """Return the Problem 400 that names wrong parameters, each with what is wrong about it."""
    listed = list(wrong.items())[:20]
    detail = "; ".join(f"parameter {name} {text}" for name, text in listed)
    return Problem(400, detail, parameters=[{"name": name, "detail": text} for name, text in listed])
