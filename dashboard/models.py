"""The answers of the API as OpenAPI describes them; the bytes themselves are made in dashboard/pages.py."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


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


class SessionView(BaseModel):
    """What a session or token may see."""

    accounts: list[int] | None = Field(description="The accounts it is for; null is all of them.")
    seen: list[int] = Field(description="Those of them of which something is known; 200 at most.")


class WrongParameter(BaseModel):
    """One parameter that is wrong, and what is accepted."""

    name: str
    detail: str


class ProblemDetails(BaseModel):
    """Problem details as in RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    error_class: str = Field(
        description="validation, authentication, authorization, not_found, rate_limit, external_service, database or "
        "internal."
    )
    parameters: list[WrongParameter] | None = Field(None, description="The wrong parameters, where it is about some.")
