"""The webhooks that a change made through the API causes, as `simulate` words them (simulator/items.py).

Where a stage changed, both leads[status] and leads[update] are sent, as for a subscriber of both.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any, Final

from simulator.api.state import SINGULAR, Json
from simulator.company import SimulatedDelivery
from simulator.generations import GENERATIONS, NEWEST
from simulator.items import call_text, lead_item, note_item, person_item, task_item
from simulator.notes import KEYS
from simulator.records import Kind, Lead, Named, Note, Person, Task
from simulator.wire import Item, request_headers
from simulator.world import USER_NAMES, Change, Common

NOTE_TYPES: Final = {
    "common": 4,
    "attachment": 5,
    "call_in": 10,
    "call_out": 11,
    "service_message": 25,
    "extended_service_message": 25,
    "geolocation": 25,
    "sms_in": 102,
    "sms_out": 103,
}
"""Kommo's numbers of the notes that can be written, as webhooks have them (those of service notes are INFERRED)."""


def delivery(change: Change, account: int) -> SimulatedDelivery:
    """Return the request that tells of a change."""
    format_ = GENERATIONS[NEWEST]
    body, item = format_.body(change, account)
    headers = request_headers(str(uuid.uuid4()), format_.user_agent)
    return SimulatedDelivery(body, headers, change.at, change.entity, change.action, account, item, change.facts)


def of_lead(account: int, user: int, before: Json | None, after: Json) -> Iterator[Change]:
    """Yield what is told of a lead that was made or changed."""
    lead = Lead(
        **_common(after, user),
        name=after["name"],
        custom=_custom(after),
        tags=_tags(after),
        price=after["price"],
        pipeline=after["pipeline_id"],
        status=after["status_id"],
    )
    if before is None:
        yield _change("leads", "add", lead_item(lead, account), after)
        return
    moved = (before["pipeline_id"], before["status_id"]) != (after["pipeline_id"], after["status_id"])
    old_status = before["status_id"] if moved else None
    if moved:
        yield _change("leads", "status", lead_item(lead, account, old_status=old_status), after)
    handed_over = before["responsible_user_id"] != after["responsible_user_id"]
    if handed_over:
        item = lead_item(lead, account, old_responsible=before["responsible_user_id"])
        yield _change("leads", "responsible", item, after)
    if moved or not handed_over or _differ(before, after, "name", "price", "custom_fields_values", "_tags"):
        yield _change("leads", "update", lead_item(lead, account, old_status=old_status), after)


def of_person(account: int, user: int, kind: str, leads: list[int], before: Json | None, after: Json) -> Change:
    """Return what is told of a contact or company (`kind` is the plural) that was made or changed."""
    singular: Kind = "contact" if kind == "contacts" else "company"
    person = Person(
        **_common(after, user), kind=singular, name=after["name"], custom=_custom(after), tags=_tags(after), leads=leads
    )
    old = None
    if before is not None and before["responsible_user_id"] != after["responsible_user_id"]:
        old = before["responsible_user_id"]
    item = person_item(person, account, old_responsible=old)
    return _change("contacts", "add" if before is None else "update", item, after)


def of_task(account: int, user: int, before: Json | None, after: Json) -> Iterator[Change]:
    """Yield what is told of a task that was made or changed: a result that came with the end has a hook of its own."""
    element = _named(after["entity_type"] or "leads", after["entity_id"] or 0)
    task = Task(
        **_common(after, user),
        text=after["text"],
        type=after["task_type_id"],
        element=element,
        deadline=after["complete_till"],
        completed_at=after["updated_at"] if after["is_completed"] else None,
    )

    def told(action: str, change: Item | None = None) -> Change:
        item = task_item(task, account, change=change)
        if not after["entity_id"]:
            item |= {"element_id": 0, "element_type": 0}
        return _change("task", action, item, after)

    if before is None:
        yield told("add")
        return
    closed = after["is_completed"] and not before["is_completed"]
    change: Item = {"action_close": int(closed), "old_text": before["text"]}
    if before["responsible_user_id"] != after["responsible_user_id"]:
        change |= {"main_user": task.responsible, "modified_by": user}
        change["old_responsible_user_id"] = before["responsible_user_id"]
    result = after["result"] if _differ(before, after, "result") else None
    if closed or result is None or _differ(before, after, "text", "complete_till", "responsible_user_id"):
        yield told("update", change)
    if result is not None:
        yield told("update", {"action_close": 0, "result": {"id": after["_result_id"], "text": result["text"]}})


def of_note(account: int, user: int, kind: str, note: Json) -> Change:
    """Return what is told of a note on a lead, contact or company (`kind` is the plural)."""
    params: dict[str, Any] = note["params"]
    text = params.get("text", "")
    if note["note_type"] in ("call_in", "call_out"):
        text = call_text(
            uniq=params["uniq"],
            link=params.get("link") or "",
            phone=params["phone"],
            duration=params["duration"],
            source=params["source"],
        )
    elif note["note_type"] == "attachment":
        text = params["file_name"]
    told = Note(
        id=note["id"],
        type=NOTE_TYPES[note["note_type"]],
        text=text,
        element=_named(kind, note["entity_id"]),
        author=user,
        author_name=USER_NAMES.get(user, ""),
        created_at=note["created_at"],
        updated_at=note["updated_at"],
    )
    return _change(KEYS[SINGULAR[kind]], "note", note_item(told, account), note)


def _change(entity: str, action: str, item: Item, after: Json) -> Change:
    return Change(entity, action, item, after["updated_at"], ())


def _common(after: Json, user: int) -> Common:
    return {
        "id": after["id"],
        "created_at": after["created_at"],
        "updated_at": after["updated_at"],
        "created_by": after["created_by"],
        "modified_by": user,
        "responsible": after["responsible_user_id"],
    }


def _named(kind: str, identifier: int) -> Named:
    """Return an entity of which only kind and id are told."""
    nothing: Common = {
        "id": identifier,
        "created_at": 0,
        "updated_at": 0,
        "created_by": 0,
        "modified_by": 0,
        "responsible": 0,
    }
    if kind == "leads":
        return Lead(**nothing, name="", price=0, pipeline=0, status=0)
    return Person(**nothing, kind="contact" if kind == "contacts" else "company", name="")


def _custom(after: Json) -> dict[int, Item]:
    """Return custom fields as webhooks have them: `enum` is the id, a date is bare, a radio button has no index."""
    return {one["field_id"]: _custom_field(one) for one in after["custom_fields_values"] or ()}


def _custom_field(one: Json) -> Item:
    item: Item = {"id": one["field_id"], "name": one["field_name"]}
    values = [_value(one["field_type"], value) for value in one["values"]]
    if one["field_type"] == "radiobutton":
        item["values"] = values[-1]
    else:
        item["values"] = values
    if one["field_code"] is not None:
        item["code"] = one["field_code"]
    return item


def _value(kind: str, value: Json) -> Item | int:
    plain = value["value"]
    if kind == "date":
        return int(plain)
    if kind == "birthday":
        return {"value": dt.datetime.fromtimestamp(plain, dt.UTC).strftime("%d.%m.%Y")}
    told: Item = {"value": int(plain) if isinstance(plain, bool) else plain}
    if "enum_id" in value:
        told["enum"] = value["enum_id"]
    return told


def _tags(after: Json) -> list[Item]:
    return [{"id": tag["id"], "name": tag["name"]} for tag in after["_tags"]]


def _differ(before: Json, after: Json, *names: str) -> bool:
    return any(before[name] != after[name] for name in names)
