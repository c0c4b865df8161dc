"""What is sent for each action, what counts as found, and which commands keep their order: pure functions."""

from __future__ import annotations

import datetime as dt
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.commands import bodies
from agents.commands.admitted import lane
from agents.commands.matching import named_by_kommo, says
from schemas.actions import (
    CALL_STATUSES,
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
    UpdateContact,
    UpdateLead,
)
from schemas.command import Command

ID = "7d0b3f6e-30a5-4a4f-9c53-0e1b6c7f2a10"
OTHER = "c4e1d9a2-6b1f-5d3e-8f70-2a9b4c6d8e01"
NOON = dt.datetime(2026, 12, 1, 13, 0, 0, 900_000, dt.timezone(dt.timedelta(hours=1)))
NOON_UNIX = 1_796_126_400

FIELDS = [
    CustomField(field_id=1246485, values=[FieldValue(value=12.5)]),
    CustomField(field_code="UTM_SOURCE", values=[FieldValue(value="google")]),
    CustomField(field_id=1246495, values=[FieldValue(enum_id=908107), FieldValue(value="Installation")]),
    CustomField(field_id=1246487, values=[FieldValue(value=False)]),
    CustomField(field_id=1246499, values=[]),
]
FIELDS_SENT = [
    {"field_id": 1246485, "values": [{"value": 12.5}]},
    {"field_code": "UTM_SOURCE", "values": [{"value": "google"}]},
    {"field_id": 1246495, "values": [{"enum_id": 908107}, {"value": "Installation"}]},
    {"field_id": 1246487, "values": [{"value": False}]},
    {"field_id": 1246499, "values": None},
]


def test_a_lead() -> None:
    action = CreateLead(
        name="Kitchen",
        price=0,
        status_id=5,
        pipeline_id=6,
        responsible_user_id=7,
        custom_fields=FIELDS,
        tags=["web", "new"],
    )
    assert bodies.new_lead(action, None) == {
        "name": "Kitchen",
        "price": 0,
        "status_id": 5,
        "pipeline_id": 6,
        "responsible_user_id": 7,
        "custom_fields_values": FIELDS_SENT,
        "_embedded": {"tags": [{"name": "web"}, {"name": "new"}]},
    }
    assert bodies.new_lead(CreateLead(), None) == {}
    assert bodies.new_lead(CreateLead(contact_id="after"), 77) == {"_embedded": {"contacts": [{"id": 77}]}}


def test_a_lead_with_a_new_contact() -> None:
    contact = NewContact(
        first_name="Ana",
        last_name="Ruiz",
        phones=[PhoneNumber(value="600", kind="MOB"), PhoneNumber(value="601")],
        emails=[MailAddress(value="ana@example.com", kind="PRIV")],
        responsible_user_id=7,
        custom_fields=[CustomField(field_code="POSITION", values=[FieldValue(value="CEO")])],
        tags=["vip"],
    )
    assert bodies.new_lead(CreateLead(contact=contact, tags=["web"]), None) == {
        "_embedded": {
            "tags": [{"name": "web"}],
            "contacts": [
                {
                    "first_name": "Ana",
                    "last_name": "Ruiz",
                    "responsible_user_id": 7,
                    "custom_fields_values": [
                        {"field_code": "POSITION", "values": [{"value": "CEO"}]},
                        {
                            "field_code": "PHONE",
                            "values": [{"value": "600", "enum_code": "MOB"}, {"value": "601", "enum_code": "WORK"}],
                        },
                        {"field_code": "EMAIL", "values": [{"value": "ana@example.com", "enum_code": "PRIV"}]},
                    ],
                    "_embedded": {"tags": [{"name": "vip"}]},
                }
            ],
        }
    }


def test_changes_of_a_lead() -> None:
    action = UpdateLead(
        lead_id=5,
        name="N",
        price=0,
        status_id=143,
        pipeline_id=6,
        loss_reason_id=8,
        responsible_user_id=7,
        custom_fields=FIELDS,
        tags_to_add=["a"],
        tags_to_delete=["b"],
    )
    assert bodies.changed_lead(action) == {
        "name": "N",
        "price": 0,
        "status_id": 143,
        "pipeline_id": 6,
        "loss_reason_id": 8,
        "responsible_user_id": 7,
        "custom_fields_values": FIELDS_SENT,
        "tags_to_add": [{"name": "a"}],
        "tags_to_delete": [{"name": "b"}],
    }
    assert bodies.changed_lead(UpdateLead(lead_id=5, price=1)) == {"price": 1}


