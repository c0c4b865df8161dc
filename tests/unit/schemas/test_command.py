"""A command is read back as it was made; what is none is refused by the name of its wrong field, never by its value."""

from __future__ import annotations

import copy
import datetime as dt
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from schemas.actions import (
    ACTIONS,
    CALL_STATUSES,
    Action,
    AddNote,
    CreateContact,
    CreateLead,
    CustomField,
    FieldValue,
    MailAddress,
    NewContact,
    PhoneNumber,
    SendEmail,
    UpdateContact,
    UpdateLead,
)
from schemas.command import Command, CommandError, id_of_key

ACCOUNT = 16700680
ID = "7d0b3f6e-30a5-4a4f-9c53-0e1b6c7f2a10"
OTHER = "c4e1d9a2-6b1f-5d3e-8f70-2a9b4c6d8e01"
MARK = "Maria-Secretova"

DATA: dict[str, dict[str, Any]] = {
    "create_lead": {
        "name": "Kitchen",
        "price": 1500,
        "status_id": 32392161,
        "pipeline_id": 3270357,
        "responsible_user_id": 2852878,
        "custom_fields": [{"field_code": "UTM_SOURCE", "values": [{"value": "google"}]}],
        "tags": ["web"],
        "contact": {
            "first_name": "Ana",
            "last_name": "Ruiz",
            "phones": [{"value": "+34 600 000 000", "kind": "MOB"}],
            "emails": [{"value": "ana@example.com"}],
            "custom_fields": [{"field_id": 771904, "values": [{"value": "CEO"}]}],
            "tags": ["vip"],
        },
    },
    "update_lead": {
        "lead_id": 123,
        "name": "Kitchen, white",
        "price": 0,
        "status_id": 142,
        "pipeline_id": 3270357,
        "loss_reason_id": 5,
        "responsible_user_id": 2852878,
        "custom_fields": [{"field_id": 467289, "values": [{"enum_id": 917603, "enum_code": "ads"}]}],
        "tags_to_add": ["won"],
        "tags_to_delete": ["web"],
    },
    "create_contact": {"name": "Ana Ruiz", "emails": [{"value": "ana@example.com", "kind": "PRIV"}]},
    "update_contact": {"contact_id": 77, "phones": [{"value": "600000000"}], "tags": ["vip"]},
    "create_task": {
        "text": "Call back",
        "complete_till": "2026-12-01T09:30:00+01:00",
        "entity_type": "lead",
        "entity_id": 123,
        "task_type_id": 1,
        "responsible_user_id": 2852878,
        "duration_seconds": 1800,
    },
    "add_note": {"entity_type": "company", "entity_id": 9, "text": "Asked for an offer"},
    "create_call_note": {
        "entity_type": "contact",
        "entity_id": 77,
        "direction": "out",
        "phone": "+34600000000",
        "duration_seconds": 61,
        "source": "telephony",
        "uniq": "call-1",
        "link": "https://example.com/1.mp3",
        "result": "wants it",
        "status": "conversation",
        "responsible_user_id": 2852878,
    },
    "create_meeting_note": {
        "entity_type": "lead",
        "entity_id": 123,
        "text": "At the office",
        "at": "2026-12-01T10:00:00Z",
        "duration_seconds": 3600,
        "done": True,
        "result": "signed",
        "responsible_user_id": 2852878,
    },
    "send_email": {
        "entity_type": "lead",
        "entity_id": 123,
        "to": ["ana@example.com"],
        "subject": "Offer",
        "text": "Dear Ana",
        "cc": ["sales@example.org"],
        "reply_to": "boss@example.org",
    },
}


def envelope(action: str = "create_lead", **changes: Any) -> dict[str, Any]:
    """A command as it lies in kommo.commands, with some attributes changed; ... takes one away."""
    whole = {
        "specversion": "1.0",
        "id": ID,
        "source": "/crm-bot",
        "type": f"kommo.command.{action}",
        "accountid": str(ACCOUNT),
        "data": DATA.get(action, {}),
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not ...}


def read(told: dict[str, Any]) -> Command:
    return Command.from_json(json.dumps(told).encode())


def refused(value: bytes | None) -> CommandError:
    with pytest.raises(CommandError) as caught:
        Command.from_json(value)
    return caught.value


# What is made is read


