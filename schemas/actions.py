"""What can be asked of Kommo: nine actions, each with every field typed and checked before anything is sent.

Field names are those of Kommo's API v4 where it has one (https://developers.kommo.com/reference). An id of an entity
may be "after" instead of a number: the entity that the command named in the envelope's `after` has made.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

Id = Annotated[int, Field(gt=0, lt=2**63)]

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain the character U+0000: PostgreSQL cannot store it")
    return value


def _one_line(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must be one line, without control characters")
    return value


def _moment(value: Any) -> Any:
    # By itself pydantic takes "1790000000000" for milliseconds.
    if isinstance(value, dt.datetime):
        return value
    try:
        return dt.datetime.fromisoformat(_MOMENT.fullmatch(value)[0].upper())  # type: ignore[index]
    except (TypeError, ValueError):
        raise ValueError("must be a date and time with its zone: 2026-11-24T10:00:00Z") from None


def _utc(value: dt.datetime) -> dt.datetime:
    try:
        return value.astimezone(dt.UTC)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999") from None


Moment = Annotated[AwareDatetime, BeforeValidator(_moment), AfterValidator(_utc)]
"""A moment with its zone, kept in UTC; as text it is that of RFC 3339."""


def _entity_id(value: Any) -> Any:
    if value == "after" or (type(value) is int and 0 < value < 2**63):
        return value
    raise ValueError('must be an id (a whole number), or "after"')


EntityId = Annotated[
    int | Literal["after"],
    PlainValidator(_entity_id),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "after"}]}),
]
EntityType = Literal["lead", "contact", "company"]
Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_storable)]
Phone = Annotated[str, Field(min_length=3, max_length=40, pattern=r"[0-9]"), AfterValidator(_storable)]
Tag = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_storable)]
Code = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_storable)]

Price = Annotated[int, Field(ge=0, lt=2**53)]

MAX_TEXT = 20_000  # of a note; Kommo answers 400 TooLong above (developers.kommo.com/reference/add-notes)
MAX_FIELDS = 40  # custom field values of one entity (developers.kommo.com/docs/limitations)

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), AfterValidator(_storable)]
Deadline = Annotated[
    Moment, Field(ge=dt.datetime(2000, 1, 1, tzinfo=dt.UTC), lt=dt.datetime(2100, 1, 1, tzinfo=dt.UTC))
]
"""A moment from 2000 on and before 2100."""
Link = Annotated[str, Field(max_length=2000, pattern=r"^https?://[^\s]+$"), AfterValidator(_storable)]


def _recipient(value: str) -> str:
    if not value.rpartition("@")[0].isascii():
        raise ValueError("must be ASCII before the @: not every mail server takes others")
    return value


Recipient = Annotated[EmailStr, AfterValidator(_recipient)]

_Model = TypeVar("_Model", bound=BaseModel)

CALL_STATUSES = {
    "left_message": 1,
    "call_back": 2,
    "not_available": 3,
    "conversation": 4,
    "wrong_number": 5,
    "no_connection": 6,
    "busy": 7,
    "undefined": 8,
}
"""How a call ended, and Kommo's number for it (developers.kommo.com/reference/add-calls)."""

CallStatus = Literal[
    "left_message", "call_back", "not_available", "conversation", "wrong_number", "no_connection", "busy", "undefined"
]


