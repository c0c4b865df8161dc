"""What happened, of every entity beside leads, contacts, companies, tasks and notes; and bodies that are no forms."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from schemas.catalogue import EVENT_TYPES, UNRECOGNIZED
from schemas.decoder import decode
from schemas.delivery import Delivery, DeliveryError, read_delivery
from schemas.errors import ErrorClass
from tests.support.webhooks import ACCOUNT_ID, delivery, load

AT = "1726581295"
AT_TEXT = "2024-09-17T13:54:55Z"


def events(given: Delivery) -> list[dict[str, Any]]:
    decoded = decode(given)
    assert decoded.rejections == []
    return [load(event) for event in decoded.events]


def only(tree: dict[str, Any], **request: Any) -> dict[str, Any]:
    [event] = events(delivery(tree, **request))
    return event


def refusal(given: Delivery) -> tuple[str, ErrorClass]:
    decoded = decode(given)
    assert decoded.events == []
    [rejection] = decoded.rejections
    return rejection.reason, rejection.error_class


def message(**fields: str) -> dict[str, Any]:
    return {
        "id": "m-1",
        "talk_id": "191",
        "contact_id": "8",
        "text": "",
        "created_at": AT,
        "type": "incoming",
        **fields,
    }


@pytest.mark.parametrize(
    ("fields", "subject"),
    [
        ({"entity_type": "lead", "entity_id": "7", "element_type": "2", "element_id": "7"}, "lead/7"),
        ({"element_type": "2", "element_id": "7"}, "lead/7"),
        ({"entity_type": "customer", "entity_id": "7"}, "customer/7"),
        ({"element_type": "12", "element_id": "7"}, "customer/7"),
        ({"entity_type": "lead", "entity_id": "0"}, "contact/8"),
        ({}, "contact/8"),
        ({"contact_id": ""}, "talk/191"),
        ({"contact_id": "0", "talk_id": "0"}, "message/m-1"),
    ],
)
def test_a_message_is_news_of_whom_it_is_tied_to(fields: dict[str, str], subject: str) -> None:
    event = only({"message": {"add": {"0": message(**fields)}}})
    assert (event["type"], event["subject"], event["time"]) == ("kommo.message.received", subject, AT_TEXT)


def test_messages_in_and_out() -> None:
    assert only({"message": {"add": {"0": message(type="outgoing")}}})["type"] == "kommo.message.sent"
    assert only({"message": {"add": {"0": message(type="")}}})["type"] == "kommo.message.received"
    assert only({"outgoing_message": {"add": {"0": message(type="")}}})["type"] == "kommo.message.sent"
    assert only({"message": {"delete": {"0": message()}}})["type"] == UNRECOGNIZED.name


def test_a_message_without_its_key_is_a_message() -> None:
    bare = only({"add": {"0": {**message(), "author": {"name": "Anna"}}}})
    keyed = only({"message": {"add": {"0": {**message(), "author": {"name": "Anna"}}}}})
    assert bare["type"] == "kommo.message.received"
    assert (bare["id"], bare["data"]) == (keyed["id"], keyed["data"])
    assert only({"add": {"0": {"id": "5", "text": "hi"}}})["type"] == UNRECOGNIZED.name


def test_a_message_is_named_by_its_id_and_time() -> None:
    first = only({"message": {"add": {"0": message(text="a")}}})
    assert only({"message": {"add": {"0": message(text="b")}}})["id"] == first["id"]
    assert only({"message": {"add": {"0": message(id="m-2")}}})["id"] != first["id"]
    nameless = [only({"message": {"add": {"0": message(id="", text=text)}}})["id"] for text in "ab"]
    assert nameless[0] != nameless[1]


def test_how_an_incoming_lead_ends() -> None:
    def kind(action: str) -> str:
        item = {"uid": "a1", "action": action, "created_at": AT}
        event = only({"unsorted": {"delete": {"0": item}}})
        assert (event["subject"], event["timesource"]) == ("unsorted/a1", "received")
        return str(event["type"])

    assert [kind(action) for action in ("accept", "decline", "merge", "")] == [
        "kommo.unsorted.accepted",
        "kommo.unsorted.declined",
        "kommo.unsorted.deleted",
        "kommo.unsorted.deleted",
    ]
    assert only({"unsorted": {"delete": "a1"}})["subject"] == "unsorted/a1"


def test_an_end_of_an_incoming_lead_is_one_however_often_it_is_told() -> None:
    accepted = {"unsorted": {"delete": {"0": {"uid": "a1", "action": "accept"}}}}
    assert only(accepted)["id"] == only(accepted, delivery_id="another")["id"]
    deleted = {"unsorted": {"delete": {"0": {"uid": "a1"}}}}
    assert only(deleted)["id"] != only(deleted, delivery_id="another")["id"]


@pytest.mark.parametrize("uid", ["", "a b", "a/b", "x" * 129, None])
def test_an_incoming_lead_without_a_uid_is_said(uid: str | None) -> None:
    reason, _ = refusal(
        delivery({"unsorted": {"add": {"0": {"category": "forms"} | ({} if uid is None else {"uid": uid})}}})
    )
    assert "uid" in reason


def test_customers() -> None:
    def customer(**fields: str) -> dict[str, str]:
        return {"id": "7", "name": "Anna", "updated_at": AT, **fields}

    assert only({"customers": {"add": {"0": customer()}}})["type"] == "kommo.customer.added"
    handed = customer(old_responsible_user_id="1", responsible_user_id="2")
    assert only({"customers": {"update": {"0": handed}}})["type"] == "kommo.customer.responsible_changed"
    assert only({"customers": {"delete": {"0": {"id": "7"}}}})["type"] == "kommo.customer.deleted"
    period = only({"customers": {"period": {"0": {"id": "7"}}}})
    assert (period["type"], period["data"]["trigger"]) == ("kommo.digital_pipeline.triggered", "period")
    note = {"note": {"id": "3", "note_type": "4", "element_type": "12", "element_id": "7", "created_at": AT}}
    assert only({"customers": {"note": {"0": note}}})["subject"] == "customer/7"
    # A customer has no stages that a status hook tells of.
    assert only({"customers": {"update": {"0": customer(old_status_id="1", status_id="2")}}})["type"] == (
        "kommo.customer.updated"
    )


def test_elements_of_lists() -> None:
    element = {"id": "5", "catalog_id": "9", "name": "Boiler", "date_modify": AT, "deleted": "0"}
    for action, verb in (("add", "added"), ("update", "updated")):
        event = only({"catalogs": {action: {"0": element}}})
        assert (event["type"], event["time"]) == (f"kommo.catalog_element.{verb}", AT_TEXT)
    assert only({"catalogs": {"delete": {"0": {"id": "5"}}}})["subject"] == "catalog_element/5"


def test_talks() -> None:
    talk = {"talk_id": "191", "created_at": "1726581290", "updated_at": AT, "is_in_work": "0"}
    added, updated = (only({"talk": {action: {"0": talk}}}) for action in ("add", "update"))
    assert (added["type"], updated["type"]) == ("kommo.talk.added", "kommo.talk.updated")
    assert added["subject"] == updated["subject"] == "talk/191"
    assert updated["time"] == AT_TEXT
    reason, _ = refusal(delivery({"talk": {"add": {"0": {"id": "191"}}}}))
    assert "talk_id" in reason


def test_reviews_of_templates() -> None:
    event = only({"chat_template_reviews": {"add": {"0": {"id": "3", "status": "approved"}}}})
    assert (event["type"], event["subject"]) == ("kommo.chat_template.reviewed", "chat_template/3")
    assert only({"chat_template_reviews": {"add": {"0": {"status": "approved"}}}})["type"] == UNRECOGNIZED.name


# Bodies that are no forms


def token(**claims: Any) -> str:
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{part}.c2lnbmF0dXJl"


def widget(**fields: Any) -> Delivery:
    value = {"data": {"ask": 1}, "return_url": "https://a.kommo.com/api/v4/salesbot/3/continue/8", **fields}
    return replace(delivery(json.dumps(value).encode()), content_type="application/json")


def test_a_salesbot_asks() -> None:
    claims = {"account_id": ACCOUNT_ID, "entity_type": "leads", "entity_id": 7, "iat": int(AT), "client_uid": "u"}
    [event] = events(widget(token=token(**claims)))
    assert (event["type"], event["subject"], event["time"]) == ("kommo.salesbot.requested", "lead/7", AT_TEXT)
    request = event["data"]["request"]
    assert event["data"]["claims"] == claims
    assert request["data"] == {"ask": 1}
    assert request.keys() == {"data", "return_url"}
    [event] = events(widget(token=token(**claims), claims={"mine": 1}))
    assert event["data"]["request"]["claims"] == {"mine": 1}
    assert "c2lnbmF0dXJl" not in json.dumps(event)


@pytest.mark.parametrize("text", ["", "x", "a.b", "a.!.c", "a.W10.c", None, 5, {"a": 1}])
def test_a_salesbot_whose_token_says_nothing(text: Any) -> None:
    [event] = events(widget(token=text))
    assert (event["subject"], event["timesource"]) == ("salesbot/3", "received")
    [again] = events(replace(widget(token=token(iat=int(AT))), delivery_id="another"))
    assert again["id"] == event["id"]
    [other] = events(widget(return_url="https://a.kommo.com/elsewhere"))
    assert other["subject"] == "salesbot/-"


def test_a_salesbot_of_another_account_is_set_aside() -> None:
    reason, error_class = refusal(widget(token=token(account_id=1)))
    assert error_class is ErrorClass.AUTHORIZATION
    assert str(ACCOUNT_ID) in reason


@pytest.mark.parametrize("value", [{"leads": {"add": [{"id": 5}]}}, {}, [], [1, None, {"a": 1.5}], {"a": "\x00"}])
def test_other_json_is_kept(value: Any) -> None:
    given = delivery(json.dumps(value).encode())
    for content_type in ("application/json", "application/json; charset=utf-8", ""):
        [event] = events(replace(given, content_type=content_type))
        assert event["type"] == UNRECOGNIZED.name
        assert event["data"]["fields"] == {"json": value}


def test_a_disabled_integration() -> None:
    given = replace(delivery(f"client_uuid=01d0-43c8&account_id={ACCOUNT_ID}".encode()), door="integration-disabled")
    [event] = events(given)
    assert (event["type"], event["subject"]) == ("kommo.integration.disabled", "integration/01d0-43c8")
    assert event["data"]["integration"] == {"client_uuid": "01d0-43c8", "account_id": ACCOUNT_ID}
    reason, _ = refusal(replace(given, body=b"account_id=1"))
    assert "client_uuid" in reason


def test_a_webhook_cannot_say_that_an_integration_was_disabled() -> None:
    for body in (b"integration[disabled][client_uuid]=a", b"client_uuid=a&account_id=1"):
        assert {event["type"] for event in events(delivery(body))} == {UNRECOGNIZED.name}


def test_the_door_goes_through_kafka() -> None:
    given = replace(delivery(b"a=1"), door="integration-disabled")
    assert read_delivery(given.key, given.body, given.headers()) == given
    facts = [(name, fact) for name, fact in delivery(b"a=1").headers() if name != "door"]
    assert read_delivery(given.key, b"a=1", facts).door == "webhook"  # written before there was another
    with pytest.raises(DeliveryError, match="window"):
        read_delivery(given.key, b"a=1", [*facts, ("door", b"window")])


def test_what_ends_or_triggers_is_named_by_its_delivery() -> None:
    named = {kind.name for kind in EVENT_TYPES.values() if kind.by_delivery}
    deletes = {kind.name for kind in EVENT_TYPES.values() if kind.deletes}
    assert deletes < named
    assert named - deletes == {"kommo.digital_pipeline.triggered", "kommo.integration.disabled"}
