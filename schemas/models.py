"""What an event's data holds: a pydantic model for each kind. Field names are Kommo's own; see kommo's webhook format.

Every model keeps the fields it does not know (schemas/wire.py). All numbers may be None or, where Kommo sent
something else, text.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.wire import Int, Text, Wire


class Change(BaseModel):
    """One field's change as the body itself proves it."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True, frozen=True)

    before: Any = Field(None, alias="from")
    after: Any = Field(None, alias="to")


class CustomField(Wire):
    """A filled custom field; `values` is as Kommo sent it: a list of {value, enum}, of bare texts, or one map."""

    id: Int = None
    name: Text = None
    code: Text = None
    values: Any = None


class Lead(Wire):
    """A lead as a webhook describes it; deletes carry only id, status_id and pipeline_id."""

    id: Int
    name: Text = None
    status_id: Int = None
    old_status_id: Int = None
    price: Int = None
    responsible_user_id: Int = None
    old_responsible_user_id: Int = None
    last_modified: Int = None
    modified_user_id: Int = None
    created_user_id: Int = None
    date_create: Int = None
    pipeline_id: Int = None
    account_id: Int = None
    group_id: Int = None
    created_at: Int = None
    updated_at: Int = None
    custom_fields: Annotated[list[CustomField] | Any, Field(union_mode="left_to_right")] = None


class Contact(Wire):
    """A contact or a company; `linked_leads_id` is a map keyed by lead id."""

    id: Int
    name: Text = None
    type: Text = None
    responsible_user_id: Int = None
    old_responsible_user_id: Int = None
    date_create: Int = None
    last_modified: Int = None
    created_user_id: Int = None
    modified_user_id: Int = None
    account_id: Int = None
    group_id: Int = None
    created_at: Int = None
    updated_at: Int = None
    linked_leads_id: Any = None
    custom_fields: Annotated[list[CustomField] | Any, Field(union_mode="left_to_right")] = None


class Task(Wire):
    """A task. date_create, last_modified, complete_till are "Y-m-d H:i:s" in UTC; complete_before is unix seconds."""

    id: Int
    element_id: Int = None
    element_type: Int = None
    task_type: Int = None
    text: Text = None
    old_text: Text = None
    status: Int = None
    action_close: Int = None
    responsible_user_id: Int = None
    old_responsible_user_id: Int = None
    main_user: Int = None
    modified_by: Int = None
    created_user_id: Int = None
    account_id: Int = None
    result: Any = None
    date_create: Text = None
    last_modified: Text = None
    complete_till: Text = None
    complete_before: Int = None
    created_at: Int = None
    updated_at: Int = None


class Note(Wire):
    """A note on a lead, contact or company. `attachement` is spelled as Kommo spells it."""

    id: Int = None
    text: Text = None
    note_type: Int = None
    element_type: Int = None
    element_id: Int = None
    attachement: Text = None
    account_id: Int = None
    metadata: Any = None
    created_by: Int = None
    modified_by: Int = None
    main_user_id: Int = None
    date_create: Text = None
    timestamp_x: Text = None
    created_at: Int = None
    updated_at: Int = None


class Call(BaseModel):
    """A call, from the JSON in a call note's text. `direction` is in or out, `duration` in seconds."""

    model_config = ConfigDict(extra="allow", frozen=True)

    direction: str
    uniq: Text = None
    phone: Text = None
    duration: Int = None
    link: Text = None
    source: Text = None
    call_status: Int = None
    call_result: Text = None


class Account(Wire):
    """The account block of a body: `link` is its own address, https://SUBDOMAIN.kommo.com."""

    id: Text = None
    subdomain: Text = None
    link: Text = None


class EventData(BaseModel):
    """What the data of every event may hold beside its entity."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: Account | None = None
    changes: dict[str, Change] | None = None


class LeadData(EventData):
    """An event of a lead."""

    lead: Lead


class ContactData(EventData):
    """An event of a contact."""

    contact: Contact


class CompanyData(EventData):
    """An event of a company."""

    company: Contact


class TaskData(EventData):
    """An event of a task."""

    task: Task


class NoteData(EventData):
    """An event of a note; `beside` is what stands beside the note in its item (contacts and companies: `type`)."""

    note: Note
    beside: Any = None


class Customer(Wire):
    """A customer (a buyer who comes again); no captured body is known, the names are those of receivers' code."""

    id: Int
    name: Text = None
    status_id: Int = None
    next_price: Int = None
    next_date: Int = None
    periodicity: Int = None
    responsible_user_id: Int = None
    old_responsible_user_id: Int = None
    created_user_id: Int = None
    modified_user_id: Int = None
    date_create: Int = None
    last_modified: Int = None
    account_id: Int = None
    created_at: Int = None
    updated_at: Int = None
    custom_fields: Annotated[list[CustomField] | Any, Field(union_mode="left_to_right")] = None


