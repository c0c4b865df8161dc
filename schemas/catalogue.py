"""The closed catalogue of event types: name, meaning, model of the data, and what names one occurrence.

A type is added by writing one model (schemas/models.py) and one line here; the decoder says which bodies give it.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas import models
from schemas.models import EventData


@dataclass(frozen=True, slots=True)
class EventType:
    """One type of event.

    `identity` says which wire fields name the occurrence (docs/reference/events.md). `creates` events come before
    all others of their entity at the same time. `snapshot` events describe their entity whole; `deletes` end it.
    `fixed_time`: the identity contains the time, so a repeat has the same time (else the first reading's counts).
    """

    name: str
    meaning: str
    model: type[EventData]
    identity: str
    creates: bool = False
    snapshot: bool = False
    deletes: bool = False
    fixed_time: bool = True
    version: int = 1


_ALL = "all fields of the item"
_TIMELESS = "all fields where the item has no time"

_TYPES: list[EventType] = []


def _add(*types: EventType) -> None:
    _TYPES.extend(types)


for _entity, _model in (("lead", models.LeadData), ("contact", models.ContactData), ("company", models.CompanyData)):
    _add(
        EventType(f"kommo.{_entity}.added", f"A {_entity} was made.", _model, _ALL, creates=True, snapshot=True),
        EventType(f"kommo.{_entity}.updated", f"Fields of a {_entity} were changed.", _model, _ALL, snapshot=True),
        EventType(f"kommo.{_entity}.restored", f"A deleted {_entity} came back.", _model, _ALL, snapshot=True),
        EventType(f"kommo.{_entity}.deleted", f"A {_entity} was deleted.", _model, "the delivery id", deletes=True),
        EventType(
            f"kommo.{_entity}.responsible_changed",
            f"Another user became responsible for a {_entity}.",
            _model,
            f"old_responsible_user_id, responsible_user_id, last_modified, updated_at; {_TIMELESS}",
            snapshot=True,
        ),
    )
_add(
    EventType(
        "kommo.lead.status_changed",
        "A lead moved to another stage or pipeline.",
        models.LeadData,
        f"old_status_id, status_id, pipeline_id, last_modified; {_TIMELESS}",
        snapshot=True,
    ),
    EventType("kommo.task.added", "A task was made.", models.TaskData, _ALL, creates=True, snapshot=True),
    EventType("kommo.task.updated", "Fields of a task were changed.", models.TaskData, _ALL, snapshot=True),
    EventType("kommo.task.deleted", "A task was deleted.", models.TaskData, "the delivery id", deletes=True),
    EventType(
        "kommo.task.completed",
        "A task was closed.",
        models.TaskData,
        f"last_modified, updated_at; {_TIMELESS}",
        snapshot=True,
    ),
    EventType(
        "kommo.task.result_added",
        "A closed task was given a result.",
        models.TaskData,
        f"result, last_modified, updated_at; {_TIMELESS}",
        snapshot=True,
    ),
    EventType(
        "kommo.task.text_changed",
        "A task was given another text.",
        models.TaskData,
        f"old_text, text, last_modified, updated_at; {_TIMELESS}",
        snapshot=True,
    ),
    EventType(
        "kommo.task.responsible_changed",
        "Another user became responsible for a task.",
        models.TaskData,
        f"old_responsible_user_id, responsible_user_id, last_modified, updated_at; {_TIMELESS}",
        snapshot=True,
    ),
    EventType("kommo.note.added", "A note was written on a lead, contact or company.", models.NoteData, _ALL),
    EventType(
        "kommo.call.logged",
        "A call was logged on a lead, contact or company.",
        models.CallData,
        "UNIQ, or the note's id where that is empty, or all fields",
        fixed_time=False,
    ),
    EventType(
        "kommo.call.recorded",
        "The recording of a call can be heard.",
        models.CallData,
        "as kommo.call.logged, and LINK",
        fixed_time=False,
    ),
    EventType(
        "kommo.unrecognized",
        "A body held something this program does not know yet.",
        models.UnrecognizedData,
        "all fields, and their place",
        fixed_time=False,
    ),
)

EVENT_TYPES: dict[str, EventType] = {item.name: item for item in _TYPES}


UNRECOGNIZED = EVENT_TYPES["kommo.unrecognized"]