_NAIVE = dt.datetime(2026, 6, 1)  # noqa: DTZ001 without a zone: hypothesis gives it one
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)
_LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=60)
_IDS = st.integers(1, 2**63 - 1)
_ENTITY_IDS = _IDS | st.just("after")
_MOMENTS = st.datetimes(
    _NAIVE.replace(year=2000), _NAIVE.replace(year=2099), timezones=st.timezones(), allow_imaginary=False
)
_MAILS = st.builds(
    "{}@{}".format,
    st.from_regex(r"[a-z0-9]{1,12}([._+-][a-z0-9]{1,8}){0,2}", fullmatch=True),
    st.sampled_from(["example.com", "EXAMPLE.Org", "müller.de", "почта.рф", "a.b.example.net"]),
)
_PHONES = st.from_regex(r"[+(]?[0-9][0-9 ().-]{2,30}", fullmatch=True)
_VALUES = _TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_FIELD_VALUES = st.fixed_dictionaries({}, optional={"value": _VALUES, "enum_id": _IDS, "enum_code": _TEXT}).filter(bool)
_CUSTOM = st.lists(
    st.one_of(
        st.builds(
            CustomField, field_id=_IDS, values=st.lists(_FIELD_VALUES.map(lambda f: FieldValue(**f)), max_size=3)
        ),
        st.builds(CustomField, field_code=_TEXT, values=st.lists(st.builds(FieldValue, value=_VALUES), max_size=2)),
    ),
    max_size=3,
)
_TAGS = st.lists(_TEXT, max_size=3)
_ENTITIES = st.sampled_from(["lead", "contact", "company"])
_CONTACT: dict[str, st.SearchStrategy[Any]] = {
    "name": _TEXT,
    "first_name": _TEXT,
    "last_name": _TEXT,
    "phones": st.lists(
        st.builds(PhoneNumber, value=_PHONES, kind=st.sampled_from(["WORK", "WORKDD", "MOB", "FAX", "HOME", "OTHER"])),
        max_size=2,
    ),
    "emails": st.lists(
        st.builds(MailAddress, value=_MAILS, kind=st.sampled_from(["WORK", "PRIV", "OTHER"])), max_size=2
    ),
    "responsible_user_id": _IDS,
    "custom_fields": _CUSTOM,
    "tags": _TAGS,
}
_SECONDS = st.integers(0, 86_400)
_ON_ENTITY: dict[str, st.SearchStrategy[Any]] = {"entity_type": _ENTITIES, "entity_id": _ENTITY_IDS}

# By action: the fields that must be there, and those that may.
FIELDS: dict[str, tuple[dict[str, st.SearchStrategy[Any]], dict[str, st.SearchStrategy[Any]]]] = {
    "create_lead": (
        {},
        {
            "name": _TEXT,
            "price": st.integers(0, 2**53 - 1),
            "status_id": _IDS,
            "pipeline_id": _IDS,
            "responsible_user_id": _IDS,
            "custom_fields": _CUSTOM,
            "tags": _TAGS,
            "contact": st.fixed_dictionaries({}, optional=_CONTACT).map(lambda told: _made(NewContact, told)),
            "contact_id": _ENTITY_IDS,
        },
    ),
    "update_lead": (
        {"lead_id": _ENTITY_IDS},
        {
            "name": _TEXT,
            "price": st.integers(0, 2**53 - 1),
            "status_id": _IDS,
            "pipeline_id": _IDS,
            "loss_reason_id": _IDS,
            "responsible_user_id": _IDS,
            "custom_fields": _CUSTOM,
            "tags_to_add": _TAGS,
            "tags_to_delete": _TAGS,
        },
    ),
    "create_contact": ({}, _CONTACT),
    "update_contact": ({"contact_id": _ENTITY_IDS}, _CONTACT),
    "create_task": (
        {"text": _TEXT, "complete_till": _MOMENTS},
        {**_ON_ENTITY, "task_type_id": _IDS, "responsible_user_id": _IDS, "duration_seconds": _SECONDS},
    ),
    "add_note": ({**_ON_ENTITY, "text": _TEXT}, {}),
    "create_call_note": (
        {**_ON_ENTITY, "direction": st.sampled_from(["in", "out"]), "phone": _PHONES, "duration_seconds": _SECONDS},
        {
            "source": _TEXT,
            "uniq": _TEXT,
            "link": st.just("https://example.com/a.mp3?x=1"),
            "result": _TEXT,
            "status": st.sampled_from(sorted(CALL_STATUSES)),
            "responsible_user_id": _IDS,
        },
    ),
    "create_meeting_note": (
        {**_ON_ENTITY, "text": _TEXT, "at": _MOMENTS},
        {"duration_seconds": _SECONDS, "done": st.booleans(), "result": _TEXT, "responsible_user_id": _IDS},
    ),
    "send_email": (
        {**_ON_ENTITY, "to": st.lists(_MAILS, min_size=1, max_size=3), "subject": _LINE, "text": _TEXT},
        {"cc": st.lists(_MAILS, max_size=2), "reply_to": _MAILS},
    ),
}


