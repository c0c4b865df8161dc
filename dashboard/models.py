"""The answers of the API as OpenAPI describes them; the bytes themselves are made in dashboard/pages.py."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runtime.problem import TYPE
from schemas.errors import ErrorClass


class Change(BaseModel):
    """What a field was and became; either may be any JSON value, or absent where the webhook does not say it."""

    model_config = ConfigDict(populate_by_name=True)

    before: Any = Field(None, alias="from")
    after: Any = Field(None, alias="to")


class ActivityItem(BaseModel):
    """One event: what happened to an entity at Kommo, and when."""

    account_id: int = Field(description="The Kommo account.")
    occurred_at: dt.datetime = Field(description="When it happened, in UTC.")
    event_id: uuid.UUID
    entity_type: str = Field(examples=["lead"])
    entity_id: str = Field(examples=["123"])
    event_type: str = Field(examples=["kommo.lead.status_changed"])
    actor_id: int | None = Field(description="Kommo's user who did it; 0 is a robot, null is not known.")
    summary: str
    changes: dict[str, Change] | None = Field(description="By field, where the webhook says what changed.")
    outcome: str | None
    duration_ms: int | None = Field(description="Milliseconds.")
    correlation_id: str
    log_partition: int = Field(description="Where the event lies in kommo.events.")
    log_offset: int
    caused_by: str | None = Field(description="The id of the command whose effect this is; null where none is known.")


class ActivityPage(BaseModel):
    """A page of the activity log: newest first."""

    items: list[ActivityItem]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class RecentUpdate(BaseModel):
    """One lead, contact, company or task as it is now, with the last thing that happened to it."""

    account_id: int
    entity_type: str = Field(examples=["lead"])
    entity_id: str = Field(examples=["123"])
    title: str | None
    event_type: str = Field(description="The type of the last event.")
    summary: str
    responsible_user_id: int | None
    occurred_at: dt.datetime = Field(description="When the last event happened, in UTC.")
    url: str | None = Field(description="The entity in Kommo.")
    deleted: bool
    event_id: uuid.UUID


class RecentUpdatesPage(BaseModel):
    """A page of the recent updates: last touched first."""

    items: list[RecentUpdate]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class Task(BaseModel):
    """One task as its newest snapshots describe it."""

    account_id: int
    task_id: str = Field(examples=["1564671"])
    state: Literal["open", "completed", "deleted"]
    text: str | None
    task_type: int | None = Field(description="Kommo's number of the kind of task: 1 is a follow-up, 2 a meeting.")
    entity_type: str | None = Field(description="What it is on: contact, lead, company or customer.")
    entity_id: str | None
    responsible_user_id: int | None
    deadline: dt.datetime | None = Field(description="In UTC.")
    overdue: bool = Field(description="Whether it is open and its deadline has passed.")
    result: str | None = Field(description="What came of it, as written when it was closed or later.")
    created_at: dt.datetime | None
    completed_at: dt.datetime | None = Field(description="Since when it is closed; null while it is open.")
    reopened_at: dt.datetime | None = Field(description="When it was last opened again after it had been closed.")
    occurred_at: dt.datetime = Field(description="When the last event happened, in UTC.")
    url: str | None = Field(description="The list of tasks in Kommo.")
    event_id: uuid.UUID = Field(description="The last event.")


class TasksPage(BaseModel):
    """A page of the tasks: last touched first."""

    items: list[Task]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class Call(BaseModel):
    """One call, however many notes told of it."""

    account_id: int
    call_id: str = Field(
        description="The telephone system's id (UNIQ); `note:` and the note's id where it gave none; or `digest:` and "
        "a hash.",
        examples=["pbx-2026-000017"],
    )
    entity_type: str = Field(description="What it was first noted on.", examples=["contact"])
    entity_id: str
    direction: Literal["in", "out"] | None
    phone: str | None
    duration_seconds: int | None
    outcome: str | None = Field(description="How it ended, for example conversation or busy.")
    result: str | None = Field(description="What came of it, as the telephone system says it.")
    source: str | None = Field(description="The telephone system.")
    recording_url: str | None
    responsible_user_id: int | None
    occurred_at: dt.datetime = Field(description="When it was first noted, in UTC.")
    event_id: uuid.UUID = Field(description="The event that told of it first.")
    url: str | None = Field(description="The entity in Kommo.")


class CallsPage(BaseModel):
    """A page of the calls: newest first."""

    items: list[Call]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class Command(BaseModel):
    """One command, as the last that was heard of it says."""

    account_id: int
    command_id: str
    action: str = Field(examples=["add_note"])
    entity_type: str = Field(description="What it is about.", examples=["lead"])
    entity_id: str = Field(description="`new:` and a command's id for what that command makes.")
    state: Literal["waiting", "succeeded", "failed", "unknown"] = Field(
        description="unknown: it cannot be found out whether it was carried out, and a person must decide."
    )
    attempts: int = Field(description="So far.")
    error_class: str | None = Field(description="Why the last attempt failed; null once it has succeeded.")
    error: str | None
    next_attempt_at: dt.datetime | None = Field(description="While it waits to be tried again.")
    admitted_at: dt.datetime = Field(description="When it was taken on, in UTC.")
    ended_at: dt.datetime | None
    duration_ms: int | None = Field(description="What the last attempt took.")
    total_ms: int | None = Field(description="From the admission to the end of the last attempt.")
    entities: dict[str, Any] | None = Field(description="The ids of what it made or changed, by entity type.")
    decision: str | None = Field(description="What a person decided last, if that is the last news: done, repeat, drop")
    after: str | None = Field(description="The command that had to succeed before.")
    data: dict[str, Any] | None = Field(description="What was asked for.")
    correlation_id: str
    occurred_at: dt.datetime = Field(description="When the last of it was heard, in UTC.")
    event_id: uuid.UUID = Field(description="The last event.")


class CommandsPage(BaseModel):
    """A page of the commands: last news first."""

    items: list[Command]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class CommandStory(Command):
    """A command and its story."""

    story: list[ActivityItem] = Field(
        description="What the activity log tells of it, oldest first: its own events, whatever else has its "
        "correlation id (the newest 100), and the webhooks that it caused."
    )


class DeadLetter(BaseModel):
    """One record that was set aside: what it is about, and why."""

    letter_id: str = Field(examples=["0f343b0931126a20f133d67c2b018a3b"])
    account_id: int | None = Field(description="Null where the original names none.")
    occurred_at: dt.datetime = Field(description="When it was set aside last, in UTC.")
    first_at: dt.datetime = Field(description="When what failed was tried first, in UTC.")
    error_class: ErrorClass
    reason: str
    reader: str = Field(description="Who set it aside; empty where it does not say.", examples=["ingest"])
    attempts: int
    topic: str = Field(description="Where the original lies; empty where the letter does not say.")
    original_partition: int | None
    original_offset: int | None
    item: str = Field(description="The part of the original that it is about; empty for the whole.")
    correlation_id: str
    log_partition: int = Field(description="Where the letter itself lies in kommo.deadletters.")
    log_offset: int


class DeadLettersPage(BaseModel):
    """A page of the dead letters: set aside last first."""

    items: list[DeadLetter]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class OriginalHeader(BaseModel):
    """A header of an original record; bytes that are no UTF-8 are U+FFFD in it."""

    name: str
    value: str | None


class DeadLetterWhole(DeadLetter):
    """A dead letter with the original record."""

    key: str | None
    key_is_base64: bool = Field(description="Whether `key` is base64, because the bytes are no UTF-8.")
    value: str | None = Field(description="Whole. Null where the original has none, or one too large to be set aside.")
    value_is_base64: bool = Field(description="Whether `value` is base64, because the bytes are no UTF-8.")
    headers: list[OriginalHeader] = Field(description="The original's own, in their order.")


class Circuit(BaseModel):
    """One kind of Kommo's endpoints that fails for an account, so that only a probe is sent from time to time."""

    account_id: int
    kind: str = Field(examples=["notes"])
    since: dt.datetime = Field(description="Since when, in UTC.")
    until: dt.datetime = Field(description="When the next probe may go, in UTC.")


