"""One reader for each entity of Kommo's webhooks: what an item's own fields prove to have happened.

A reader gets the action and the item (all texts) and returns a Reading, or None for what it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.catalogue import EVENT_TYPES, EventType
from schemas.form import MAX_DEPTH
from schemas.models import Call, Contact, Lead, Note, Task
from schemas.wire import Wire, as_lists, as_model, number, text_time, unix_seconds

Changes = dict[str, dict[str, Any]]

_ID = re.compile(r"[1-9][0-9]{0,18}")
_ELEMENTS = {"1": "contact", "2": "lead", "3": "company"}
_ENTITY_KEYS = {"leads": "lead", "contacts": "contact"}
_DESCRIBES = {"name", "responsible_user_id", "created_user_id", "price"}  # in every full body of a lead, in no hook
_CALLS = {"10": "in", "11": "out"}


class ItemError(ValueError):
    """An item that cannot become an event; the message names the field."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One thing that happened: its type, the wire texts that name it, and the changes the body proves."""

    type: EventType
    identity: Any
    changes: Changes | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one item says: of which entity, when (microseconds UTC, None where it says none), and what happened."""

    subject: str
    time_us: int | None
    data: dict[str, Any]
    occurrences: list[Occurrence]


def _pick(item: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: item.get(name) for name in names}


def _says_when(fields: dict[str, Any]) -> bool:
    return any(
        unix_seconds(fields.get(name)) or text_time(fields.get(name)) for name in ("last_modified", "updated_at")
    )


def _changed(item: dict[str, Any], name: str, old_name: str) -> Changes | None:
    """Return {name: {from, to}} where the body carries an old value that differs, else None."""
    old, new = item.get(old_name), item.get(name)
    if not old or new is None or old == new:
        return None
    return {name: {"from": number(old), "to": number(new)}}


def _subject(entity: str, identifier: Any, field: str = "id") -> str:
    if type(identifier) is not str or not _ID.fullmatch(identifier):
        shown = "no" if identifier is None else f"the {str(identifier)[:40]!r} as"
        raise ItemError(f"a {entity} with {shown} {field}")
    return f"{entity}/{identifier}"


def _delete(entity: str, model: type[Wire], item: Any) -> Reading:
    if type(item) is str:  # {entity: {delete: id}}, as the Russian reference has it
        item = {"id": item}
    if type(item) is not dict:
        raise ItemError(f"a deleted {entity} that is not a map of fields")
    kind = EVENT_TYPES[f"kommo.{entity}.deleted"]
    return Reading(_subject(entity, item.get("id")), None, {entity: as_model(model, item)}, [Occurrence(kind, None)])


def _fields(entity: str, item: Any) -> dict[str, Any]:
    if type(item) is not dict:
        raise ItemError(f"a {entity} that is not a map of fields")
    return item


def _entity(entity: str, model: type[Wire], action: str, item: Any) -> Reading | None:
    """Read a lead, contact or company; they differ only in that leads have stages."""
    if action == "delete":
        return _delete(entity, model, item)
    if action not in ("add", "update", "restore", "status", "responsible"):
        return None
    fields = _fields(entity, item)
    # last_modified first: it is in the identity of a move, so the same move always has the same time.
    time_us = unix_seconds(fields.get("last_modified")) or unix_seconds(fields.get("updated_at"))
    if time_us is None and entity == "lead" and action in ("add", "status") and not fields.keys() & _DESCRIBES:
        return None  # a digital pipeline hook: stage and id only, it says nothing of the lead's state
    subject = _subject(entity, fields.get("id"))
    return Reading(subject, time_us, {entity: as_model(model, fields)}, _happened(entity, action, fields))


def _happened(entity: str, action: str, fields: dict[str, Any]) -> list[Occurrence]:
    simple = {"add": "added", "restore": "restored"}.get(action)
    if simple:
        return [Occurrence(EVENT_TYPES[f"kommo.{entity}.{simple}"], fields)]
    found: list[Occurrence] = []
    # Where the responsible user changed, old_status_id is a stale copy (corpus 040).
    moved = _changed(fields, "status_id", "old_status_id") if entity == "lead" and action != "responsible" else None
    if moved or (action == "status" and entity == "lead"):
        moved = {**(moved or {}), **(_changed(fields, "pipeline_id", "old_pipeline_id") or {})}
        # A move that does not say when would be one and the same for ever: then all its fields name it.
        named = ("old_status_id", "status_id", "pipeline_id", "last_modified")
        identity = _pick(fields, *named) if unix_seconds(fields.get("last_modified")) else fields
        found.append(Occurrence(EVENT_TYPES["kommo.lead.status_changed"], identity, moved))
    handed = _changed(fields, "responsible_user_id", "old_responsible_user_id") if action != "status" else None
    if handed or action == "responsible":
        names = ("old_responsible_user_id", "responsible_user_id", "last_modified", "updated_at")
        kind = EVENT_TYPES[f"kommo.{entity}.responsible_changed"]
        found.append(Occurrence(kind, _pick(fields, *names) if _says_when(fields) else fields, handed))
    return found or [Occurrence(EVENT_TYPES[f"kommo.{entity}.updated"], fields)]


def read_lead(action: str, item: Any) -> Reading | None:
    """Read an item under `leads`."""
    return _note("leads", item) if action == "note" else _entity("lead", Lead, action, item)


def read_contact(action: str, item: Any) -> Reading | None:
    """Read an item under `contacts`: contacts and companies, told apart by `type`."""
    if action == "note":
        return _note("contacts", item)
    kind = item.get("type") if type(item) is dict else None
    if kind not in (None, "", "contact", "company"):
        return None
    return _entity("company" if kind == "company" else "contact", Contact, action, item)


def read_task(action: str, item: Any) -> Reading | None:
    """Read an item under `task`."""
    if action == "delete":
        return _delete("task", Task, item)
    if action not in ("add", "update"):
        return None
    fields = _fields("task", item)
    time_us = unix_seconds(fields.get("updated_at")) or text_time(fields.get("last_modified"))
    subject = _subject("task", fields.get("id"))
    data = {"task": as_model(Task, fields)}
    if action == "add":
        return Reading(subject, time_us, data, [Occurrence(EVENT_TYPES["kommo.task.added"], fields)])
    return Reading(subject, time_us, data, _task_happened(fields))


def _task_happened(fields: dict[str, Any]) -> list[Occurrence]:
    found: list[Occurrence] = []

    def add(name: str, *identity: str, changes: Changes | None = None) -> None:
        names = (*identity, "last_modified", "updated_at")
        named = _pick(fields, *names) if _says_when(fields) else fields
        found.append(Occurrence(EVENT_TYPES[f"kommo.task.{name}"], named, changes))

    result = fields.get("result")
    if fields.get("status") == "1" and fields.get("action_close") == "1":
        add("completed")
    elif type(result) is dict and result.get("id"):
        add("result_added", "result")
    handed = _changed(fields, "responsible_user_id", "old_responsible_user_id")
    if handed:
        add("responsible_changed", "old_responsible_user_id", "responsible_user_id", changes=handed)
    old, new = fields.get("old_text"), fields.get("text")
    if type(old) is str and type(new) is str and old and old != new:
        add("text_changed", "old_text", "text", changes={"text": {"from": old, "to": new}})
    return found or [Occurrence(EVENT_TYPES["kommo.task.updated"], fields)]


def _note(key: str, item: Any) -> Reading | None:
    outer = _fields("note", item)
    inner = outer.get("note")
    fields: dict[str, Any] = inner if type(inner) is dict else outer
    quoted = _unquoted(fields)
    note = quoted or fields
    element = note.get("element_type")
    entity = _ELEMENTS.get(element) if type(element) is str else None
    if entity is None:
        if element not in (None, "", "0"):
            return None
        entity = "company" if outer.get("type") == "company" else _ENTITY_KEYS[key]
    subject = _subject(entity, note.get("element_id"), "element_id")
    time_us = unix_seconds(note.get("created_at")) or text_time(note.get("date_create"), utc_plus_3=quoted is None)
    data: dict[str, Any] = {"note": as_model(Note, note)}
    if fields is not outer and len(outer) > 1:
        data["beside"] = as_lists({name: value for name, value in outer.items() if name != "note"})
    direction = _CALLS.get(str(note.get("note_type")))
    if direction is None:
        return Reading(subject, time_us, data, [Occurrence(EVENT_TYPES["kommo.note.added"], outer)])
    call, identity = _call(direction, note, outer)
    found = [Occurrence(EVENT_TYPES["kommo.call.logged"], identity)]
    if call.get("link"):
        found.append(Occurrence(EVENT_TYPES["kommo.call.recorded"], {"call": identity, "LINK": call["link"]}))
    return Reading(subject, time_us, {"call": as_model(Call, call), **data}, found)


def _unquoted(fields: dict[str, Any]) -> dict[str, Any] | None:
    """Return the fields without the literal quotes that bodies of 2017 put around texts; None for other bodies."""
    date = fields.get("date_create")
    if type(date) is not str or len(date) < 2 or not date.startswith("'") or not date.endswith("'"):
        return None
    return {
        name: value[1:-1] if type(value) is str and len(value) > 1 and value[0] == value[-1] == "'" else value
        for name, value in fields.items()
    }


def _call(direction: str, note: dict[str, Any], outer: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the call a note's text describes in JSON, and the wire texts that name it."""
    try:
        params = orjson.loads(note.get("text") or "")
    except (orjson.JSONDecodeError, TypeError):
        params = None
    if type(params) is not dict or _deeper_than(MAX_DEPTH, params):
        params = {}
    call: dict[str, Any] = {"direction": direction}
    for name, value in params.items():
        known = _CALL_FIELDS.get(name.upper(), name)
        call[known if known != "direction" else "DIRECTION"] = value
    uniq = call.get("uniq")
    if uniq and type(uniq) in (str, int):
        return call, {"UNIQ": str(uniq)}
    identifier = note.get("id")
    return call, {"id": identifier} if identifier else outer


def _deeper_than(levels: int, value: Any) -> bool:
    children = value.values() if type(value) is dict else value if type(value) is list else ()
    return any(levels == 0 or _deeper_than(levels - 1, child) for child in children)


_CALL_FIELDS = {
    "UNIQ": "uniq",
    "LINK": "link",
    "PHONE": "phone",
    "DURATION": "duration",
    "SRC": "source",
    "CALL_STATUS": "call_status",
    "CALL_RESULT": "call_result",
}

READERS: dict[str, Callable[[str, Any], Reading | None]] = {
    "leads": read_lead,
    "contacts": read_contact,
    "task": read_task,
}