def _made(model: type[BaseModel], told: dict[str, Any]) -> BaseModel | None:
    """A model of these fields, None where they do not go together."""
    try:
        return model(**told)
    except ValidationError:
        return None


def actions(name: str) -> st.SearchStrategy[Action]:
    must, may = FIELDS[name]
    told = st.fixed_dictionaries(must, optional=may).filter(lambda found: None not in found.values())
    return told.map(lambda found: cast(Action, _made(ACTIONS[name], found))).filter(bool)


@pytest.mark.parametrize("name", ACTIONS)
def test_the_tests_know_every_field_of_an_action(name: str) -> None:
    must, may = FIELDS[name]
    model = ACTIONS[name].model_fields
    assert must.keys() | may.keys() == model.keys()
    assert must.keys() == {field for field, told in model.items() if told.is_required()}
    assert DATA.keys() == ACTIONS.keys()


ANY_ACTION = {name: actions(name) for name in sorted(ACTIONS)}


@given(name=st.sampled_from(list(ANY_ACTION)), data=st.data())
def test_what_is_made_is_read_as_it_was(name: str, data: st.DataObject) -> None:
    action = data.draw(ANY_ACTION[name])
    wants = "after" in (getattr(action, field, None) for field in ("lead_id", "contact_id", "entity_id"))
    after = data.draw(st.uuids(version=4).map(str) if wants else st.none() | st.uuids().map(str))
    expires = data.draw(st.none() | st.datetimes(_NAIVE.replace(year=1900), timezones=st.just(dt.UTC)))
    made = Command.make(
        action,
        account_id=data.draw(st.integers(1, 10**18 - 1)),
        after=after,
        expires=expires,
        correlation_id=data.draw(st.none() | _LINE),
        causation_id=data.draw(st.none() | _LINE),
        source=data.draw(_LINE),
    )
    value = made.to_json()
    assert Command.from_json(value) == made
    assert Command.from_json(value).to_json() == value
    assert (made.action, made.name, type(made.action)) == (action, name, type(action))
    assert (made.after, made.expires) == (after, expires)
    assert made.time.utcoffset() == dt.timedelta(0)
    assert made.action.model_fields_set == action.model_fields_set
    assert made.key == f"{made.account_id}/{made.subject}".encode()


@pytest.mark.parametrize("name", ACTIONS)
def test_a_command_of_another_program_is_read(name: str) -> None:
    command = read(envelope(name))
    assert (command.id, command.account_id, command.name) == (ID, ACCOUNT, name)
    assert (command.source, command.correlation_id, command.causation_id) == ("/crm-bot", ID, None)
    assert dt.datetime.now(dt.UTC) - command.time < dt.timedelta(minutes=1)
    told = json.loads(command.to_json())["data"]
    for field in ("complete_till", "at"):
        if field in told:
            assert dt.datetime.fromisoformat(told.pop(field)) == dt.datetime.fromisoformat(DATA[name][field])
    assert told.items() <= DATA[name].items()
    assert command.data() == json.loads(command.to_json())["data"]


def test_moments_are_utc() -> None:
    told = envelope("create_task", time="2026-11-24T10:00:00.25+05:30", expires="2026-11-25T00:00:00-08:00")
    command = read(told)
    assert command.time == dt.datetime(2026, 11, 24, 4, 30, 0, 250_000, dt.UTC)
    assert command.time.isoformat() == "2026-11-24T04:30:00.250000+00:00"
    assert command.expires is not None
    assert command.expires.isoformat() == "2026-11-25T08:00:00+00:00"


@pytest.mark.parametrize("name", ACTIONS)
def test_the_cloudevents_sdk_reads_a_command(name: str) -> None:
    formats = pytest.importorskip("cloudevents.core.formats.json", reason="the CloudEvents SDK is not installed")
    text = Path(__file__).with_name("cloudevents-1.0.json").read_text(encoding="utf-8")
    schema = Draft202012Validator(json.loads(text))
    made = read(envelope(name, after=OTHER, expires="2027-01-01T00:00:00Z", causationid="event-1"))
    value = made.to_json()
    event = formats.JSONFormat().read(None, value)
    assert (event.get_id(), event.get_type()) == (ID, f"kommo.command.{name}")
    assert (event.get_subject(), event.get_data()) == (made.subject, made.data())
    assert event.get_extension("accountid") == str(ACCOUNT)
    assert event.get_extension("after") == OTHER
    assert [error.message for error in schema.iter_errors(json.loads(value))] == []
    assert Command.from_json(formats.JSONFormat().write(event)) == made


# Whose turn it is: key and subject