class Circuits(BaseModel):
    """The circuits that are open now."""

    items: list[Circuit] = Field(description="Open for longest first; 500 at most.")


class Taken(BaseModel):
    """A command that is on its way."""

    id: uuid.UUID
    location: str = Field(description="Where its story can be read, once it is taken on.")


class SessionView(BaseModel):
    """What a session or token may see."""

    accounts: list[int] | None = Field(description="The accounts it is for; null is all of them.")
    seen: list[int] = Field(description="Those of them of which something is known; 200 at most.")
    commands: bool = Field(description="Whether it may give commands for these accounts.")


class WrongParameter(BaseModel):
    """One parameter that is wrong, and what is accepted."""

    name: str
    detail: str


class WrongField(BaseModel):
    """One field or header that is wrong, and why."""

    field: str
    detail: str


class ProblemDetails(BaseModel):
    """Problem details as in RFC 9457."""

    type: str = Field(
        description="`urn:kommo-streams:error:` and the error class.", examples=[f"{TYPE}{ErrorClass.VALIDATION}"]
    )
    title: str = Field(description="What the error class means.")
    status: int
    detail: str = Field(description="What is wrong here, for a person.")
    error_class: ErrorClass
    correlation_id: str = Field(
        description="The request's `X-Request-Id`, or a new id; it is in the log too, and in `X-Correlation-Id`.",
        max_length=128,
    )
    parameters: list[WrongParameter] | None = Field(None, description="The wrong parameters, where it is about some.")
    errors: list[WrongField] | None = Field(None, description="The wrong fields of the body, where it is about some.")