def test_changes_of_a_contact() -> None:
    assert bodies.contact(UpdateContact(contact_id=5, name="Ana")) == {"name": "Ana"}
    assert bodies.contact(UpdateContact(contact_id=5, tags=["a"])) == {"_embedded": {"tags": [{"name": "a"}]}}
    # By none of something all of it goes: null, as Kommo has it.
    assert bodies.contact(UpdateContact(contact_id=5, tags=[])) == {"_embedded": {"tags": None}}
    assert bodies.contact(UpdateContact(contact_id=5, phones=[])) == {
        "custom_fields_values": [{"field_code": "PHONE", "values": None}]
    }
    assert bodies.contact(CreateContact(name="Ana", tags=[])) == {"name": "Ana"}


def test_a_task_and_a_meeting() -> None:
    task = CreateTask(text="Call", complete_till=NOON)
    assert bodies.task(task, None) == {"text": "Call", "complete_till": NOON_UNIX, "task_type_id": 1}
    whole = CreateTask(
        text="Call",
        complete_till=NOON,
        entity_type="company",
        entity_id="after",
        task_type_id=3,
        responsible_user_id=7,
        duration_seconds=0,
    )
    assert bodies.task(whole, 9) == {
        "text": "Call",
        "complete_till": NOON_UNIX,
        "task_type_id": 3,
        "entity_type": "companies",
        "entity_id": 9,
        "responsible_user_id": 7,
        "duration": 0,
    }
    meeting = CreateMeetingNote(entity_type="lead", entity_id=5, text="Office", at=NOON, duration_seconds=3600)
    told = {
        "text": "Office",
        "complete_till": NOON_UNIX,
        "task_type_id": 2,
        "entity_type": "leads",
        "entity_id": 5,
        "duration": 3600,
    }
    assert bodies.meeting(meeting, 5) == told
    done = meeting.model_copy(update={"done": True, "result": "signed"})
    assert bodies.meeting(done, 5) == {**told, "is_completed": True, "result": {"text": "signed"}}


@pytest.mark.parametrize("moment", [NOON, NOON.astimezone(dt.UTC), NOON.replace(microsecond=0)])
def test_moments_are_whole_unix_seconds(moment: dt.datetime) -> None:
    assert bodies.unix(moment) == NOON_UNIX
    assert type(bodies.unix(moment)) is int


def test_notes_and_calls() -> None:
    note = AddNote(entity_type="contact", entity_id="after", text="Hello")
    assert bodies.note(note, 77) == {"entity_id": 77, "note_type": "common", "params": {"text": "Hello"}}
    call = CreateCallNote(entity_type="lead", entity_id=5, direction="in", phone="600", duration_seconds=0)
    assert bodies.call_note(call, 5, ID) == {
        "entity_id": 5,
        "note_type": "call_in",
        "params": {"uniq": ID, "duration": 0, "source": "kommo-streams", "phone": "600"},
    }
    whole = CreateCallNote(
        entity_type="lead",
        entity_id=5,
        direction="out",
        phone="600",
        duration_seconds=61,
        source="telephony",
        uniq="call-1",
        link="https://example.com/1.mp3",
        result="busy",
        status="busy",
        responsible_user_id=7,
    )
    assert bodies.call_note(whole, 5, ID) == {
        "entity_id": 5,
        "note_type": "call_out",
        "params": {
            "uniq": "call-1",
            "duration": 61,
            "source": "telephony",
            "phone": "600",
            "link": "https://example.com/1.mp3",
            "call_result": "busy",
            "call_status": 7,
        },
        "responsible_user_id": 7,
    }
    assert sorted(CALL_STATUSES.values()) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_note_of_a_mail_says_what_was_sent_and_is_not_too_long() -> None:
    told = bodies.mail_note("Offer", "Dear Ana", ["a@example.com", "b@example.com"], 5)
    assert told["params"] == {"text": "Mail to a@example.com, b@example.com: Offer\n\nDear Ana"}
    assert len(bodies.mail_note("Offer", "x" * 20_000, ["a@example.com"], 5)["params"]["text"]) == 20_000


# Found, or not


def _field(value: Any, kind: str = "text", identifier: int = 1, code: str | None = "C") -> dict[str, Any]:
    values = value if isinstance(value, list) else [{"value": value}]
    return {"field_id": identifier, "field_code": code, "field_type": kind, "values": values}


def _sent(value: Any) -> dict[str, Any]:
    return {
        "custom_fields_values": [{"field_id": 1, "values": value if isinstance(value, list) else [{"value": value}]}]
    }


