"""Actions as Kommo's API v4 wants them: pure functions from an action to a path and a JSON body.

Sources: developers.kommo.com/reference (leads, contacts, tasks, notes) and /docs/limitations (complex requests).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from schemas.actions import (
    CALL_STATUSES,
    AddNote,
    ContactFields,
    CreateCallNote,
    CreateLead,
    CreateMeetingNote,
    CreateTask,
    CustomField,
    UpdateContact,
    UpdateLead,
)

PLURAL = {"lead": "leads", "contact": "contacts", "company": "companies"}
MEETING = 2
"""The task type of meetings; 1 is a follow-up (developers.kommo.com/reference/add-tasks)."""

Json = dict[str, Any]


def unix(moment: dt.datetime) -> int:
    """Return a moment as unix seconds, as Kommo has all times."""
    return int(moment.timestamp())


def without_none(**fields: Any) -> Json:
    """Return the fields that say something; a field that is left out stays as it is at Kommo."""
    return {name: value for name, value in fields.items() if value is not None}


def _custom(fields: list[CustomField]) -> list[Json]:
    return [
        {
            **({"field_id": field.field_id} if field.field_id is not None else {"field_code": field.field_code}),
            "values": [value.model_dump(exclude_none=True) for value in field.values] or None,
        }
        for field in fields
    ]


def _tags(names: list[str]) -> list[Json]:
    return [{"name": name} for name in names]


def contact(action: ContactFields) -> Json:
    """Return a contact; phones and emails are custom fields at Kommo, by their codes."""
    custom = _custom(action.custom_fields)
    for code, points in (("PHONE", action.phones), ("EMAIL", action.emails)):
        if points is not None:
            values = [{"value": point.value, "enum_code": point.kind} for point in points]
            custom.append({"field_code": code, "values": values or None})
    # Null takes all tags away (developers.kommo.com/reference/update-tags-single-entity).
    all_away = isinstance(action, UpdateContact) and "tags" in action.model_fields_set
    return without_none(
        name=action.name,
        first_name=action.first_name,
        last_name=action.last_name,
        responsible_user_id=action.responsible_user_id,
        custom_fields_values=custom or None,
        _embedded={"tags": _tags(action.tags) or None} if action.tags or all_away else None,
    )


def new_lead(action: CreateLead, contact_id: int | None) -> Json:
    """Return a lead to be made, with its contact: a new one (for leads/complex) or the one of this id."""
    embedded: Json = {}
    if action.tags:
        embedded["tags"] = _tags(action.tags)
    if action.contact is not None:
        embedded["contacts"] = [contact(action.contact)]
    elif contact_id is not None:
        embedded["contacts"] = [{"id": contact_id}]
    return without_none(
        name=action.name,
        price=action.price,
        status_id=action.status_id,
        pipeline_id=action.pipeline_id,
        responsible_user_id=action.responsible_user_id,
        custom_fields_values=_custom(action.custom_fields) or None,
        _embedded=embedded or None,
    )


def changed_lead(action: UpdateLead) -> Json:
    """Return the changes of a lead."""
    return without_none(
        name=action.name,
        price=action.price,
        status_id=action.status_id,
        pipeline_id=action.pipeline_id,
        loss_reason_id=action.loss_reason_id,
        responsible_user_id=action.responsible_user_id,
        custom_fields_values=_custom(action.custom_fields) or None,
        tags_to_add=_tags(action.tags_to_add) or None,
        tags_to_delete=_tags(action.tags_to_delete) or None,
    )


def task(action: CreateTask, entity_id: int | None) -> Json:
    """Return a task to be made."""
    return without_none(
        text=action.text,
        complete_till=unix(action.complete_till),
        task_type_id=action.task_type_id,
        entity_type=PLURAL[action.entity_type] if action.entity_type else None,
        entity_id=entity_id,
        responsible_user_id=action.responsible_user_id,
        duration=action.duration_seconds,
    )


def meeting(action: CreateMeetingNote, entity_id: int) -> Json:
    """Return a meeting as a task to be made."""
    return without_none(
        text=action.text,
        complete_till=unix(action.at),
        task_type_id=MEETING,
        entity_type=PLURAL[action.entity_type],
        entity_id=entity_id,
        responsible_user_id=action.responsible_user_id,
        duration=action.duration_seconds,
        is_completed=True if action.done else None,
        result={"text": action.result} if action.result else None,
    )


def note(action: AddNote, entity_id: int) -> Json:
    """Return a text note to be made."""
    return {"entity_id": entity_id, "note_type": "common", "params": {"text": action.text}}


def call_note(action: CreateCallNote, entity_id: int, command_id: str) -> Json:
    """Return a call to be put on an entity; `uniq` is the command's id where the action names none."""
    params = without_none(
        uniq=action.uniq or command_id,
        duration=action.duration_seconds,
        source=action.source,
        phone=action.phone,
        link=action.link,
        call_result=action.result,
        call_status=CALL_STATUSES[action.status] if action.status else None,
    )
    return without_none(
        entity_id=entity_id,
        note_type=f"call_{action.direction}",
        params=params,
        responsible_user_id=action.responsible_user_id,
    )


def mail_note(subject: str, text: str, to: list[str], entity_id: int) -> Json:
    """Return the note that records a mail that was sent; its text is cut to what Kommo takes."""
    words = f"Mail to {', '.join(to)}: {subject}\n\n{text}"
    return {"entity_id": entity_id, "note_type": "common", "params": {"text": words[:20_000]}}
