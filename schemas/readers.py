"""One reader for each entity of Kommo's webhooks: what an item's own fields prove to have happened.

A reader gets the action and the item (all texts) and returns a Reading, or None for what it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.body import deeper_than
from schemas.catalogue import EVENT_TYPES, EventType
from schemas.form import MAX_DEPTH
from schemas.models import (
    Call,
    CatalogElement,
    ChatTemplateReview,
    Contact,
    Customer,
    Integration,
    Lead,
    Message,
    Note,
    Talk,
    Task,
    Unsorted,
)
from schemas.wire import Wire, as_lists, as_model, number, text_time, unix_seconds

Changes = dict[str, dict[str, Any]]

_ID = re.compile(r"[1-9][0-9]{0,18}")
_UID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_ELEMENTS = {"1": "contact", "2": "lead", "3": "company", "4": "task", "12": "customer"}
_ENTITY_KEYS = {"leads": "lead", "contacts": "contact", "customers": "customer"}
_DESCRIBES = {"name", "responsible_user_id", "created_user_id", "price"}  # in every full body of a lead, in no hook
_TRIGGERS = {
    "lead": {"add", "status", "mail_in", "call_in", "chat", "site_visit"},
    "customer": {"period"},
}
"""The actions of the digital pipeline's hooks (https://developers.kommo.com/docs/webhooks-dp)."""
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


def _subject(entity: str, identifier: Any, field: str = "id", form: re.Pattern[str] = _ID) -> str:
    if type(identifier) is not str or not form.fullmatch(identifier):
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
    """Read a lead, contact, company or customer; they differ only in that leads have stages."""
    if action == "delete":
        return _delete(entity, model, item)
    triggers = _TRIGGERS.get(entity, set())
    if action not in ("add", "update", "restore", "status", "responsible") and action not in triggers:
        return None
    fields = _fields(entity, item)
    # last_modified first: it is in the identity of a move, so the same move always has the same time.
    time_us = unix_seconds(fields.get("last_modified")) or unix_seconds(fields.get("updated_at"))
    subject = _subject(entity, fields.get("id"))
    if action in triggers and (action not in ("add", "status") or (time_us is None and not fields.keys() & _DESCRIBES)):
        # A hook of the digital pipeline: stage and id only, it says nothing of the lead's state.
        data = {"trigger": action, entity: as_model(model, fields)}
        changes = {**(_changed(fields, "status_id", "old_status_id") or {})}
        changes |= _changed(fields, "pipeline_id", "old_pipeline_id") or {}
        kind = EVENT_TYPES["kommo.digital_pipeline.triggered"]
        return Reading(subject, None, data, [Occurrence(kind, None, changes or None)])
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


def read_customer(action: str, item: Any) -> Reading | None:
    """Read an item under `customers`."""
    return _note("customers", item) if action == "note" else _entity("customer", Customer, action, item)


def read_unsorted(action: str, item: Any) -> Reading | None:
    """Read an item under `unsorted`: an incoming lead. Accepting and declining one arrive as its delete."""
    if action not in ("add", "update", "delete"):
        return None
    fields = _fields("unsorted", {"uid": item} if action == "delete" and type(item) is str else item)
    subject = _subject("unsorted", fields.get("uid"), "uid", _UID)
    data = {"unsorted": as_model(Unsorted, fields)}
    # Only an add says when it happened: created_at of the others may be that of the incoming lead.
    time_us = unix_seconds(fields.get("created_at") or fields.get("date_create")) if action == "add" else None
    ended = {"accept": "accepted", "decline": "declined"}.get(str(fields.get("action")), "deleted")
    verb = {"add": "added", "update": "updated"}.get(action, ended)
    kind = EVENT_TYPES[f"kommo.unsorted.{verb}"]
    return Reading(subject, time_us, data, [Occurrence(kind, fields)])


def read_catalog(action: str, item: Any) -> Reading | None:
    """Read an item under `catalogs`: an element of a list."""
    if action == "delete":
        return _delete("catalog_element", CatalogElement, item)
    if action not in ("add", "update"):
        return None
    fields = _fields("catalog element", item)
    time_us = unix_seconds(fields.get("updated_at")) or unix_seconds(fields.get("date_modify"))
    subject = _subject("catalog_element", fields.get("id"))
    kind = EVENT_TYPES["kommo.catalog_element.added" if action == "add" else "kommo.catalog_element.updated"]
    return Reading(subject, time_us, {"catalog_element": as_model(CatalogElement, fields)}, [Occurrence(kind, fields)])