@pytest.mark.parametrize(
    ("item", "sent"),
    [
        ({"name": "Kitchen", "price": 0}, {"name": "Kitchen"}),
        ({"name": "Kitchen"}, {"name": " Kitchen\t"}),  # Kommo trims
        ({"name": "a\nb"}, {"name": "a\r\nb"}),
        ({"price": None}, {"price": 0}),
        ({}, {"duration": 0}),
        ({"is_completed": True}, {"is_completed": True}),
        ({"custom_fields_values": [_field("x"), _field("y", identifier=2)]}, _sent("x")),
        ({"custom_fields_values": [_field("12.5", "numeric")]}, _sent(12.5)),
        ({"custom_fields_values": [_field("12", "numeric")]}, _sent(12.0)),
        ({"custom_fields_values": [_field("12.5", "numeric")]}, _sent("12.50")),
        ({"custom_fields_values": [_field(1_790_000_000, "date_time")]}, _sent(1_790_000_000)),
        ({"custom_fields_values": [_field(1_790_000_000, "date_time")]}, _sent("2026-09-21T14:13:20+00:00")),
        ({"custom_fields_values": [_field(1_789_948_800, "date")]}, _sent(1_790_000_000)),  # the day's beginning
        ({"custom_fields_values": [_field(1_789_948_800, "birthday")]}, _sent("2026-09-21T16:13:20+02:00")),
        ({"custom_fields_values": [_field(True, "checkbox")]}, _sent(True)),
        ({"custom_fields_values": None}, _sent(False)),
        ({"custom_fields_values": None}, _sent([])),
        (
            {"custom_fields_values": [_field([{"value": "B", "enum_id": 2}, {"value": "A", "enum_id": 1}])]},
            _sent([{"enum_id": 1}, {"value": "B"}]),
        ),
        (
            {"custom_fields_values": [_field([{"value": "600", "enum_id": 9, "enum_code": "MOB"}], "multitext")]},
            {"custom_fields_values": [{"field_code": "C", "values": [{"value": "600", "enum_code": "MOB"}]}]},
        ),
        ({"_embedded": {"tags": [{"name": "a"}, {"name": "b"}]}}, {"_embedded": {"tags": [{"name": "a"}]}}),
        ({"_embedded": {"tags": []}}, {"_embedded": {"tags": None}}),
        ({"_embedded": {"contacts": [{"id": 1}, {"id": 2}]}}, {"_embedded": {"contacts": [{"id": 2}]}}),
        ({"_embedded": {"tags": [{"name": "a"}, {"name": "b"}]}}, {"tags_to_add": [{"name": "b"}]}),
        ({"_embedded": {"tags": [{"name": "a"}]}}, {"tags_to_delete": [{"name": "b"}]}),
        ({"params": {"text": "x", "more": 1}}, {"params": {"text": "x\n"}}),
        ({"params": {"uniq": "u", "phone": "+34600"}}, {"params": {"uniq": "u", "phone": "600"}}),
        ({"result": {"text": "signed"}}, {"result": {"text": "signed"}}),
    ],
)
def test_what_was_sent_is_found(item: dict[str, Any], sent: dict[str, Any]) -> None:
    assert says(item, sent)


@pytest.mark.parametrize(
    ("item", "sent"),
    [
        ({"name": "Kitchen"}, {"name": "kitchen"}),
        ({"name": "Kitchen"}, {"name": "Kitchen", "price": 5}),
        ({"name": "a b"}, {"name": "ab"}),
        ({"name": "5"}, {"name": "5a"}),
        ({"name": None}, {"name": "None"}),
        ({"is_completed": False}, {"is_completed": True}),
        ({"custom_fields_values": None}, _sent("x")),
        ({"custom_fields_values": [_field("x", identifier=2)]}, _sent("x")),
        ({"custom_fields_values": [_field("x")]}, _sent([])),
        ({"custom_fields_values": [_field("12.5", "numeric")]}, _sent(12)),
        ({"custom_fields_values": [_field("012", "text")]}, _sent("12")),
        ({"custom_fields_values": [_field([{"value": None}])]}, _sent("None")),
        ({"custom_fields_values": [_field(1_790_000_000, "date_time")]}, _sent(1_790_000_060)),
        ({"custom_fields_values": [_field(1_789_900_000, "date")]}, _sent(1_790_000_000)),
        ({"custom_fields_values": [_field(False, "checkbox")]}, _sent(True)),
        ({"custom_fields_values": [_field(True, "checkbox")]}, _sent(False)),
        ({"custom_fields_values": [_field([{"value": "A"}, {"value": "B"}])]}, _sent("A")),
        ({"custom_fields_values": [_field([{"value": "A"}])]}, _sent([{"value": "A"}, {"value": "A"}])),
        (
            {"custom_fields_values": [_field([{"value": "600", "enum_code": "WORK"}], "multitext")]},
            {"custom_fields_values": [{"field_code": "C", "values": [{"value": "600", "enum_code": "MOB"}]}]},
        ),
        ({"_embedded": {"tags": [{"name": "a"}]}}, {"_embedded": {"tags": [{"name": "a"}, {"name": "b"}]}}),
        ({"_embedded": {"tags": [{"name": "a"}]}}, {"_embedded": {"tags": None}}),
        ({"_embedded": {"contacts": []}}, {"_embedded": {"contacts": [{"id": 2}]}}),
        ({}, {"_embedded": {"contacts": [{"id": 2}]}}),
        ({"_embedded": {"tags": []}}, {"tags_to_add": [{"name": "b"}]}),
        ({"_embedded": {"tags": [{"name": "b"}]}}, {"tags_to_delete": [{"name": "b"}]}),
        ({"params": {"text": "x"}}, {"params": {"text": "y"}}),
        ({"params": None}, {"params": {"text": "None"}}),
        ({"params": {"uniq": "u", "phone": "600"}}, {"params": {"uniq": "v", "phone": "600"}}),
        ({"result": []}, {"result": {"text": "signed"}}),
        ({"result": {"text": "lost"}}, {"result": {"text": "signed"}}),
    ],
)
def test_what_was_not_sent_is_not_found(item: dict[str, Any], sent: dict[str, Any]) -> None:
    assert not says(item, sent)