@pytest.mark.parametrize(
    ("name", "changes", "subject"),
    [
        ("create_lead", {}, f"lead/new:{ID}"),
        ("create_contact", {}, f"contact/new:{ID}"),
        ("update_lead", {}, "lead/123"),
        ("update_contact", {}, "contact/77"),
        ("create_task", {}, "lead/123"),
        ("create_task", {"entity_type": None, "entity_id": None}, f"task/new:{ID}"),
        ("add_note", {}, "company/9"),
        ("create_call_note", {}, "contact/77"),
        ("create_meeting_note", {"entity_type": "company"}, "company/123"),
        ("send_email", {}, "lead/123"),
        ("update_lead", {"lead_id": "after"}, f"lead/new:{OTHER}"),
        ("update_contact", {"contact_id": "after"}, f"contact/new:{OTHER}"),
        ("add_note", {"entity_id": "after"}, f"company/new:{OTHER}"),
        ("create_lead", {"contact": None, "contact_id": "after"}, f"lead/new:{ID}"),
    ],
)
def test_the_key_is_account_and_entity(name: str, changes: dict[str, Any], subject: str) -> None:
    command = read(envelope(name, data={**DATA[name], **changes}, after=OTHER))
    assert command.subject == subject
    assert command.key == f"{ACCOUNT}/{subject}".encode()
    assert read(envelope(name, data={**DATA[name], **changes}, after=OTHER, subject=subject)) is not None


def test_an_idempotency_key_is_one_id_for_each_account() -> None:
    one = id_of_key(ACCOUNT, "order-1")
    assert one == id_of_key(ACCOUNT, "order-1") == "14dd0358-3d77-5287-ab91-98bdf068334a"
    assert len({one, id_of_key(ACCOUNT, "order-2"), id_of_key(ACCOUNT + 1, "order-1")}) == 3
    # An account and a key cannot be read as another account and another key.
    assert id_of_key(1, "2/x") != id_of_key(12, "x")
    assert uuid.UUID(one).version == 5
    made = Command.make(AddNote(entity_type="lead", entity_id=1, text="x"), account_id=ACCOUNT, command_id=one)
    assert (made.id, made.correlation_id) == (one, one)


def test_without_an_id_each_command_has_its_own() -> None:
    action = AddNote(entity_type="lead", entity_id=1, text="x")
    assert len({Command.make(action, account_id=ACCOUNT).id for _ in range(100)}) == 100


# What is none


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": ...}, None),  # it has a default
        ({"id": ...}, "id"),
        ({"id": ""}, "id"),
        ({"id": 5}, "id"),
        ({"id": ID.upper()}, "id"),
        ({"id": f"{ID}\n"}, "id"),
        ({"source": ""}, "source"),
        ({"source": "/x\0"}, "source"),
        ({"source": "x" * 201}, "source"),
        ({"type": ...}, "type"),
        ({"type": "kommo.command.delete_lead"}, "type"),
        ({"type": "kommo.command."}, "type"),
        ({"type": "kommo.lead.added"}, "type"),
        ({"type": "create_lead"}, "type"),
        ({"type": None}, "type"),
        ({"subject": "lead/5"}, "subject"),
        ({"subject": f"lead/new:{OTHER}"}, "subject"),
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 161}, "subject"),
        ({"time": "yesterday"}, "time"),
        ({"time": 1790000000}, "time"),
        ({"time": "1790000000"}, "time"),
        ({"time": "1790000000000"}, "time"),
        ({"time": "2026-11-24"}, "time"),
        ({"time": "2026-11-24T10:00:00"}, "time"),
        ({"time": "2026-11-24T10:00:60Z"}, "time"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "time"),
        ({"expires": "9999-12-31T23:59:59-10:00"}, "expires"),
        ({"expires": "9999999999999"}, "expires"),
        ({"datacontenttype": "text/plain"}, "datacontenttype"),
        ({"dataschema": "urn:kommo-streams:kommo.command.create_lead:2"}, "dataschema"),
        ({"dataschema": "urn:kommo-streams:kommo.command.update_lead:1"}, "dataschema"),
        ({"dataschema": "http://example.com"}, "dataschema"),
        ({"dataschema": "urn:kommo-streams:kommo.command.create_lead:1"}, None),
        ({"accountid": ...}, "accountid"),
        ({"accountid": ACCOUNT}, "accountid"),
        ({"accountid": "0"}, "accountid"),
        ({"accountid": "-5"}, "accountid"),
        ({"accountid": "05"}, "accountid"),
        ({"accountid": "5\n"}, "accountid"),
        ({"accountid": "٥"}, "accountid"),
        ({"accountid": str(2**63)}, "accountid"),  # PostgreSQL's bigint ends there
        ({"accountid": "9" * 18}, None),
        ({"after": "lead/5"}, "after"),
        ({"after": ID}, "after"),
        ({"correlationid": ""}, "correlationid"),
        ({"correlationid": "x\0y"}, "correlationid"),
        ({"correlationid": "x" * 129}, "correlationid"),
        ({"causationid": "x\ny"}, "causationid"),
        ({"causationid": 5}, "causationid"),
        ({"data": ...}, "data"),
        ({"data": None}, "data"),
        ({"data": []}, "data"),
        ({"data": "{}"}, "data"),
        ({"priority": 5}, "priority"),
        ({"data_base64": "e30="}, "data_base64"),
    ],
)
def test_a_wrong_attribute_is_named(changes: dict[str, Any], field: str | None) -> None:
    told = json.dumps(envelope(**changes)).encode()
    if field is None:
        assert Command.from_json(told).id == ID
        return
    error = refused(told)
    assert error.field == field
    assert str(error).startswith(f"{field}: ")


