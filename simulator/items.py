"""The entities of the simulated company and how Kommo describes each in a webhook (field set and order of 2024/2025).

Times are unix seconds. The items follow captured bodies and the examples of Kommo's page "Webhooks: general".
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Final, Literal

from simulator.wire import Item, Value

Kind = Literal["contact", "company"]

ROBOT: Final = 0
"""The user id of Kommo's own automations."""

ELEMENT_TYPES: Final = {"contact": 1, "lead": 2, "company": 3}

_NOTE_ZONE = dt.timezone(dt.timedelta(hours=3))  # in notes, and only there, text dates are UTC+3


@dataclass(slots=True, kw_only=True, eq=False)
class Record:
    """What every entity has. `alive` is false from its delete to its restore."""

    id: int
    created_at: int
    updated_at: int
    created_by: int
    modified_by: int
    responsible: int
    alive: bool = True


@dataclass(slots=True, kw_only=True, eq=False)
class Lead(Record):
    """A deal. `old_status` is where its last move came from: Kommo repeats it in a later change of responsible."""

    name: str
    price: int
    pipeline: int
    status: int
    old_status: int | None = None
    custom: list[Item] = field(default_factory=list)


@dataclass(slots=True, kw_only=True, eq=False)
class Person(Record):
    """A contact or a company; Kommo sends both under `contacts`."""

    kind: Kind
    name: str
    custom: list[Item]
    leads: list[int] = field(default_factory=list)


@dataclass(slots=True, kw_only=True, eq=False)
class Task(Record):
    """A task on a lead, contact or company; `deadline` is unix seconds."""

    text: str
    type: int
    element_type: int
    element_id: int
    deadline: int
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note; `type` is Kommo's number (4 text, 10 incoming call, 11 outgoing call)."""

    id: int
    type: int
    text: str
    element: Lead | Person
    author: int
    author_name: str
    created_at: int
    updated_at: int


def lead_item(lead: Lead, account: int, *, old_status: int | None = None, old_responsible: int | None = None) -> Item:
    """Return a lead as in leads[add|update|status|responsible|restore]; the old values where that hook has them."""
    item: Item = {"id": lead.id, "name": lead.name, "status_id": lead.status}
    if old_status is not None:
        item["old_status_id"] = old_status
    item |= {"price": lead.price, "responsible_user_id": lead.responsible}
    item |= {"last_modified": lead.updated_at, "modified_user_id": lead.modified_by}
    item |= {"created_user_id": lead.created_by, "date_create": lead.created_at}
    item |= {"pipeline_id": lead.pipeline, "account_id": account}
    if lead.custom:
        item["custom_fields"] = lead.custom
    if old_responsible is not None:
        item["old_responsible_user_id"] = old_responsible
    return item | {"created_at": lead.created_at, "updated_at": lead.updated_at}


def lead_stub(lead: Lead) -> Item:
    """Return a lead as in leads[delete]."""
    return {"id": lead.id, "status_id": lead.status, "pipeline_id": lead.pipeline}


def person_item(person: Person, account: int, *, old_responsible: int | None = None) -> Item:
    """Return a contact or company as in contacts[add|update|restore]."""
    item: Item = {"id": person.id, "name": person.name, "responsible_user_id": person.responsible}
    item |= {"date_create": person.created_at, "last_modified": person.updated_at}
    item["created_user_id"] = person.created_by
    if person.modified_by != ROBOT:  # absent where a robot made the change
        item["modified_user_id"] = person.modified_by
    item["account_id"] = account
    if person.custom:
        item["custom_fields"] = person.custom
    if person.leads:  # a map keyed by the id, not a list
        item["linked_leads_id"] = {str(lead): {"ID": lead} for lead in person.leads}
    if old_responsible is not None:
        item["old_responsible_user_id"] = old_responsible
    return item | {"created_at": person.created_at, "updated_at": person.updated_at, "type": person.kind}


def person_stub(person: Person) -> Item:
    """Return a contact or company as in contacts[delete]."""
    return {"id": person.id, "type": person.kind}


def task_item(task: Task, account: int, *, change: Item | None = None) -> Item:
    """Return a task as in task[add], or with the fields of a `change` as in task[update].

    `change` may hold action_close, old_text, main_user, modified_by, old_responsible_user_id and result.
    """
    item: Item = {"id": task.id, "element_id": task.element_id, "element_type": task.element_type}
    item |= {"task_type": task.type, "date_create": _text_time(task.created_at, dt.UTC), "text": task.text}
    item |= {"status": int(task.done), "account_id": account, "created_user_id": task.created_by}
    item |= {"last_modified": _text_time(task.updated_at, dt.UTC), "responsible_user_id": task.responsible}
    item["complete_till"] = _text_time(task.deadline, dt.UTC)
    item |= change or {}
    return item | {"created_at": task.created_at, "updated_at": task.updated_at, "complete_before": task.deadline}


def note_item(note: Note, account: int) -> Item:
    """Return a note as in leads[note] and contacts[note]; for contacts and companies `type` stands beside it."""
    element = note.element
    kind = element.kind if isinstance(element, Person) else "lead"
    source = {"event_source": {"id": note.author, "author_name": note.author_name, "type": 1}}
    inner: Item = {"text": note.text, "attachement": "", "date_create": _text_time(note.created_at, _NOTE_ZONE)}
    inner |= {"note_type": note.type, "element_type": ELEMENT_TYPES[kind], "element_id": element.id}
    inner |= {"catalog_id": 0, "group_id": 0, "timestamp_x": _text_time(note.updated_at, _NOTE_ZONE)}
    inner |= {"account_id": account, "metadata": php_json(source), "created_by": note.author}
    inner |= {"modified_by": note.author, "main_user_id": note.author, "id": note.id}
    inner |= {"created_at": note.created_at, "updated_at": note.updated_at}
    return {"note": inner} if kind == "lead" else {"note": inner, "type": kind}


def call_text(*, uniq: str, link: str, phone: str, duration: int, source: str) -> str:
    """Return the JSON that the text of a call note holds; `duration` in seconds, `link` empty while there is none."""
    return php_json({"UNIQ": uniq, "LINK": link, "PHONE": phone, "DURATION": duration, "SRC": source})


def custom_field(identifier: int, name: str, value: str | int, *, enum: int | None = None, code: str = "") -> Item:
    """Return one filled custom field with one value."""
    filled: Item = {"value": value} if enum is None else {"value": value, "enum": enum}
    item: Item = {"id": identifier, "name": name, "values": [filled]}
    return {**item, "code": code} if code else item


def date_field(identifier: int, name: str, day: int) -> Item:
    """Return a custom field of type date: its value is bare, unix seconds."""
    values: list[Value] = [day]
    return {"id": identifier, "name": name, "values": values}


def php_json(value: object) -> str:
    """Return JSON as PHP's json_encode writes it: no spaces, \\uXXXX beyond ASCII, slashes escaped."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/")


def _text_time(seconds: int, zone: dt.tzinfo) -> str:
    return dt.datetime.fromtimestamp(seconds, zone).strftime("%Y-%m-%d %H:%M:%S")
