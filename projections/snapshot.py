"""What an event's body says of its entity, in the form in which neighbours are compared.

Kommo sends whole entities, not differences: what changed is worked out on reading, from an entity's snapshots in
Kommo's order (0004_activity_log_v2.sql). A snapshot holds what a person would call a change, by the names of the
wire, and leaves out times and who did it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from projections import task_fields
from projections.columns import jsonb
from projections.reading import LoggedEvent
from schemas.event import utc_text
from schemas.wire import unix_seconds

_MOST_FIELDS = 500
"""Custom fields that are compared; an account of Kommo's has some dozens. What is over is too much for a page."""
_MOST_CHARACTERS = 20_000
"""Of one text: about what a note may have. Of a longer one its beginning is compared."""


def snapshot(event: LoggedEvent) -> str | None:
    """Return a snapshot as JSON, None for an event that describes nothing whole.

    {"fields": {name: value}, "custom": {field id: [name, value]}}. A field is compared where both neighbours have it,
    so what may be absent because it is empty is there as null. `custom` is there if the body is a whole one.
    """
    read = _READERS.get(event.entity_type)
    wire = event.data.get(event.entity_type)
    if not event.kind.snapshot or read is None or not isinstance(wire, dict):
        return None
    try:
        said: dict[str, Any] = {"fields": _cut(read(wire))}
        if _whole(wire) and event.entity_type not in ("task", "talk", "unsorted"):
            custom = _custom(wire.get("custom_fields"))
            if len(custom) <= _MOST_FIELDS:
                said["custom"] = custom
        return jsonb(said)
    except RecursionError:  # another gateway's value, nested too deep to be compared
        return None


def _cut(value: Any) -> Any:
    if type(value) is str:
        return value[:_MOST_CHARACTERS]
    if isinstance(value, dict):
        return {_cut(name): _cut(item) for name, item in value.items()}
    return [_cut(item) for item in value[:_MOST_FIELDS]] if isinstance(value, list) else value


def _whole(wire: dict[str, Any]) -> bool:
    """Whether a body describes its entity with all that is filled: then what is not there is empty."""
    return "date_create" in wire or "created_at" in wire


def _present(wire: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: wire[name] for name in names if name in wire}


def _entity(wire: dict[str, Any]) -> dict[str, Any]:
    fields = _present(wire, "name", "responsible_user_id", "group_id")
    if _whole(wire):
        fields["tags"] = _tags(wire.get("tags"))
    return fields


def _lead(wire: dict[str, Any]) -> dict[str, Any]:
    fields = _entity(wire) | _present(wire, "status_id", "pipeline_id", "price")
    if _whole(wire):
        fields.setdefault("price", None)
        fields["price"] = fields["price"] or None  # 0, empty and absent are one: no price
    return fields


def _person(wire: dict[str, Any]) -> dict[str, Any]:
    fields = _entity(wire)
    if _whole(wire):
        linked = wire.get("linked_leads_id")
        fields["linked_leads"] = sorted(linked) if isinstance(linked, dict) else []
    return fields


def _customer(wire: dict[str, Any]) -> dict[str, Any]:
    return _entity(wire) | _present(wire, "status_id", "next_price", "next_date", "periodicity")


def _task(wire: dict[str, Any]) -> dict[str, Any]:
    fields = _present(wire, "text", "status", "task_type", "responsible_user_id")
    due, element = task_fields.deadline(wire), task_fields.on(wire)
    if due is not None:
        fields["deadline"] = utc_text(due[0]) if due[0] is not None else None
    if element is not None:
        fields["on"] = "/".join(filter(None, element)) or None
    result = wire.get("result")
    if _whole(wire):
        fields["result"] = result.get("text") if isinstance(result, dict) else None
    return fields


def _catalog_element(wire: dict[str, Any]) -> dict[str, Any]:
    return _present(wire, "name", "deleted")


def _talk(wire: dict[str, Any]) -> dict[str, Any]:
    return _present(wire, "is_in_work", "is_read", "rate")


def _unsorted(wire: dict[str, Any]) -> dict[str, Any]:
    return _present(wire, "pipeline_id", "lead_id")


_READERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "lead": _lead,
    "contact": _person,
    "company": _person,
    "customer": _customer,
    "task": _task,
    "catalog_element": _catalog_element,
    "talk": _talk,
    "unsorted": _unsorted,
}


def _tags(tags: Any) -> list[str]:
    items = tags if isinstance(tags, list) else tags.values() if isinstance(tags, dict) else ()
    return sorted({str(item.get("name")) for item in items if isinstance(item, dict)})


def _custom(fields: Any) -> dict[str, list[Any]]:
    items = fields if isinstance(fields, list) else fields.values() if isinstance(fields, dict) else ()
    return {
        str(item["id"]): [_cut(str(item.get("name") or item["id"])), _cut(_value(item.get("values")))]
        for item in items
        if isinstance(item, dict) and "id" in item
    }


def _value(values: Any) -> Any:
    """Return a custom field's value, or its values as a list: Kommo nests them in three ways (models.CustomField)."""
    if isinstance(values, dict):
        values = [values] if "value" in values else list(values.values())
    if not isinstance(values, list):
        return values
    found = [item["value"] if isinstance(item, dict) and "value" in item else _date(item) for item in values]
    return found[0] if len(found) == 1 else found


def _date(item: Any) -> Any:
    """Return the value of a date field, which alone comes bare, as RFC 3339 in UTC; anything else as it is."""
    microseconds = unix_seconds(item)
    return utc_text(microseconds) if microseconds else item
