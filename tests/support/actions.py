"""One of each action, and more of those that are carried out in several ways."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Protocol

from schemas.actions import (
    Action,
    AddNote,
    CreateCallNote,
    CreateContact,
    CreateLead,
    CreateMeetingNote,
    CreateTask,
    CustomField,
    FieldValue,
    MailAddress,
    NewContact,
    PhoneNumber,
    SendEmail,
    UpdateContact,
    UpdateLead,
)


class There(Protocol):
    """What is there before: ids of entities of the account."""

    lead: int
    contact: int
    company: int


NOON = dt.datetime(2026, 12, 1, 12, 0, 0, 500_000, dt.UTC)
NOON_UNIX = 1_796_126_400

Make = Callable[[There], Action]

CREATES: dict[str, Make] = {
    "create_lead": lambda w: CreateLead(
        name="Kitchen",
        price=1500,
        custom_fields=[CustomField(field_id=467289, values=[FieldValue(enum_id=917603)])],
        tags=["web"],
        contact_id=w.contact,
    ),
    "create_lead with its contact": lambda _: CreateLead(
        name="Kitchen",
        contact=NewContact(first_name="Ana", phones=[PhoneNumber(value="+34600000000", kind="MOB")], tags=["vip"]),
    ),
    "create_lead without a name": lambda _: CreateLead(price=77),
    "create_contact": lambda _: CreateContact(
        name="Ana Ruiz", emails=[MailAddress(value="ana@example.com", kind="PRIV")], tags=["vip"]
    ),
    "create_contact without a name": lambda _: CreateContact(phones=[PhoneNumber(value="+34600000000")]),
    "create_task": lambda w: CreateTask(
        text="Call back", complete_till=NOON, entity_type="lead", entity_id=w.lead, duration_seconds=0
    ),
    "create_task of nothing": lambda _: CreateTask(text="Call back", complete_till=NOON),
    "create_meeting_note": lambda w: CreateMeetingNote(
        entity_type="company", entity_id=w.company, text="Office", at=NOON, done=True, result="signed"
    ),
    "add_note": lambda w: AddNote(entity_type="contact", entity_id=w.contact, text="Asked for an offer\r\nToday"),
    "create_call_note": lambda w: CreateCallNote(
        entity_type="lead", entity_id=w.lead, direction="out", phone="+34600000000", duration_seconds=61, uniq="call-1"
    ),
}
UPDATES: dict[str, Make] = {
    "update_lead": lambda w: UpdateLead(
        lead_id=w.lead,
        price=99,
        status_id=142,
        custom_fields=[CustomField(field_id=1246487, values=[FieldValue(value=True)])],
    ),
    "update_contact": lambda w: UpdateContact(
        contact_id=w.contact, name="New name", phones=[PhoneNumber(value="600")], tags=["vip"]
    ),
}
MAIL: dict[str, Make] = {
    "send_email": lambda w: SendEmail(
        entity_type="lead", entity_id=w.lead, to=["ana@example.com"], cc=["b@example.com"], subject="Offer", text="Hi"
    )
}


def names() -> set[str]:
    """The names of the actions that are here."""
    return {name.partition(" ")[0] for name in (*CREATES, *UPDATES, *MAIL)}