def test_names_that_kommo_gives() -> None:
    for name in ("", None, "Lead #123", "Сделка #123"):
        assert named_by_kommo({"id": 123, "name": name})
    assert not named_by_kommo({"id": 123, "name": "Kitchen"})


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64),
    st.floats(),
    st.text(max_size=30),
    st.datetimes(timezones=st.just(dt.UTC)).map(dt.datetime.isoformat),
    st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1e999", "nan", "-0", "\ud800"]),
)


@given(_VALUES, _VALUES.filter(lambda sent: sent is not None), st.sampled_from(["numeric", "date", "text", None]))
def test_any_two_values_can_be_compared(found: Any, sent: Any, kind: Any) -> None:
    item = {"custom_fields_values": [_field(found, kind)], "name": found, "params": {"text": found}}
    for part in (_sent(sent), {"name": sent}, {"params": {"text": sent}}):
        assert says(item, part) in (True, False)
    if sent == sent:
        assert says({"custom_fields_values": [_field(sent, kind)], "name": sent}, {**_sent(sent), "name": sent})


# Who waits for whom


def _command(action: Action, command_id: str = ID, **told: Any) -> Command:
    return Command.make(action, account_id=5, command_id=command_id, **told)


def test_the_lane_of_an_entity_is_the_entity() -> None:
    for action in (
        UpdateLead(lead_id=5, price=1),
        AddNote(entity_type="lead", entity_id=5, text="x"),
        CreateTask(text="x", complete_till=NOON, entity_type="lead", entity_id=5),
        CreateCallNote(entity_type="lead", entity_id=5, direction="in", phone="600", duration_seconds=0),
        CreateMeetingNote(entity_type="lead", entity_id=5, text="x", at=NOON),
    ):
        assert lane(_command(action)) == "lead/5"
    assert lane(_command(UpdateContact(contact_id=5, name="x"))) == "contact/5"
    assert lane(_command(UpdateLead(lead_id="after", price=1), after=OTHER)) == f"lead/new:{OTHER}"


def test_what_would_make_one_of_the_same_name_shares_a_lane() -> None:
    # Else, while it is not known what became of one of them, the other's effect could be taken for its own.
    one = lane(_command(CreateLead(name="Kitchen", price=5)))
    assert one == lane(_command(CreateLead(name="Kitchen", price=6, tags=["a"]), OTHER))
    others = [
        CreateLead(name="Bath"),
        CreateLead(),
        CreateContact(name="Kitchen"),
        CreateContact(first_name="Kitchen"),
        CreateContact(last_name="Kitchen"),
        CreateTask(text="Kitchen", complete_till=NOON),
        CreateTask(text="Bath", complete_till=NOON),
    ]
    lanes = [lane(_command(action)) for action in others]
    assert len({one, *lanes}) == len(others) + 1
    assert [name.partition("=")[0] for name in lanes] == [
        "lead/new",
        "lead/new",
        "contact/new",
        "contact/new",
        "contact/new",
        "task/new",
        "task/new",
    ]
    assert all(len(name) < 64 for name in lanes)


def test_every_body_can_be_written_as_json() -> None:
    for body in (
        bodies.new_lead(CreateLead(custom_fields=FIELDS), None),
        bodies.changed_lead(UpdateLead(lead_id=1, custom_fields=FIELDS)),
        bodies.task(CreateTask(text="x", complete_till=NOON), None),
    ):
        assert orjson.loads(orjson.dumps(body)) == body