class Strict(BaseModel):
    """No field that is not known, no value of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def _plain_value(value: Any) -> str | int | float | bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _storable(value)
    if (isinstance(value, int) and -(2**63) <= value < 2**63) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError("must be a text, a number of at most 64 bits, true or false")


PlainValue = Annotated[
    str | int | float | bool,
    PlainValidator(_plain_value),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]


class FieldValue(Strict):
    """One value of a custom field: a value (a date is unix seconds), or a choice by its id or code."""

    value: PlainValue | None = None
    enum_id: Id | None = None
    enum_code: Code | None = None

    @model_validator(mode="after")
    def _says_something(self) -> FieldValue:
        if self.value is None and self.enum_id is None and self.enum_code is None:
            raise ValueError("needs value, enum_id or enum_code")
        return self


class CustomField(Strict):
    """A custom field by id or code. What is sent replaces all its values at Kommo; an empty list clears it."""

    field_id: Id | None = None
    field_code: Code | None = None
    values: Annotated[list[FieldValue], Field(max_length=100)]

    @model_validator(mode="after")
    def _one_name(self) -> CustomField:
        if (self.field_id is None) == (self.field_code is None):
            raise ValueError("needs either field_id or field_code")
        return self


CustomFields = Annotated[list[CustomField], Field(max_length=MAX_FIELDS)]
Tags = Annotated[list[Tag], Field(max_length=250)]


class PhoneNumber(Strict):
    """A telephone number of a contact."""

    value: Phone
    kind: Literal["WORK", "WORKDD", "MOB", "FAX", "HOME", "OTHER"] = "WORK"


class MailAddress(Strict):
    """A mail address of a contact."""

    value: EmailStr
    kind: Literal["WORK", "PRIV", "OTHER"] = "WORK"


class ContactFields(Strict):
    """What a contact has."""

    name: Name | None = None
    first_name: Name | None = None
    last_name: Name | None = None
    phones: Annotated[list[PhoneNumber], Field(max_length=20)] | None = None
    emails: Annotated[list[MailAddress], Field(max_length=20)] | None = None
    responsible_user_id: Id | None = None
    custom_fields: CustomFields = []
    tags: Tags = []

    @model_validator(mode="after")
    def _not_twice(self) -> ContactFields:
        if self.name is not None and (self.first_name is not None or self.last_name is not None):
            raise ValueError("give either name, or first_name and last_name")
        twice = {"PHONE": self.phones, "EMAIL": self.emails}
        for field in self.custom_fields:
            if field.field_code in twice and twice[field.field_code] is not None:
                raise ValueError(f"{field.field_code} is given twice: as a custom field and by its own name")
        return self


class NewContact(ContactFields):
    """A contact made together with its lead."""

    @model_validator(mode="after")
    def _named(self) -> NewContact:
        if not (self.name or self.first_name or self.last_name or self.phones or self.emails):
            raise ValueError("a contact needs a name, a phone or an email")
        return self


class Action(Strict):
    """What is asked of Kommo."""

    action: ClassVar[str]

    def element(self) -> tuple[EntityType | Literal["task"], EntityId | None]:
        """Return what it is about: entity type, and id; "after" for what another command made, None for what is new."""
        raise NotImplementedError


class CreateLead(Action):
    """Make a lead, with a new contact or a known one: one request, so that there is never one without the other."""

    action = "create_lead"

    name: Name | None = None
    price: Price | None = None
    status_id: Id | None = None
    pipeline_id: Id | None = None
    responsible_user_id: Id | None = None
    custom_fields: CustomFields = []
    tags: Tags = []
    contact: NewContact | None = None
    contact_id: EntityId | None = None

    @model_validator(mode="after")
    def _one_contact(self) -> CreateLead:
        if self.contact is not None and self.contact_id is not None:
            raise ValueError("give either contact (a new one) or contact_id")
        return self

    def element(self) -> tuple[Literal["lead"], None]:
        """Return the new lead."""
        return "lead", None


class UpdateLead(Action):
    """Change fields of a lead; what is not named stays. status_id of another pipeline needs its pipeline_id."""

    action = "update_lead"

    lead_id: EntityId
    name: Name | None = None
    price: Price | None = None
    status_id: Id | None = None
    pipeline_id: Id | None = None
    loss_reason_id: Id | None = None
    responsible_user_id: Id | None = None
    custom_fields: CustomFields = []
    tags_to_add: Tags = []
    tags_to_delete: Tags = []

    @model_validator(mode="after")
    def _something(self) -> UpdateLead:
        return _changes_something(self, {"lead_id"})

    def element(self) -> tuple[Literal["lead"], EntityId]:
        """Return the lead."""
        return "lead", self.lead_id


class CreateContact(Action, NewContact):
    """Make a contact."""

    action = "create_contact"

    def element(self) -> tuple[Literal["contact"], None]:
        """Return the new contact."""
        return "contact", None


class UpdateContact(Action, ContactFields):
    """Change fields of a contact; phones, emails and tags that are given replace those that are there, by none too."""

    action = "update_contact"

    contact_id: EntityId

    @model_validator(mode="after")
    def _something(self) -> UpdateContact:
        return _changes_something(self, {"contact_id"}, clears=("phones", "emails", "tags"))

    def element(self) -> tuple[Literal["contact"], EntityId]:
        """Return the contact."""
        return "contact", self.contact_id


class _OnEntity(Action):
    entity_type: EntityType
    entity_id: EntityId

    def element(self) -> tuple[EntityType, EntityId]:
        """Return the entity it is put on."""
        return self.entity_type, self.entity_id


class CreateTask(Action):
    """Make a task. `complete_till` is its deadline; Kommo keeps whole seconds."""

    action = "create_task"

    text: Text
    complete_till: Deadline
    entity_type: EntityType | None = None
    entity_id: EntityId | None = None
    task_type_id: Id = 1
    responsible_user_id: Id | None = None
    duration_seconds: Annotated[int, Field(ge=0, le=7 * 86_400)] | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> CreateTask:
        if (self.entity_type is None) != (self.entity_id is None):
            raise ValueError("give both entity_type and entity_id, or neither")
        return self

    def element(self) -> tuple[EntityType | Literal["task"], EntityId | None]:
        """Return the entity the task is on, or the new task."""
        return self.entity_type or "task", self.entity_id


class AddNote(_OnEntity):
    """Put a text note on an entity."""

    action = "add_note"

    text: Text


class CreateCallNote(_OnEntity):
    """Put a call on an entity. `uniq` names the call, so that it is told from others; by default the command does."""

    action = "create_call_note"

    direction: Literal["in", "out"]
    phone: Phone
    duration_seconds: Annotated[int, Field(ge=0, le=86_400)]
    source: Name = "kommo-streams"
    uniq: Name | None = None
    link: Link | None = None
    result: Annotated[str, Field(max_length=255), AfterValidator(_storable)] | None = None
    status: CallStatus | None = None
    responsible_user_id: Id | None = None


class CreateMeetingNote(_OnEntity):
    """Record a meeting as a task of type 2: Kommo has no note of meetings. With `done` it is completed at once."""

    action = "create_meeting_note"

    text: Text
    at: Deadline
    duration_seconds: Annotated[int, Field(ge=0, le=7 * 86_400)] | None = None
    done: bool = False
    result: Text | None = None
    responsible_user_id: Id | None = None

    @model_validator(mode="after")
    def _result_of_what_is_done(self) -> CreateMeetingNote:
        if self.result is not None and not self.done:
            raise ValueError("result needs done: a meeting that was not yet has none")
        return self


class SendEmail(_OnEntity):
    """Send a mail by a mail server of one's own, and record it as a note: Kommo's API can send none."""

    action = "send_email"

    to: Annotated[list[Recipient], Field(min_length=1, max_length=50)]
    subject: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_one_line)]
    text: Text
    cc: Annotated[list[Recipient], Field(max_length=50)] = []
    reply_to: Recipient | None = None


def _changes_something(model: _Model, keys: set[str], clears: Collection[str] = ()) -> _Model:
    """Refuse what would be an empty request; what is in `clears` says something as an empty list, too."""
    for name in model.model_fields_set - keys:
        value = getattr(model, name)
        if value not in (None, []) or (value == [] and name in clears):
            return model
    raise ValueError("names nothing to change")


ACTIONS: dict[str, type[Action]] = {
    model.action: model
    for model in (
        CreateLead,
        UpdateLead,
        CreateContact,
        UpdateContact,
        CreateTask,
        AddNote,
        CreateCallNote,
        CreateMeetingNote,
        SendEmail,
    )
}
"""Every action by its name."""