_LONG = "x" * 256


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("create_lead", {"price": "1500"}, "price"),
        ("create_lead", {"price": 1500.0}, "price"),
        ("create_lead", {"price": True}, "price"),
        ("create_lead", {"price": -1}, "price"),
        ("create_lead", {"price": 2**53}, "price"),
        ("create_lead", {"price": 10**40}, "price"),
        ("create_lead", {"status_id": 0}, "status_id"),
        ("create_lead", {"status_id": 2**63}, "status_id"),
        ("create_lead", {"responsible_user_id": "2852878"}, "responsible_user_id"),
        ("create_lead", {"name": ""}, "name"),
        ("create_lead", {"name": _LONG}, "name"),
        ("create_lead", {"name": 5}, "name"),
        ("create_lead", {"name": "a\0b"}, "name"),
        ("create_lead", {"tags": "web"}, "tags"),
        ("create_lead", {"tags": [{"name": "web"}]}, "tags.0"),
        ("create_lead", {"tags": ["x"] * 251}, "tags"),
        ("create_lead", {"custom_fields": [{"field_id": 1, "values": []}] * 41}, "custom_fields"),
        ("create_lead", {"custom_fields": [{"values": []}]}, "custom_fields.0"),
        ("create_lead", {"custom_fields": [{"field_id": 1, "field_code": "A", "values": []}]}, "custom_fields.0"),
        ("create_lead", {"custom_fields": [{"field_id": 1}]}, "custom_fields.0.values"),
        ("create_lead", {"custom_fields": [{"field_id": 1, "values": [{}]}]}, "custom_fields.0.values.0"),
        ("create_lead", {"custom_fields": [{"field_id": 1, "values": [{"value": None}]}]}, "custom_fields.0.values.0"),
        *(
            (
                "create_lead",
                {"custom_fields": [{"field_id": 1, "values": [{"value": value}]}]},
                "custom_fields.0.values.0.value",
            )
            for value in (2**63, -(2**63) - 1, 10**400, [], {}, "\0")
        ),
        ("create_lead", {"contact_id": 5}, ""),
        ("create_lead", {"contact": {}}, "contact"),
        ("create_lead", {"contact": {"name": "A", "first_name": "B"}}, "contact"),
        ("create_lead", {"contact": {"phones": ["+34600000000"]}}, "contact.phones.0"),
        ("create_lead", {"contact": {"phones": [{"value": "call me"}]}}, "contact.phones.0.value"),
        ("create_lead", {"contact": {"phones": [{"value": "1" * 41}]}}, "contact.phones.0.value"),
        ("create_lead", {"contact": {"phones": [{"value": "12"}]}}, "contact.phones.0.value"),
        ("create_lead", {"contact": {"phones": [{"value": 34600000000}]}}, "contact.phones.0.value"),
        ("create_lead", {"contact": {"phones": [{"value": "600", "kind": "work"}]}}, "contact.phones.0.kind"),
        ("create_lead", {"contact": {"emails": [{"value": "ana"}]}}, "contact.emails.0.value"),
        (
            "create_lead",
            {"contact": {"phones": [{"value": "600"}], "custom_fields": [{"field_code": "PHONE", "values": []}]}},
            "contact",
        ),
        ("create_lead", {"contact_id": "5", "contact": None}, "contact_id"),
        ("create_lead", {"pipeline": 5}, "pipeline"),
        ("update_lead", {"lead_id": ...}, "lead_id"),
        ("update_lead", {"lead_id": True}, "lead_id"),
        ("update_lead", {"lead_id": 5.0}, "lead_id"),
        ("update_lead", {"lead_id": 2**63}, "lead_id"),
        ("update_lead", {"lead_id": "before"}, "lead_id"),
        ("create_contact", {"name": ..., "emails": ...}, ""),
        ("create_contact", {"name": ..., "emails": []}, ""),
        ("create_task", {"text": ...}, "text"),
        ("create_task", {"text": "x" * 20_001}, "text"),
        ("create_task", {"complete_till": ...}, "complete_till"),
        ("create_task", {"complete_till": 1_790_000_000_000}, "complete_till"),
        ("create_task", {"complete_till": "1790000000000"}, "complete_till"),
        ("create_task", {"complete_till": 1_790_000_000}, "complete_till"),
        ("create_task", {"complete_till": "2026-12-01"}, "complete_till"),
        ("create_task", {"complete_till": "2026-12-01T10:00:00"}, "complete_till"),
        ("create_task", {"complete_till": "2026-12-01T10:00:00Z\n"}, "complete_till"),
        ("create_task", {"complete_till": "1999-12-31T23:59:59Z"}, "complete_till"),
        ("create_task", {"complete_till": "2100-01-01T00:00:00Z"}, "complete_till"),
        ("create_task", {"entity_id": ...}, ""),
        ("create_task", {"entity_type": "customer"}, "entity_type"),
        ("create_task", {"duration_seconds": 604_801}, "duration_seconds"),
        ("add_note", {"entity_type": ...}, "entity_type"),
        ("add_note", {"entity_type": "leads"}, "entity_type"),
        ("add_note", {"note_type": "common"}, "note_type"),
        ("create_call_note", {"direction": "inbound"}, "direction"),
        ("create_call_note", {"duration_seconds": -1}, "duration_seconds"),
        ("create_call_note", {"status": 4}, "status"),
        ("create_call_note", {"link": "ftp://example.com/x"}, "link"),
        ("create_call_note", {"link": "https://example.com/x\nSet-Cookie: a"}, "link"),
        ("create_meeting_note", {"done": False}, ""),
        ("create_meeting_note", {"done": 1}, "done"),
        ("create_meeting_note", {"at": 1_790_000_000_000}, "at"),
        ("send_email", {"to": []}, "to"),
        ("send_email", {"to": "ana@example.com"}, "to"),
        ("send_email", {"to": ["ana@example.com"] * 51}, "to"),
        ("send_email", {"to": ["ana@example.com", "ana"]}, "to.1"),
        ("send_email", {"to": ["a,b@example.com"]}, "to.0"),
        ("send_email", {"to": ["ana@exa mple.com"]}, "to.0"),
        ("send_email", {"to": ["ana@example.com\r\nRCPT TO:<x@example.com>"]}, "to.0"),
        ("send_email", {"to": ["анна@example.com"]}, "to.0"),
        ("send_email", {"cc": ["ana@@example.com"]}, "cc.0"),
        ("send_email", {"reply_to": "x@" + "x" * 64 + ".com"}, "reply_to"),
        ("send_email", {"bcc": ["x@example.com"]}, "bcc"),
        *(
            ("send_email", {"subject": f"Offer{sign}Bcc: x@example.com"}, "subject")
            for sign in (
                "\r\n",
                "\n",
                "\r",
                "\v",
                "\f",
                "\x1c",
                "\x1d",
                "\x1e",
                "\x85",
                "\u2028",
                "\u2029",
                "\0",
                "\x7f",
            )
        ),
    ],
)
def test_a_wrong_field_is_named(name: str, changes: dict[str, Any], field: str) -> None:
    data = {key: value for key, value in {**DATA[name], **changes}.items() if value is not ...}
    error = refused(json.dumps(envelope(name, data=data)).encode())
    assert error.field == ".".join(filter(None, ("data", field)))
    assert str(error).startswith(f"{error.field}: ")
    # Whose and which it is can still be told, so that it can be answered.
    assert (error.id, error.account_id, error.action) == (ID, ACCOUNT, name)


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"NaN", b"Infinity"])
def test_what_is_no_number_is_no_null_either(number: bytes) -> None:
    data = {"custom_fields": [{"field_id": 1, "values": [{"value": 12345}]}]}
    told = json.dumps(envelope(data=data)).encode()
    assert Command.from_json(told).name == "create_lead"
    error = refused(told.replace(b"12345", number))
    assert (error.field, error.id) == ("data.custom_fields.0.values.0.value", ID)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("update_lead", {"lead_id": 5}),
        ("update_lead", {"lead_id": 5, "name": None}),
        ("update_lead", {"lead_id": 5, "custom_fields": [], "tags_to_add": []}),
        ("update_contact", {"contact_id": 5}),
        ("update_contact", {"contact_id": 5, "custom_fields": [], "phones": None}),
    ],
)
def test_a_change_of_nothing_is_refused(name: str, data: dict[str, Any]) -> None:
    assert str(refused(json.dumps(envelope(name, data=data)).encode())) == "data: names nothing to change"


