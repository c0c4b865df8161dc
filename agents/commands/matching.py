"""Whether what lies at Kommo is what a command sent: pure functions, for the look before a repeat.

Kommo keeps nothing of a request by which it could be known again (request_id is echoed, not stored), so all that was
sent is compared. What Kommo may have added (automations fill in fields at once) does not count against a match, nor
does the form that it gives a value: spaces around a text, a number as text, a date as the day's beginning, an order.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def says(item: Json, sent: Json) -> bool:
    """Return whether an entity as Kommo shows it has everything that was sent for it."""
    return all(_SPECIAL.get(name, _equal)(item, name, value) for name, value in sent.items())


def named_by_kommo(item: Json) -> bool:
    """Return whether a lead or contact has no name of its own: Kommo shows its id then."""
    name = item.get("name") or ""
    return not name or str(item.get("id")) in name


def _equal(item: Json, name: str, value: Any) -> bool:
    found = item.get(name)
    return _same(found, value) or (found is None and value in (0, "", False))


def _same(found: Any, sent: Any) -> bool:
    if found == sent:
        return True
    if isinstance(found, bool) or isinstance(sent, bool) or found is None:
        return False
    if isinstance(found, str) and isinstance(sent, str):
        return _plain(found) == _plain(sent)
    a, b = _number(found), _number(sent)
    return a is not None and a == b


def _plain(text: str) -> str:
    return "\n".join(text.splitlines()).strip()


def _number(value: Any) -> float | None:
    """Return a number, that of a text, or the unix seconds of a moment as text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        moment = dt.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


def _custom(item: Json, name: str, sent: Any) -> bool:
    there = item.get(name) or []
    return all(_field(there, field) for field in sent)


def _field(there: list[Json], sent: Json) -> bool:
    key = "field_id" if "field_id" in sent else "field_code"
    field = next((field for field in there if field.get(key) == sent[key]), {})
    left, wanted = list(field.get("values") or []), sent["values"] or []
    if not left and all(value == {"value": False} for value in wanted):
        return True  # a field without values; and a box that is not checked may have none
    for value in wanted:
        match = next((one for one in left if _value(one, value, field.get("field_type"))), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def _value(found: Json, sent: Json, field_type: Any) -> bool:
    # Kommo shows a choice with its id, code and value.
    for name, value in sent.items():
        there = found.get(name)
        if _same(there, value):
            continue
        a, b = _number(there), _number(value)
        if name != "value" or a is None or b is None:
            return False
        if not (a == b if field_type == "numeric" else field_type in _DAYS and abs(a - b) < _DAY_SECONDS):
            return False
    return True


_DAYS = ("date", "birthday")
_DAY_SECONDS = 86_400


def _embedded(item: Json, name: str, sent: Any) -> bool:
    there = item.get(name) or {}
    if not _names(sent.get("tags")) <= _names(there.get("tags")):
        return False
    if "tags" in sent and not sent["tags"] and there.get("tags"):
        return False
    ids = {contact.get("id") for contact in there.get("contacts") or []}
    return {contact["id"] for contact in sent.get("contacts", []) if "id" in contact} <= ids


def _tags_added(item: Json, _name: str, sent: Any) -> bool:
    return _embedded(item, "_embedded", {"tags": sent})


def _tags_deleted(item: Json, _name: str, sent: Any) -> bool:
    return not _names((item.get("_embedded") or {}).get("tags")) & _names(sent)


def _names(tags: Any) -> set[str]:
    return {_plain(str(tag.get("name"))) for tag in tags or []}


def _params(item: Json, name: str, sent: Any) -> bool:
    there = item.get(name) or {}
    if "uniq" in sent:  # names the call
        return bool(there.get("uniq") == sent["uniq"])
    return all(_same(there.get(key), value) for key, value in sent.items())


def _result(item: Json, name: str, sent: Any) -> bool:
    there = item.get(name)
    return isinstance(there, dict) and _same(there.get("text"), sent["text"])


_SPECIAL = {
    "custom_fields_values": _custom,
    "_embedded": _embedded,
    "tags_to_add": _tags_added,
    "tags_to_delete": _tags_deleted,
    "params": _params,
    "result": _result,
}
