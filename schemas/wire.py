"""How Kommo writes values on the wire: everything is text, and a number may be missing, empty or not a number."""

from __future__ import annotations

import datetime as dt
import functools
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_INT64 = 2**63

_UTC3 = dt.timezone(dt.timedelta(hours=3))


def number(text: Any) -> Any:
    """Return the number a wire text is; None for an empty text, and what was given where it is no number."""
    if type(text) is str:
        if text.isascii() and (text.isdecimal() or (text[:1] == "-" and text[1:].isdecimal())) and len(text) <= 18:
            return int(text)
        return text or None
    return text


Int = Annotated[
    Annotated[int, Field(strict=True, ge=-_INT64, lt=_INT64)] | Any | None,
    Field(union_mode="left_to_right"),
    BeforeValidator(number),
]
"""A number; None where Kommo sent an empty text; what it sent where that is no number (seen: "17265663a90")."""

_INT_ANNOTATION = get_args(Int)[0]

Text = Annotated[str | Any, Field(union_mode="left_to_right")]
"""A text; what Kommo sent where that is a nest (seen: [type]=3 beside [type][message_uuid]=...)."""


class Wire(BaseModel):
    """A part of a body. Fields no model knows yet stay in it as they came."""

    model_config = ConfigDict(extra="allow", frozen=True)


def as_lists(value: Any) -> Any:
    """Return nested dictionaries with those keyed "0", "1", ... turned into lists.

    Only a whole run from 0 is a list: maps keyed by ids (linked_leads_id) stay maps.
    """
    if type(value) is not dict:
        return value
    if "0" in value and all(key == str(number) for number, key in enumerate(value)):
        return [as_lists(item) for item in value.values()]
    return {key: as_lists(item) if type(item) is dict else item for key, item in value.items()}


@functools.cache
def _number_fields(model: type[BaseModel]) -> frozenset[str]:
    """The fields of a model that are numbers, from its annotations."""
    return frozenset(name for name, field in model.model_fields.items() if field.annotation == _INT_ANNOTATION)


def as_model(model: type[BaseModel], wire: dict[str, Any]) -> dict[str, Any]:
    """Return an item's fields in the form its model has: numbers as numbers, lists as lists, all else as it came.

    What the model would make of them, for a fifth of the time; the model is for those who read events.
    """
    numbers = _number_fields(model)
    fields = {
        name: number(value) if name in numbers else as_lists(value) if type(value) is dict else value
        for name, value in wire.items()
    }
    custom = fields.get("custom_fields")
    if type(custom) is list:
        for field in custom:
            if type(field) is dict and "id" in field:
                field["id"] = number(field["id"])
    return fields


def unix_seconds(text: Any) -> int | None:
    """Return a time in microseconds since 1970 from unix seconds as text; None where it is none."""
    if type(text) is not str or not text.isdecimal() or len(text) > 11 or not text.isascii():
        return None
    return int(text) * 1_000_000 or None


def text_time(text: Any, *, utc_plus_3: bool = False) -> int | None:
    """Return microseconds since 1970 from "Y-m-d H:i:s" (UTC, or UTC+3 as in notes); None where it is none."""
    if type(text) is not str or len(text) != 19:
        return None
    try:
        moment = dt.datetime.strptime(text, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 the zone follows
    except ValueError:
        return None
    microseconds = int(moment.replace(tzinfo=_UTC3 if utc_plus_3 else dt.UTC).timestamp()) * 1_000_000
    return microseconds if microseconds > 0 else None