@pytest.mark.parametrize("field", ["phones", "emails", "tags"])
def test_a_contact_can_lose_all_of_something(field: str) -> None:
    command = read(envelope("update_contact", data={"contact_id": 5, field: []}))
    assert Command.from_json(command.to_json()) == command
    assert command.data() == {"contact_id": 5, field: []}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("create_lead", {"contact": None, "contact_id": "after"}),
        ("update_lead", {"lead_id": "after"}),
        ("add_note", {"entity_id": "after"}),
        ("create_task", {"entity_id": "after"}),
    ],
)
def test_after_needs_the_command_that_is_waited_for(name: str, changes: dict[str, Any]) -> None:
    told = envelope(name, data={**DATA[name], **changes})
    assert refused(json.dumps(told).encode()).field == "after"
    assert read({**told, "after": OTHER}).after == OTHER
    with pytest.raises(CommandError) as caught:
        Command.make(read({**told, "after": OTHER}).action, account_id=ACCOUNT)
    assert caught.value.field == "after"


@pytest.mark.parametrize(
    ("given_", "field"),
    [
        ({"account_id": 0}, "accountid"),
        ({"account_id": 2**63}, "accountid"),
        ({"command_id": "order-1"}, "id"),
        ({"command_id": ID, "after": ID}, "after"),
        ({"after": "order-1"}, "after"),
        ({"expires": _NAIVE}, "expires"),
        ({"source": ""}, "source"),
        ({"source": "\ud800"}, ""),
        ({"correlation_id": "a\0"}, "correlationid"),
    ],
)
def test_what_could_not_be_read_is_not_made(given_: dict[str, Any], field: str) -> None:
    action = AddNote(entity_type="lead", entity_id=1, text="x")
    with pytest.raises(CommandError) as caught:
        Command.make(action, **{"account_id": ACCOUNT, **given_})
    assert caught.value.field == field


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_half_a_character_is_no_text(text: str) -> None:
    with pytest.raises(ValidationError):
        AddNote(entity_type="lead", entity_id=1, text=text)
    with pytest.raises(CommandError):
        Command.make(CreateLead(custom_fields=[CustomField(field_id=1, values=[FieldValue(value=text)])]), account_id=1)
    refused(json.dumps(envelope("add_note", data={**DATA["add_note"], "text": text})).encode())


