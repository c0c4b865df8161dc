"""The closed catalogue of event types: name, meaning, model of the data, what names one occurrence, and an example.

A type is added by writing one model (schemas/models.py) and one line here; schemas/readers.py says which bodies give
it. The reference page, the AsyncAPI document and the tests are made from this list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from schemas import models
from schemas.delivery import Door
from schemas.models import EventData


@dataclass(frozen=True, slots=True)
class EventType:
    """One type of event.

    `identity` says which wire fields name the occurrence. `bodies` says which webhooks give it, and `example` is one of
    them, its brackets and spaces not percent-encoded. `creates` events come before all others of their entity at the
    same time. `snapshot` events describe their entity whole; `deletes` end it. `by_delivery`: nothing in the body tells
    a repeat from a second occurrence, so the id contains the delivery's. `fixed_time`: the identity contains the time,
    so a repeat has the same time (else the first reading's counts). `door` is the one that `example` comes through;
    None: no webhook gives it, an agent does, and `example` is its data as JSON.
    """

    name: str
    meaning: str
    model: type[EventData]
    identity: str
    bodies: str
    example: str
    creates: bool = False
    snapshot: bool = False
    deletes: bool = False
    by_delivery: bool = False
    fixed_time: bool = True
    door: Door | None = "webhook"
    version: int = 1


EVENT_TYPES: dict[str, EventType] = {}

_ALL = "all fields of the item"
_DELIVERY = "the delivery id"
_TIMELESS = "all fields where the item has no time"


def _add(
    name: str, meaning: str, model: type[EventData], identity: str, bodies: str, example: str, **flags: Any
) -> EventType:
    kind = EventType(f"kommo.{name}", meaning, model, identity, bodies, example, **flags)
    EVENT_TYPES[kind.name] = kind
    return kind


def _body(key: str, action: str, /, **fields: object) -> str:
    return "&".join(f"{key}[{action}][0][{name.replace('__', '][')}]={value}" for name, value in fields.items())


def _add_entity(entity: str, model: type[EventData], key: str, what: str, *, which: str = "", **fields: object) -> None:
    """Add the types that every entity with a responsible user has."""
    fields = {"id": 7, "name": "Anna", **fields, "responsible_user_id": 2, "last_modified": 1726581295}
    handed = {**fields, "old_responsible_user_id": 1}
    stub = {name: fields[name] for name in ("id", "type") if name in fields}
    _add(
        f"{entity}.added",
        f"{what} was made.",
        model,
        _ALL,
        f"{key}[add]{which}",
        _body(key, "add", **fields),
        creates=True,
        snapshot=True,
    )
    _add(
        f"{entity}.updated",
        f"Fields of {what.lower()} were changed.",
        model,
        _ALL,
        f"{key}[update]{which}",
        _body(key, "update", **fields),
        snapshot=True,
    )
    _add(
        f"{entity}.restored",
        f"{what} came back from the bin.",
        model,
        _ALL,
        f"{key}[restore]{which}",
        _body(key, "restore", **fields),
        snapshot=True,
    )
    _add(
        f"{entity}.deleted",
        f"{what} was deleted.",
        model,
        _DELIVERY,
        f"{key}[delete]{which}",
        _body(key, "delete", **stub),
        deletes=True,
        by_delivery=True,
    )
    _add(
        f"{entity}.responsible_changed",
        f"Another user became responsible for {what.lower()}.",
        model,
        f"old_responsible_user_id, responsible_user_id, last_modified, updated_at; {_TIMELESS}",
        f"{key}[update]{which} where old_responsible_user_id differs{', leads[responsible]' * (key == 'leads')}",
        _body(key, "update", **handed),
        snapshot=True,
    )


_add_entity("lead", models.LeadData, "leads", "A lead", price=900, status_id=31, pipeline_id=3)
_add(
    "lead.status_changed",
    "A lead moved to another stage or pipeline.",
    models.LeadData,
    f"old_status_id, status_id, pipeline_id, last_modified; {_TIMELESS}",
    "leads[status], leads[update] where old_status_id differs: one event, whichever comes, or both",
    _body("leads", "status", id=7, name="Anna", status_id=142, old_status_id=31, last_modified=1726581295),
    snapshot=True,
)
_add_entity("contact", models.ContactData, "contacts", "A contact", which=" with type contact, or none", type="contact")
_add_entity("company", models.CompanyData, "contacts", "A company", which=" with type company", type="company")
_add_entity("customer", models.CustomerData, "customers", "A customer", next_price=50)

_TASK = {"id": 9, "text": "Call back", "last_modified": "2024-09-17 13:54:55", "updated_at": 1726581295}
_add(
    "task.added",
    "A task was made.",
    models.TaskData,
    _ALL,
    "task[add]",
    _body("task", "add", **_TASK, status=0),
    creates=True,
    snapshot=True,
)
_add(
    "task.updated",
    "Fields of a task were changed.",
    models.TaskData,
    _ALL,
    "task[update] that proves nothing else",
    _body("task", "update", **_TASK, status=0),
    snapshot=True,
)
_add(
    "task.deleted",
    "A task was deleted.",
    models.TaskData,
    _DELIVERY,
    "task[delete]",
    _body("task", "delete", id=9),
    deletes=True,
    by_delivery=True,
)
_add(
    "task.completed",
    "A task was closed.",
    models.TaskData,
    f"last_modified, updated_at; {_TIMELESS}",
    "task[update] with status 1 and action_close 1",
    _body("task", "update", **_TASK, status=1, action_close=1),
    snapshot=True,
)
_add(
    "task.result_added",
    "A closed task was given a result.",
    models.TaskData,
    f"result, last_modified, updated_at; {_TIMELESS}",
    "task[update] with a result that does not close it",
    _body("task", "update", **_TASK, status=1, action_close=0, result__id=4, result__text="Will buy"),
    snapshot=True,
)
_add(
    "task.text_changed",
    "A task was given another text.",
    models.TaskData,
    f"old_text, text, last_modified, updated_at; {_TIMELESS}",
    "task[update] where old_text differs",
    _body("task", "update", **_TASK, old_text="Call"),
    snapshot=True,
)
_add(
    "task.responsible_changed",
    "Another user became responsible for a task.",
    models.TaskData,
    f"old_responsible_user_id, responsible_user_id, last_modified, updated_at; {_TIMELESS}",
    "task[update] where old_responsible_user_id differs",
    _body("task", "update", **_TASK, responsible_user_id=2, old_responsible_user_id=1),
    snapshot=True,
)

_NOTE = {"note__id": 8, "note__element_type": 2, "note__element_id": 7, "note__created_at": 1726581295}
_CALL = '{"UNIQ":"c-1","PHONE":"+15550100","DURATION":61,"LINK":"https://pbx.example/c-1.mp3"}'
_add(
    "note.added",
    "A note was written on a lead, contact, company, customer or task.",
    models.NoteData,
    _ALL,
    "leads[note], contacts[note], customers[note]",
    _body("leads", "note", **_NOTE, note__note_type=4, note__text="Prefers mornings"),
)
_add(
    "call.logged",
    "A call was logged on a lead, contact, company or customer.",
    models.CallData,
    "UNIQ, or the note's id where that is empty, or all fields",
    "notes of type 10 (in) and 11 (out)",
    _body("leads", "note", **_NOTE, note__note_type=10, note__text=_CALL.partition(',"LINK')[0] + "}"),
    fixed_time=False,
)
_add(
    "call.recorded",
    "The recording of a call can be heard.",
    models.CallData,
    "as kommo.call.logged, and LINK",
    "notes of type 10 and 11 with a LINK",
    _body("leads", "note", **_NOTE, note__note_type=10, note__text=_CALL),
    fixed_time=False,
)

_UNSORTED = {"uid": "f575b754", "category": "forms"}
_add(
    "unsorted.added",
    "An incoming lead came in by a form, chat, call or mail, and waits to be accepted.",
    models.UnsortedData,
    _ALL,
    "unsorted[add]",
    _body("unsorted", "add", **_UNSORTED, pipeline_id=3, created_at=1726581295),
    creates=True,
    snapshot=True,
)
_add(
    "unsorted.updated",
    "An incoming lead was changed.",
    models.UnsortedData,
    _ALL,
    "unsorted[update]",
    _body("unsorted", "update", **_UNSORTED, pipeline_id=3, source="Site"),
    snapshot=True,
    fixed_time=False,
)
_add(
    "unsorted.accepted",
    "An incoming lead was accepted: it is a lead now.",
    models.UnsortedData,
    _ALL,
    "unsorted[delete] with action accept",
    _body("unsorted", "delete", **_UNSORTED, action="accept", accept_result__leads__0=7),
    fixed_time=False,
)
_add(
    "unsorted.declined",
    "An incoming lead was declined.",
    models.UnsortedData,
    _ALL,
    "unsorted[delete] with action decline",
    _body("unsorted", "delete", **_UNSORTED, action="decline", decline_result__leads__0=7),
    fixed_time=False,
)
_add(
    "unsorted.deleted",
    "An incoming lead was deleted, and nothing says how.",
    models.UnsortedData,
    _DELIVERY,
    "unsorted[delete] with another action, or none",
    _body("unsorted", "delete", **_UNSORTED),
    deletes=True,
    by_delivery=True,
)

_ELEMENT = {"id": 5, "catalog_id": 32908, "name": "Boiler 24 kW", "updated_at": 1726581295}
_add(
    "catalog_element.added",
    "An element was added to a list: a product, an invoice.",
    models.CatalogElementData,
    _ALL,
    "catalogs[add]",
    _body("catalogs", "add", **_ELEMENT),
    creates=True,
    snapshot=True,
)
_add(
    "catalog_element.updated",
    "An element of a list was changed.",
    models.CatalogElementData,
    _ALL,
    "catalogs[update]",
    _body("catalogs", "update", **_ELEMENT),
    snapshot=True,
)
_add(
    "catalog_element.deleted",
    "An element of a list was deleted.",
    models.CatalogElementData,
    _DELIVERY,
    "catalogs[delete]",
    _body("catalogs", "delete", id=5, catalog_id=32908),
    deletes=True,
    by_delivery=True,
)

_TALK = {"talk_id": 191, "contact_id": 8, "is_in_work": 1, "origin": "telegram", "updated_at": 1726581295}
_add(
    "talk.added",
    "A conversation was begun in a chat.",
    models.TalkData,
    _ALL,
    "talk[add]",
    _body("talk", "add", **_TALK),
    creates=True,
    snapshot=True,
)
_add(
    "talk.updated",
    "A conversation was read, closed, or taken up again: its fields say which.",
    models.TalkData,
    _ALL,
    "talk[update]",
    _body("talk", "update", **_TALK, is_read=1),
    snapshot=True,
)

_MESSAGE = {"id": "660b5b93-4ead", "talk_id": 191, "contact_id": 8, "entity_type": "lead", "entity_id": 7}
_SAID = {"text": "Hello!", "created_at": 1726581295}
_add(
    "message.received",
    "A message came in through a chat.",
    models.MessageData,
    "id, created_at; all fields where either is missing",
    "message[add], and [add] without a key",
    _body("message", "add", **_MESSAGE, **_SAID, type="incoming"),
)
_add(
    "message.sent",
    "A message went out through a chat.",
    models.MessageData,
    "id, created_at; all fields where either is missing",
    "outgoing_message[add], message[add] with type outgoing",
    _body("outgoing_message", "add", **_MESSAGE, **_SAID, type="outgoing"),
)
_add(
    "chat_template.reviewed",
    "WhatsApp said what it thinks of a template of messages.",
    models.ChatTemplateData,
    _ALL,
    "chat_template_reviews[add]",
    _body("chat_template_reviews", "add", id=3, status="approved"),
    fixed_time=False,
)
_add(
    "digital_pipeline.triggered",
    "A hook of the digital pipeline fired on a lead or customer. It says nothing of their state.",
    models.DigitalPipelineData,
    _DELIVERY,
    "leads[add, status, mail_in, call_in, chat, site_visit] that names only the stage; customers[period]",
    _body("leads", "mail_in", id=7, status_id=31, pipeline_id=3),
    by_delivery=True,
)
_add(
    "salesbot.requested",
    "A salesbot asked for an answer and waits at return_url.",
    models.SalesbotData,
    "return_url, data",
    "a JSON body with data and return_url (widget_request)",
    '{"token":"","data":{"ask":"price"},"return_url":"https://anna.kommo.com/api/v4/salesbot/3/continue/8"}',
    fixed_time=False,
)
_add(
    "integration.disabled",
    "The account's people disabled the integration.",
    models.IntegrationData,
    _DELIVERY,
    "the signed GET /integrations/disabled",
    "client_uuid=01d01160-43c8-4bf4-9e1b-0c5d1a2b3c4d&account_id=16700680",
    by_delivery=True,
    door="integration-disabled",
)


def _add_outcome(name: str, meaning: str, facts: dict[str, object], *, creates: bool = False) -> None:
    """Add a type of event by which the agent `commands` tells of a command."""
    command = {"id": "0192f3c1-7c1b-7d0e-8a6f-5b1c2d3e4f50", "action": "add_note", "entity": "lead/7", **facts}
    _add(
        f"command.{name}",
        meaning,
        models.CommandData,
        "command id and attempt",
        "the agent `commands`",
        orjson.dumps({"command": command}).decode(),
        creates=creates,
        door=None,
    )


_ASKED: dict[str, object] = {"data": {"entity_type": "lead", "entity_id": 7, "text": "Called back"}}
_TRIED: dict[str, object] = {"attempts": 1, "duration_ms": 340, "total_ms": 352}
_FAILED: dict[str, object] = {"error_class": "external_service", "error": "Kommo did not answer within 15 s"}
_add_outcome("admitted", "A command was taken on.", _ASKED, creates=True)
_add_outcome("succeeded", "A command was carried out.", {**_TRIED, "entities": {"lead": 7, "note": 11}})
_add_outcome(
    "retried",
    "An attempt at a command failed, or its outcome is not known yet; it will be tried, or looked for, again.",
    {**_TRIED, **_FAILED, "next_attempt_at": "2026-11-24T12:00:04Z"},
)
_add_outcome("failed", "A command will not be carried out; it is a dead letter.", {**_TRIED, **_FAILED})
_add_outcome(
    "unknown",
    "Whether a command was carried out cannot be found out: a person must decide.",
    {**_TRIED, **_FAILED},
)

UNRECOGNIZED = _add(
    "unrecognized",
    "A body held something this program does not know yet.",
    models.UnrecognizedData,
    "all fields, and their place",
    "everything else",
    "roulette[add][0][id]=1&roulette[add][0][created_at]=1726581295",
    fixed_time=False,
)
"""What no reader knows."""

WEBHOOK_TYPES: dict[str, EventType] = {name: kind for name, kind in EVENT_TYPES.items() if kind.door is not None}
"""Those that a webhook gives."""