class Unsorted(Wire):
    """An incoming lead that nobody has accepted yet. `uid` is its id; `source_data` differs with `category`."""

    uid: Text
    category: Text = None
    source: Text = None
    source_uid: Text = None
    source_id: Text = None
    pipeline_id: Int = None
    account_id: Int = None
    lead_id: Int = None
    request_id: Text = None
    date_create: Int = None
    created_at: Int = None
    modified_user_id: Int = None
    action: Text = None
    source_data: Any = None
    data: Any = None
    accept_result: Any = None
    decline_result: Any = None


class CatalogElement(Wire):
    """An element of a list: a product, an invoice. Deletes carry only id, catalog_id and type."""

    id: Int
    catalog_id: Int = None
    name: Text = None
    deleted: Int = None
    type: Text = None
    created_by: Int = None
    modified_by: Int = None
    date_create: Int = None
    date_modify: Int = None
    created_at: Int = None
    updated_at: Int = None
    custom_fields: Annotated[list[CustomField] | Any, Field(union_mode="left_to_right")] = None


class Talk(Wire):
    """A conversation in a chat. `is_in_work` is 0 once it is closed; `talk_id` is its id."""

    talk_id: Int
    contact_id: Int = None
    chat_id: Text = None
    entity_id: Int = None
    entity_type: Text = None
    rate: Int = None
    is_in_work: Int = None
    is_read: Int = None
    origin: Text = None
    created_at: Int = None
    updated_at: Int = None


class Message(Wire):
    """A message of a chat. `author` and `recipient` are as Kommo sent them; `entity_id` is absent where no lead is."""

    id: Text = None
    chat_id: Text = None
    talk_id: Int = None
    contact_id: Int = None
    text: Text = None
    created_at: Int = None
    element_type: Int = None
    element_id: Int = None
    entity_type: Text = None
    entity_id: Int = None
    type: Text = None
    message_type: Text = None
    author: Any = None
    recipient: Any = None
    attachment: Any = None
    origin: Text = None
    source_id: Text = None


class ChatTemplateReview(Wire):
    """WhatsApp's verdict on a template of a message; no captured body is known."""

    id: Int = None
    status: Text = None


class CallData(EventData):
    """An event of a call; `note` is the note that told of it, `beside` as in NoteData."""

    call: Call
    note: Note
    beside: Any = None


class CustomerData(EventData):
    """An event of a customer."""

    customer: Customer


class UnsortedData(EventData):
    """An event of an incoming lead."""

    unsorted: Unsorted


class CatalogElementData(EventData):
    """An event of an element of a list."""

    catalog_element: CatalogElement


class TalkData(EventData):
    """An event of a conversation."""

    talk: Talk


class MessageData(EventData):
    """A message; its event belongs to the lead or contact of the conversation."""

    message: Message


class ChatTemplateData(EventData):
    """An event of a template of messages."""

    review: ChatTemplateReview


class DigitalPipelineData(EventData):
    """A hook of the digital pipeline: the trigger that fired, and the lead or customer as the hook names it."""

    trigger: str
    lead: Lead | None = None
    customer: Customer | None = None


class SalesbotRequest(Wire):
    """What a salesbot asks: `data` as its author wrote it, and where to answer."""

    return_url: Text
    data: Any = None


class SalesbotData(EventData):
    """An event of a salesbot; `claims` are those of the request's token."""

    request: SalesbotRequest
    claims: dict[str, Any]


class Integration(Wire):
    """An integration, as the call tells that says it was disabled."""

    client_uuid: Text
    account_id: Int = None


class IntegrationData(EventData):
    """An event of the integration itself."""

    integration: Integration


class CommandFacts(BaseModel):
    """A command and what became of it. Times are RFC 3339 in UTC, durations milliseconds.

    `entity` is what it is about: `lead/123`, or `lead/new:<command id>` until that is made. `attempts` counts those so
    far, `duration_ms` is what the last one took, `total_ms` the time since admission. `entities` are those that it
    made or changed, by type; `updated_at` is Kommo's time of that in unix seconds, by which its own webhook is known.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    id: str
    action: str
    entity: str
    attempts: int = 0
    after: str | None = None
    data: dict[str, Any] | None = None
    duration_ms: int | None = None
    total_ms: int | None = None
    next_attempt_at: str | None = None
    error_class: str | None = None
    error: str | None = None
    entities: dict[str, int] | None = None
    updated_at: int | None = None
    decision: str | None = None


class CommandData(EventData):
    """An event of a command."""

    command: CommandFacts


class UnrecognizedData(EventData):
    """What no model knows yet: the fields as Kommo nested them, all texts."""

    fields: Any