def _leaves(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in inner:
        yield from _leaves(value, (*path, name))
    if not isinstance(node, dict | list):
        yield path


def _with(told: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    whole: Any = copy.deepcopy(told)
    node = whole
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    return cast("dict[str, Any]", whole)


@pytest.mark.parametrize("name", ACTIONS)
def test_no_text_of_a_command_may_hold_what_postgresql_cannot(name: str) -> None:
    told = envelope(name, after=OTHER, correlationid="c", causationid="d", subject=read(envelope(name)).subject)
    texts = [path for path in _leaves(told) if isinstance(_at(told, path), str)]
    assert len(texts) > 8
    for path in texts:
        error = refused(json.dumps(_with(told, path, f"{_at(told, path)}\0")).encode())
        assert error.field == ".".join(map(str, path))
        assert "\0" not in str(error)


def _at(told: Any, path: tuple[str | int, ...]) -> Any:
    for name in path:
        told = told[name]
    return told


@pytest.mark.parametrize("name", ACTIONS)
def test_what_a_wrong_field_holds_is_never_said(name: str) -> None:
    told = envelope(name, after=OTHER, correlationid="c", time="2026-11-24T10:00:00Z", expires="2030-01-01T00:00:00Z")
    wrong: list[Any] = [
        f"{MARK}\0\r\n",
        MARK * 9000 + "\0",
        f"{MARK}@{MARK}@\0",
        f"\0{MARK} x@example.com",
        [MARK],
        {MARK: MARK},
        {"value": MARK, "x": {"y": [MARK]}},
        [[[[MARK]]]],
    ]
    for path in _leaves(told):
        for value in wrong:
            error = refused(json.dumps(_with(told, path, value)).encode())
            said = f"{error} {error.field}"
            if not (isinstance(value, dict) and MARK in value):  # a field's own name may be said
                assert MARK not in said, (path, value)
            assert len(said) < 600


@pytest.mark.parametrize("address", ["a b@example.com", "a@exa_mple.com", "a@" + "x" * 300, "€"])
def test_no_part_of_an_address_is_said(address: str) -> None:
    error = refused(json.dumps(envelope("send_email", data={**DATA["send_email"], "to": [address]})).encode())
    assert str(error) == "data.to.0: value is not a valid email address"


def test_a_field_of_any_name_is_said_shortly() -> None:
    for name in ("x" * 1_000_000, "a\0b", "naïve\n", "", "\u202e"):
        error = refused(json.dumps(envelope(data={"name": "x", name: 1})).encode())
        assert error.field == "data.?"
        assert str(error) == "data.?: Extra inputs are not permitted"


# Anything at all


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"null",
        b"5",
        b'"text"',
        b"[]",
        b"{}",
        b"{",
        b"\xff\xfe",
        b"\x00" * 100,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"id":' + b"[" * 1000 + b"]" * 1000 + b"}",
        b'{"type":' + b"[" * 150 + b"]" * 150 + b',"id":{},"accountid":[]}',
        b'{"id":' + b"9" * 5000 + b"}",
        orjson.dumps(envelope())[:-1],
        orjson.dumps(envelope()) + b"x",
        b"\xef\xbb\xbf" + orjson.dumps(envelope()),
    ],
    ids=range(18),
)
def test_bytes_that_are_no_command(value: bytes | None) -> None:
    error = refused(value)
    assert (error.account_id, error.id) in ((0, ""), (ACCOUNT, ID))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(MARK),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(name=st.sampled_from(sorted(ACTIONS)), data=st.data())
