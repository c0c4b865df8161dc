"""Every event is a CloudEvents 1.0 event that any CloudEvents SDK can read, whatever its type."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from schemas.catalogue import EVENT_TYPES, UNRECOGNIZED, WEBHOOK_TYPES, EventType
from schemas.decoder import EncodedEvent, decode
from schemas.delivery import Delivery
from schemas.event import CONTENT_TYPE, Event, EventError, encode, sequence, utc_text
from schemas.outcome import Outcome, OutcomeEvent, outcome_event
from tests.support.webhooks import ACCOUNT_ID, DELIVERY_ID, RECEIVED_US, bodies, corpus_delivery, delivery, load

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("cloudevents-1.0.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)


def _example(kind: EventType) -> Delivery:
    """The body that the catalogue shows for a type, as it comes through its door."""
    return replace(delivery(kind.example.encode()), door=kind.door or "webhook")


def _outcome(kind: EventType) -> OutcomeEvent:
    """The event of a command that the catalogue shows."""
    command = json.loads(kind.example)["command"]
    outcome = cast(Outcome, kind.name.rpartition(".")[2])
    return outcome_event(outcome, command, account_id=5, correlation_id="c", attempt=1, at_us=1_789_000_000_000_000)


def _samples() -> dict[str, EncodedEvent | OutcomeEvent]:
    odd = delivery({"ключ\n": {"\t\x7f\x85": {"0": {"x": "\x00\u2028😀"}}}})
    deliveries = [*map(_example, WEBHOOK_TYPES.values()), *map(corpus_delivery, bodies()), odd]
    told = {kind.name: _outcome(kind) for kind in EVENT_TYPES.values() if kind.door is None}
    return told | {event.type: event for given in deliveries for event in decode(given).events}


SAMPLES = _samples()


@pytest.mark.parametrize("kind", WEBHOOK_TYPES.values(), ids=list(WEBHOOK_TYPES))
def test_the_example_of_a_type_is_a_body_that_gives_it_and_nothing_is_refused(kind: EventType) -> None:
    decoded = decode(_example(kind))
    assert decoded.rejections == []
    assert [event.type for event in decoded.events].count(kind.name) == 1


@pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=list(EVENT_TYPES))
def test_the_example_of_a_type_is_one_that_its_model_knows_all_of(kind: EventType) -> None:
    found = [_outcome(kind)] if kind.door is None else decode(_example(kind)).events
    [data] = [event["data"] for event in map(load, found) if event["type"] == kind.name]
    read = kind.model.model_validate(data)
    assert read.model_dump(mode="json", exclude_unset=True) == data
    if kind is not UNRECOGNIZED:
        assert _unknown(read) == []


def _unknown(model: BaseModel) -> list[str]:
    """The fields that no model names."""
    inner = [getattr(model, name) for name in type(model).model_fields]
    return [
        *(model.model_extra or ()),
        *(name for part in inner if isinstance(part, BaseModel) for name in _unknown(part)),
    ]


def test_the_schema_is_one_and_refuses_what_is_no_event() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    good = load(next(iter(SAMPLES.values())))
    assert VALIDATOR.is_valid(good)
    for wrong in (
        {"id": ""},
        {"specversion": "0.3"},
        {"time": "2024-09-17 09:46:30"},
        {"source": "not a uri"},
        {"dataschema": "no-scheme"},
        {"account_id": "1"},
        {"revision": 2**31},
        {"revision": 1.5},
        {"origin": {"x": 1}},
        {"item": "a\nb"},
        {"data_base64": ""},
    ):
        assert not VALIDATOR.is_valid({**good, **wrong}), wrong
    for name in ("id", "source", "type", "specversion"):
        assert not VALIDATOR.is_valid({key: value for key, value in good.items() if key != name})


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_conforms(kind: str) -> None:
    event = load(SAMPLES[kind])
    assert [error.message for error in VALIDATOR.iter_errors(event)] == []
    assert event["dataschema"] == f"urn:kommo-streams:{kind}:{EVENT_TYPES[kind].version}"
    assert event["datacontenttype"] == "application/json"
    assert dt.datetime.fromisoformat(event["time"]).utcoffset() == dt.timedelta(0)


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_all_extensions_are_there_from_the_first_day(kind: str) -> None:
    event = load(SAMPLES[kind])
    assert event.keys() - {
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "dataschema",
    } == {
        "accountid",
        "sequence",
        "timesource",
        "deliveryid",
        "item",
        "revision",
        "origin",
        "correlationid",
        "data",
        *(["causationid"] if EVENT_TYPES[kind].door is None else []),
    }


def test_the_sdk_reads_them() -> None:
    formats = pytest.importorskip("cloudevents.core.formats.json", reason="the CloudEvents SDK is not installed")
    for kind, sample in SAMPLES.items():
        event = load(sample)
        read = formats.JSONFormat().read(None, sample.value)
        assert (read.get_id(), read.get_type(), read.get_subject()) == (event["id"], kind, event["subject"])
        assert read.get_data() == event["data"]
        assert read.get_extension("accountid") == event["accountid"]
        assert json.loads(formats.JSONFormat().write(read)).keys() == event.keys()


def test_the_content_type_is_that_of_structured_mode() -> None:
    assert CONTENT_TYPE.startswith(b"application/cloudevents+json")


# The model


def _event(**changes: Any) -> bytes:
    return json.dumps({**load(SAMPLES["kommo.lead.added"]), **changes}).encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "5"),
        ("specversion", "0.3"),
        ("type", "com.example.thing"),
        ("subject", "lead"),
        ("subject", "a/b\n"),
        ("time", "yesterday"),
        ("dataschema", "urn:other:x:1"),
        ("accountid", "0"),
        ("accountid", 5),
        ("sequence", "1-1"),
        ("timesource", "guessed"),
        ("revision", 0),
        ("origin", "dreamt"),
        ("data", "text"),
        ("item", "x" * 257),
    ],
)
def test_a_wrong_attribute_is_named_and_its_value_is_not(name: str, value: Any) -> None:
    with pytest.raises(EventError) as caught:
        Event.from_json(_event(**{name: value}))
    assert f" {name}: " in str(caught.value)
    assert "30052055" not in str(caught.value)


@pytest.mark.parametrize("value", [b"", b"null", b"[]", b"{", b"\xff", b"{}"])
def test_what_is_no_event_at_all(value: bytes) -> None:
    with pytest.raises(EventError):
        Event.from_json(value)


def test_attributes_another_program_added_stay() -> None:
    event = Event.from_json(_event(traceparent="00-x", causationid="c"))
    assert json.loads(event.to_json())["traceparent"] == "00-x"
    assert event.causationid == "c"
    assert Event.from_json(event.to_json()) == event


def test_encode_writes_what_the_model_writes() -> None:
    for time in (utc_text(1), utc_text(RECEIVED_US), utc_text(1_726_580_291_000_000), utc_text(1_726_580_291_100_000)):
        value = encode(
            event_id="3ac572ef-fcd6-88b8-a215-db4b74e3c52e",
            event_type="kommo.lead.added",
            version=1,
            subject="lead/5",
            time=time,
            account_id=ACCOUNT_ID,
            sequence=sequence(RECEIVED_US, 3),
            time_source="kommo",
            delivery_id=DELIVERY_ID,
            item="leads[add][0]",
            revision=1,
            origin="live",
            data=b'{"lead":{"id":5,"price":null,"name":"\xd0\x96"}}',
        )
        assert Event.from_json(value).to_json() == value


def test_sequences_compare_as_texts_like_numbers() -> None:
    places = [(1, 0), (1, 1), (1, 9), (1, 10), (1, 999_999), (2, 0), (10**15, 5), (2**52 - 1, 0)]
    texts = [sequence(*place) for place in places]
    assert texts == sorted(texts)
    assert {len(text) for text in texts} == {23}
    assert sequence(1, 5_000_000) == sequence(1, 999_999)