def read_talk(action: str, item: Any) -> Reading | None:
    """Read an item under `talk`."""
    if action not in ("add", "update"):
        return None
    fields = _fields("talk", item)
    time_us = unix_seconds(fields.get("updated_at")) or unix_seconds(fields.get("created_at"))
    subject = _subject("talk", fields.get("talk_id"), "talk_id")
    kind = EVENT_TYPES["kommo.talk.added" if action == "add" else "kommo.talk.updated"]
    return Reading(subject, time_us, {"talk": as_model(Talk, fields)}, [Occurrence(kind, fields)])


def read_message(action: str, item: Any) -> Reading | None:
    """Read an item under `message`."""
    return _message(item, "message.received") if action == "add" else None


def read_outgoing_message(action: str, item: Any) -> Reading | None:
    """Read an item under `outgoing_message`."""
    return _message(item, "message.sent") if action == "add" else None


def read_bare_add(index: str, item: Any) -> Reading | None:
    """Read an item under `add` alone: some receivers tell of messages that came so, without the key `message`."""
    is_message = type(item) is dict and item.keys() & {"chat_id", "talk_id"} and "author" in item
    return _message(item, "message.received") if is_message and index.isdecimal() else None


def _message(item: Any, name: str) -> Reading:
    fields = _fields("message", item)
    if fields.get("type") in ("incoming", "outgoing"):
        name = "message.received" if fields["type"] == "incoming" else "message.sent"
    time_us = unix_seconds(fields.get("created_at"))
    named = _pick(fields, "id", "created_at") if fields.get("id") and time_us else fields
    return Reading(
        _of_message(fields),
        time_us,
        {"message": as_model(Message, fields)},
        [Occurrence(EVENT_TYPES[f"kommo.{name}"], named)],
    )


def _of_message(fields: dict[str, Any]) -> str:
    """Return whom a message is news of: its lead (or what else it is tied to), its contact, its conversation."""
    entity = fields.get("entity_type")
    if entity not in ("lead", "contact", "company", "customer"):
        entity = _ELEMENTS.get(str(fields.get("element_type")))
    tied = fields.get("entity_id") or fields.get("element_id")
    for kind, identifier in ((entity, tied), ("contact", fields.get("contact_id")), ("talk", fields.get("talk_id"))):
        if kind and type(identifier) is str and _ID.fullmatch(identifier):
            return f"{kind}/{identifier}"
    return _subject("message", fields.get("id"), form=_UID)


def read_chat_template_review(action: str, item: Any) -> Reading | None:
    """Read an item under `chat_template_reviews`; None where it has no id, for no body of these is known."""
    if action != "add" or type(item) is not dict or not _ID.fullmatch(str(item.get("id"))):
        return None
    time_us = unix_seconds(item.get("updated_at")) or unix_seconds(item.get("created_at"))
    kind = EVENT_TYPES["kommo.chat_template.reviewed"]
    data = {"review": as_model(ChatTemplateReview, item)}
    return Reading(f"chat_template/{item['id']}", time_us, data, [Occurrence(kind, item)])


def read_disabled_integration(query: dict[str, Any]) -> Reading:
    """Read the query of the call that tells of a disabled integration. Raises ItemError."""
    kind = EVENT_TYPES["kommo.integration.disabled"]
    subject = _subject("integration", query.get("client_uuid"), "client_uuid", _UID)
    return Reading(subject, None, {"integration": as_model(Integration, query)}, [Occurrence(kind, None)])


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
    link = call.get("link")
    if link:
        # A link that is no text is named by the text it stands in: what it is read as must not name it.
        named = {"call": identity, "LINK": link if type(link) is str else note["text"]}
        found.append(Occurrence(EVENT_TYPES["kommo.call.recorded"], named))
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
    if type(params) is not dict or deeper_than(MAX_DEPTH, params):
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
    "customers": read_customer,
    "task": read_task,
    "unsorted": read_unsorted,
    "catalogs": read_catalog,
    "talk": read_talk,
    "message": read_message,
    "outgoing_message": read_outgoing_message,
    "chat_template_reviews": read_chat_template_review,
    "add": read_bare_add,
}
"""By the top-level key of a body."""