def test_a_command_with_anything_in_one_place_is_read_or_refused(name: str, data: st.DataObject) -> None:
    told = envelope(name, after=OTHER, correlationid="c")
    path = data.draw(st.sampled_from(list(_leaves(told))))
    value = data.draw(_JSON)
    changed = _with(told, path, value)
    try:
        command = Command.from_json(json.dumps(changed).encode("utf-8", "surrogatepass"))
    except CommandError as error:
        if not isinstance(value, dict):
            assert MARK not in str(error)  # noqa: PT017
    else:
        assert Command.from_json(command.to_json()) == command


@given(name=st.sampled_from(sorted(ACTIONS)), data=st.data())
def test_bytes_changed_anywhere_are_read_or_refused(name: str, data: st.DataObject) -> None:
    value = bytearray(orjson.dumps(envelope(name)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(value) - 1))
        end = min(len(value), place + data.draw(st.integers(0, 3)))
        value[place:end] = data.draw(st.binary(max_size=3))
        if not value:
            break
    try:
        Command.from_json(bytes(value))
    except CommandError as error:
        assert all(text not in str(error) for text in ("Kitchen", "Ruiz", "example.com", "600"))  # noqa: PT017


@given(st.binary(max_size=300))
def test_garbage_is_refused(value: bytes) -> None:
    refused(value)


# Addresses and numbers


def test_addresses_and_numbers_that_people_have() -> None:
    for phone in ("+7 (812) 336-77-07", "8-800-555-35-35 доб. 12", "112", "0049 30/123456"):
        assert PhoneNumber(value=phone).value == phone
    for given_, kept in {
        "ana.ruiz+crm@Example.COM": "ana.ruiz+crm@example.com",
        "o'neil@example.ie": "o'neil@example.ie",
        "почта@пример.рф": "почта@пример.рф",
        "a@xn--e1afmkfd.xn--p1ai": "a@пример.рф",
    }.items():
        assert MailAddress(value=given_).value == kept
        assert MailAddress(value=kept).value == kept
    for wrong in ("", "a@", "@b.com", "a@b", "a@localhost", 'a"b@example.com', "a..b@example.com", "a@example.com\0"):
        with pytest.raises(ValidationError):
            MailAddress(value=wrong)


def test_a_mail_cannot_be_given_more_headers_than_its_own() -> None:
    for subject in ("Offer № 5: −20 % for «Ana»", "a\u00a0b", "=?utf-8?q?x?="):
        assert (
            SendEmail(entity_type="lead", entity_id=1, to=["a@example.com"], subject=subject, text="x").subject
            == subject
        )
    for address in (
        "Ana\r\nBcc: x@example.com <a@example.com>",
        "a@example.com\r\nBcc: x@example.com",
        "a@example.com>",
    ):
        with pytest.raises(ValidationError):
            MailAddress(value=address)


def test_what_is_not_said_is_not_sent_and_not_in_the_command() -> None:
    assert Command.make(UpdateLead(lead_id=5, price=0), account_id=1).data() == {"lead_id": 5, "price": 0}
    assert Command.make(UpdateContact(contact_id=5, tags=[]), account_id=1).data() == {"contact_id": 5, "tags": []}
    assert Command.make(CreateContact(name="A"), account_id=1).data() == {"name": "A"}
