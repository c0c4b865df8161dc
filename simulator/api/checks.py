"""What Kommo checks in one item of a write, each failure by its code and path.

Codes seen at Kommo: NotSupportedChoice (amocrm/amocrm-api-php #480), TooLong; FieldMissing, InvalidType, TooMany and
TooHigh are INFERRED from how its validator names things.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Any, Final

from simulator.api.catalogue import CHOICES, CODES, FIELDS, Field
from simulator.api.errors import NOT_A_CHOICE, Issue

Json = dict[str, Any]

_MISSING: Final = object()
_MOST_SECONDS: Final = 2**32


class Check:
    """Reads one item and collects what is wrong with it."""

    def __init__(self, item: Json) -> None:
        self.item = item
        self.issues: list[Issue] = []

    def missing(self, path: str) -> None:
        """Complain that something required is not there."""
        self.issues.append(Issue("FieldMissing", path, "This field is missing."))

    def wrong_type(self, path: str, wanted: str) -> None:
        """Complain about the type of a value."""
        self.issues.append(Issue("InvalidType", path, f"This value should be of type {wanted}."))

    def no_choice(self, path: str) -> None:
        """Complain about a value that is none of those there are."""
        self.issues.append(Issue("NotSupportedChoice", path, NOT_A_CHOICE))

    def text(self, name: str, *, required: bool = False, most: int | None = None, of: Json | None = None) -> str | None:
        """Return a text of the item, or of its params."""
        path = name if of is None else f"params.{name}"
        value = (self.item if of is None else of).get(name, _MISSING)
        if value is _MISSING or value is None or (required and value == ""):
            if required:
                self.missing(path)
            return None
        if not isinstance(value, str):
            self.wrong_type(path, "string")
            return None
        if most is not None and len(value) > most:
            detail = f"This value is too long. It should have {most} characters or less."
            self.issues.append(Issue("TooLong", path, detail))
        return value

    def integer(self, name: str, *, required: bool = False, of: Json | None = None) -> int | None:
        """Return an integer of the item, or of its params."""
        path = name if of is None else f"params.{name}"
        value = (self.item if of is None else of).get(name, _MISSING)
        if value is _MISSING or value is None:
            if required:
                self.missing(path)
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong_type(path, "int")
            return None
        return value

    def seconds(self, name: str, *, required: bool = False) -> int | None:
        """Return a time in unix seconds; one in milliseconds is refused (INFERRED: it would lie in the year 50,000)."""
        value = self.integer(name, required=required)
        if value is not None and not 0 <= value < _MOST_SECONDS:
            self.issues.append(Issue("TooHigh", name, "This value should be a Unix timestamp."))
            return None
        return value

    def choice(self, name: str, known: Collection[Any], *, required: bool = False) -> Any:
        """Return a value that must be one of some."""
        value = self.item.get(name, _MISSING)
        if value is _MISSING or value is None:
            if required:
                self.missing(name)
            return None
        if isinstance(value, dict | list | bool) or value not in known:
            self.no_choice(name)
            return None
        return value

    def flag(self, name: str) -> bool | None:
        """Return true, false, or none where the item does not say."""
        value = self.item.get(name)
        if value is not None and not isinstance(value, bool):
            self.wrong_type(name, "bool")
            return None
        return value

    def listed(self, name: str, of: Json | None = None) -> list[Json]:
        """Return a list of objects of the item's `_embedded`; empty where there is none."""
        embedded = self.item.get("_embedded") if of is None else of
        if embedded in (None, []):
            return []
        found = embedded.get(name) if isinstance(embedded, dict) else None
        if isinstance(embedded, dict) and found is None:
            return []
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            self.wrong_type(f"_embedded.{name}", "array")
            return []
        return found

    def fields(self, kind: str, most: int | None = None) -> list[Json] | None:
        """Return the item's custom fields, each with the values that it gets; none where it does not say.

        `most`: values in all, where there is such a limit (https://developers.kommo.com/docs/limitations).
        """
        told = self.item.get("custom_fields_values")
        if told is None:
            return None
        if not isinstance(told, list):
            self.wrong_type("custom_fields_values", "array")
            return None
        found = [self._field(kind, entry, f"custom_fields_values.{number}") for number, entry in enumerate(told)]
        kept = [one for one in found if one is not None]
        if most is not None and sum(len(one["values"]) for one in kept) > most:
            detail = f"This collection should contain {most} elements or less."
            self.issues.append(Issue("TooMany", "custom_fields_values", detail))
        return kept

    def _field(self, kind: str, entry: Any, path: str) -> Json | None:
        if not isinstance(entry, dict):
            self.wrong_type(path, "array")
            return None
        identifier, code = entry.get("field_id"), entry.get("field_code")
        known: Field | None
        if identifier is not None:
            known, named = FIELDS[kind].get(identifier) if isinstance(identifier, int) else None, "field_id"
        elif code is not None:
            known, named = CODES[kind].get(code) if isinstance(code, str) else None, "field_code"
        else:
            self.missing(f"{path}.field_id")
            return None
        if known is None:
            self.no_choice(f"{path}.{named}")
            return None
        values = entry.get("values")
        if values is not None and not isinstance(values, list):
            self.wrong_type(f"{path}.values", "array")
            return None
        read = [self._value(known, value, f"{path}.values.{number}") for number, value in enumerate(values or [])]
        told: Json = {"field_id": known.id, "field_name": known.name, "field_code": known.code}
        return told | {"field_type": known.type, "values": [value for value in read if value is not None]}

    def _value(self, known: Field, entry: Any, path: str) -> Json | None:
        if not isinstance(entry, dict):
            self.wrong_type(path, "array")
            return None
        if known.type in CHOICES:
            return self._chosen(known, entry, path)
        value = entry.get("value")
        if value is None:
            self.missing(f"{path}.value")
            return None
        if known.type == "multitext":
            return self._multitext(known, value, entry, path)
        read = _plain(known, value)
        if read is None:
            self.wrong_type(f"{path}.value", _WANTED.get(known.type, "string"))
            return None
        return {"value": read}

    def _chosen(self, known: Field, entry: Json, path: str) -> Json | None:
        chosen = entry.get("enum_id")
        if chosen is not None:
            if not isinstance(chosen, int) or chosen not in known.enums:
                self.no_choice(f"{path}.enum_id")
                return None
            return {"value": known.enums[chosen], "enum_id": chosen, "enum_code": None}
        for choice, value in known.enums.items():
            if value == entry.get("value"):
                return {"value": value, "enum_id": choice, "enum_code": None}
        self.no_choice(f"{path}.value")
        return None

    def _multitext(self, known: Field, value: Any, entry: Json, path: str) -> Json | None:
        if not isinstance(value, str):
            self.wrong_type(f"{path}.value", "string")
            return None
        chosen, code = entry.get("enum_id"), entry.get("enum_code")
        if chosen is None:
            chosen = next((choice for choice, kind in known.enums.items() if kind == (code or "WORK")), None)
            if chosen is None:
                self.no_choice(f"{path}.enum_code")
                return None
        elif not isinstance(chosen, int) or chosen not in known.enums:
            self.no_choice(f"{path}.enum_id")
            return None
        return {"value": value, "enum_id": chosen, "enum_code": known.enums[chosen]}


_WANTED: Final = {"numeric": "numeric", "checkbox": "bool", "date": "int", "birthday": "int"}


def _plain(known: Field, value: Any) -> str | int | bool | None:
    """Return a value as Kommo keeps it; none where the field cannot hold it."""
    if known.type == "checkbox":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if known.type in ("date", "birthday"):
        return _moment(value)
    if known.type == "numeric":
        try:
            float(value)
        except (TypeError, ValueError):
            return None
    return str(value) if isinstance(value, str | int | float) else None


def _moment(value: Any) -> int | None:
    """Return unix seconds of unix seconds or of an RFC 3339 text."""
    if isinstance(value, int):
        return value
    try:
        moment = dt.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return int(moment.timestamp()) if moment.tzinfo is not None else None
