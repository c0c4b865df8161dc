"""Every delivery becomes events and rejections, whatever is in its body: nothing raises, nothing vanishes."""

from __future__ import annotations

import copy
import json
import time
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import EVENT_TYPES, UNRECOGNIZED
from schemas.decoder import MAX_EVENT_BYTES, Decoded, decode
from schemas.delivery import MAX_BODY_BYTES, Delivery
from schemas.errors import ErrorClass
from schemas.event import Event
from schemas.form import parse_form
from tests.support.extremes import mean_cost
from tests.support.webhooks import (
    ACCOUNT_ID,
    CALL_TEXTS,
    DELIVERY_ID,
    ODD_TEXTS,
    RECEIVED_US,
    bodies,
    checked,
    delivery,
    load,
    nested,
    said,
    same,
)

DAY_S = 86_400
RECEIVED_TEXT = "2026-09-21T14:13:20.123456Z"


def whole(given_delivery: Delivery) -> Decoded:
    """Decode a body of the form ENTITY[ACTION][INDEX] = map, and hold that each item came through whole, in order."""
    decoded = checked(given_delivery)
    form = parse_form(given_delivery.body)
    account = form.pop("account", None)
    items = {
        f"{key}[{action}][{index}]": item
        for key, actions in form.items()
        for action, its in actions.items()
        for index, item in its.items()
    }
    events = [load(event) for event in decoded.events]
    rejected = {rejection.item: rejection for rejection in decoded.rejections}
    order = list(items)
    assert len(rejected) == len(decoded.rejections)
    assert {event["item"] for event in events} | rejected.keys() == set(order)
    assert not {event["item"] for event in events} & rejected.keys()
    places = [order.index(event["item"]) for event in events]
    assert places == sorted(places)
    for event in events:
        assert event["sequence"] == f"{given_delivery.received_us:016d}-{order.index(event['item']):06d}"
        assert same(items[event["item"]], said(event["data"], event["item"])), event
        block = {name: value for name, value in event["data"].get("account", {}).items() if name != "link"}
        assert same(account or {}, block)
    for rejection in rejected.values():
        assert rejection.error_class is ErrorClass.VALIDATION
        assert rejection.reason
    return decoded


# Realistic bodies with mutations


def _samples() -> list[tuple[str, str, dict[str, Any]]]:
    found = []
    for path in bodies():
        for key, actions in nested(path.read_bytes()).items():
            if key != "account":
                [(action, items)] = actions.items()
                found.append((key, action, items["0"]))
    for kind in ("10", "11"):
        for text in CALL_TEXTS:
            note = {"id": "7", "note_type": kind, "element_type": "2", "element_id": "5", "created_at": "1726580291"}
            found.append(("leads", "note", {"note": {**note, "text": text}}))
    for action in ("status", "add", "mail_in", "call_in", "chat", "site_visit"):
        thin = {"id": "5", "status_id": "1", "pipeline_id": "2", "old_status_id": "3", "old_pipeline_id": "2"}
        found.append(("leads", action, thin))
    return found


ODD_NESTS: list[Any] = [{"0": "1"}, {"x": "1"}, {"1": {"y": ""}}, {"0": {"0": "a"}, "1": {"0": "b"}}, {"note": "1"}]

SAMPLES = _samples()
_values = st.one_of(st.sampled_from(ODD_TEXTS), st.sampled_from(ODD_NESTS), st.text(max_size=5).filter(str.isprintable))
_new_names = st.sampled_from(
    ["brand_new", "id", "type", "last_modified", "old_status_id", "status_id", "note", "0", "ж"]
)


@st.composite
def _items(draw: st.DrawFn) -> tuple[str, str, dict[str, Any]]:
    key, action, sample = draw(st.sampled_from(SAMPLES))
    item = copy.deepcopy(sample)
    for _ in range(draw(st.integers(0, 3))):
        target = item
        if isinstance(item.get("note"), dict) and draw(st.booleans()):
            target = item["note"]
        name = draw(st.one_of(st.sampled_from(list(target) or ["id"]), _new_names))
        if draw(st.integers(0, 3)) == 0:
            target.pop(name, None)
        else:
            target[name] = copy.deepcopy(draw(_values))
    if draw(st.integers(0, 9)) == 0:
        key = draw(
            st.sampled_from(["customers", "outgoing_message", "chat_template_reviews", "leeds", "a" * 70, "x y"])
        )
    if draw(st.integers(0, 9)) == 0:
        action = draw(st.sampled_from(["add", "update", "delete", "restore", "status", "responsible", "note", "merge"]))
    item["marker"] = "1"  # no item is empty: an empty map is not on the wire
    return key.replace(" ", "_"), action, item


_blocks = st.sampled_from(
    [
        None,
        {"subdomain": "test"},
        {"id": str(ACCOUNT_ID), "subdomain": "test"},
        {"id": str(ACCOUNT_ID), "subdomain": "test", "_links": {"self": "https://test.kommo.com"}},
        {"id": "", "subdomain": "NOT A SUBDOMAIN", "_links": "x"},
        {"subdomain": {"a": "1"}, "_links": {"self": "javascript:alert(1)"}},
    ]
)


@given(st.lists(_items(), min_size=1, max_size=6), _blocks, st.booleans())
def test_every_item_ends_as_an_event_or_a_rejection(
    items: list[tuple[str, str, dict[str, Any]]], block: dict[str, Any] | None, first: bool
) -> None:
    tree: dict[str, Any] = {"account": block} if block and first else {}
    for key, action, item in items:
        its = tree.setdefault(key, {}).setdefault(action, {})
        its[str(len(its))] = item
    if block and not first:
        tree["account"] = block
    whole(delivery(tree))


@given(
    st.recursive(
        st.sampled_from(ODD_TEXTS),
        lambda children: st.dictionaries(
            st.sampled_from(["leads", "contacts", "task", "add", "delete", "note", "0", "1", "id", "account", "x"]),
            children,
            min_size=1,
            max_size=3,
        ),
        max_leaves=8,
    ).filter(lambda tree: isinstance(tree, dict))
)
def test_any_nest_ends_as_events_or_rejections(tree: dict[str, Any]) -> None:
    checked(delivery(tree))


@given(st.binary(max_size=80))
def test_any_bytes_end_as_events_or_rejections(body: bytes) -> None:
    checked(delivery(body))


# One item


def lead(**fields: str) -> dict[str, str]:
    return {"id": "5", "status_id": "1", "pipeline_id": "2", "last_modified": "1726580291", **fields}


def only(tree: dict[str, Any], **request: Any) -> dict[str, Any]:
    decoded = whole(delivery(tree, **request))
    assert decoded.rejections == []
    [event] = decoded.events
    return load(event)


def test_a_body_of_another_account_is_rejected_whole() -> None:
    tree = {"account": {"id": "111"}, "leads": {"add": {"0": lead(), "1": lead()}}}
    decoded = checked(delivery(tree))
    assert decoded.events == []
    [rejection] = decoded.rejections
    assert (rejection.item, rejection.error_class) == ("", ErrorClass.AUTHORIZATION)
    assert "111" in rejection.reason
    assert str(ACCOUNT_ID) in rejection.reason


def test_a_body_of_no_account_belongs_to_the_address() -> None:
    assert only({"leads": {"add": {"0": lead()}}}, account_id=7)["accountid"] == "7"


def test_good_items_go_on_when_one_is_bad() -> None:
    tree = {
        "leads": {"add": {"0": lead(), "1": lead(id="x"), "2": lead(id="6")}},
        "task": {"delete": {"0": {"id": "0"}, "1": {"id": "9"}}},
    }
    decoded = whole(delivery(tree))
    assert [load(event)["subject"] for event in decoded.events] == ["lead/5", "lead/6", "task/9"]
    assert [rejection.item for rejection in decoded.rejections] == ["leads[add][1]", "task[delete][0]"]


@pytest.mark.parametrize("identifier", ["0", "-1", "x", "", " 5", "5 ", "05", "5.0", "1" * 20, "٣", {"0": "5"}, None])
@pytest.mark.parametrize(
    ("key", "action"),
    [
        ("leads", "add"),
        ("leads", "update"),
        ("leads", "delete"),
        ("contacts", "restore"),
        ("contacts", "delete"),
        ("task", "add"),
        ("task", "update"),
        ("task", "delete"),
    ],
)
def test_an_id_that_is_none_is_a_rejection(key: str, action: str, identifier: Any) -> None:
    fields: dict[str, Any] = {**lead(), "id": identifier}
    if identifier is None:
        del fields["id"]
    decoded = whole(delivery({key: {action: {"0": fields}}}))
    assert decoded.events == []
    [rejection] = decoded.rejections
    assert rejection.item == f"{key}[{action}][0]"
    assert rejection.reason.endswith("id")


@pytest.mark.parametrize("identifier", ["0", "x", None])
def test_a_note_on_nothing_is_a_rejection(identifier: str | None) -> None:
    note = {"text": "x", "element_type": "2", **({"element_id": identifier} if identifier else {})}
    decoded = whole(delivery({"leads": {"note": {"0": {"note": note}}}}))
    assert (len(decoded.events), len(decoded.rejections)) == (0, 1)


# Time


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1726580291", "2024-09-17T13:38:11Z"),
        ("1", "1970-01-01T00:00:01Z"),
        ("1790000000", "2026-09-21T14:13:20Z"),  # as received, to the second
        ("1790086400", "2026-09-22T14:13:20Z"),  # a day ahead at most: a clock may be wrong
        ("1790086401", None),
        ("9999999999", None),
        ("99999999999", None),
        ("999999999999", None),
        ("9" * 5000, None),
        ("0", None),
        ("-5", None),
        ("", None),
        ("x", None),
        ("17265663a90", None),
        ("1726580291.5", None),
        (" 1726580291", None),
        ("٣٣٣", None),
        ({"0": "1726580291"}, None),
    ],
)
def test_unix_times(text: Any, time: str | None) -> None:
    event = only({"leads": {"update": {"0": {**lead(), "last_modified": text}}}})
    assert (event["time"], event["timesource"]) == ((time, "kommo") if time else (RECEIVED_TEXT, "received"))


def test_last_modified_is_the_time_and_updated_at_its_stand_in() -> None:
    both = only({"leads": {"update": {"0": lead(updated_at="1726580999")}}})
    assert both["time"] == "2024-09-17T13:38:11Z"
    stand_in = only({"leads": {"update": {"0": lead(last_modified="", updated_at="1726580999")}}})
    assert stand_in["time"] == "2024-09-17T13:49:59Z"


@pytest.mark.parametrize(
    ("fields", "time"),
    [
        ({"created_at": "1726580291", "date_create": "2020-01-01 00:00:00"}, "2024-09-17T13:38:11Z"),
        ({"date_create": "2024-09-17 16:38:11"}, "2024-09-17T13:38:11Z"),  # UTC+3
        ({"date_create": "'2017-01-09 13:01:18'"}, "2017-01-09T13:01:18Z"),  # 2017: quoted, and UTC
        ({"date_create": "0001-01-01 00:00:00"}, None),
        ({"date_create": "1970-01-01 03:00:00"}, None),
        ({"date_create": "9999-12-31 23:59:59"}, None),
        ({"date_create": "0000-00-00 00:00:00"}, None),
        ({"date_create": "2024-09-17T16:38:11"}, None),
        ({"date_create": "2024-02-30 16:38:11"}, None),
        ({"date_create": "'"}, None),
        ({}, None),
    ],
)
def test_times_of_notes(fields: dict[str, str], time: str | None) -> None:
    event = only({"leads": {"note": {"0": {"note": {"element_id": "5", "element_type": "2", **fields}}}}})
    assert (event["time"], event["timesource"]) == ((time, "kommo") if time else (RECEIVED_TEXT, "received"))


@pytest.mark.parametrize(
    ("fields", "time"),
    [
        ({"updated_at": "1726580291", "last_modified": "2020-01-01 00:00:00"}, "2024-09-17T13:38:11Z"),
        ({"last_modified": "2024-09-17 13:38:11"}, "2024-09-17T13:38:11Z"),  # UTC
        ({"last_modified": "x"}, None),
    ],
)
def test_times_of_tasks(fields: dict[str, str], time: str | None) -> None:
    event = only({"task": {"update": {"0": {"id": "5", **fields}}}})
    assert (event["time"], event["timesource"]) == ((time, "kommo") if time else (RECEIVED_TEXT, "received"))


# Deletes, in every form seen or told of


@pytest.mark.parametrize(
    ("body", "kind", "subject", "item"),
    [
        (b"leads[delete][0][id]=5", "lead", "lead/5", "leads[delete][0]"),
        (b"leads[delete][0][id]=5&leads[delete][0][status_id]=1", "lead", "lead/5", "leads[delete][0]"),
        (b"leads[delete][7][id]=5", "lead", "lead/5", "leads[delete][7]"),
        (b"leads[delete][id]=5", "lead", "lead/5", "leads[delete]"),
        (b"leads[delete]=5", "lead", "lead/5", "leads[delete]"),
        (b"leads[delete][0]=5", "lead", "lead/5", "leads[delete][0]"),
        (b"leads[delete][]=5", "lead", "lead/5", "leads[delete][0]"),
        (b"contacts[delete][0][id]=5&contacts[delete][0][type]=company", "company", "company/5", "contacts[delete][0]"),
        (b"contacts[delete][0][id]=5&contacts[delete][0][type]=contact", "contact", "contact/5", "contacts[delete][0]"),
        (b"contacts[delete][0][id]=5", "contact", "contact/5", "contacts[delete][0]"),
        (b"contacts[delete][id]=5&contacts[delete][type]=company", "company", "company/5", "contacts[delete]"),
        (b"contacts[delete]=5", "contact", "contact/5", "contacts[delete]"),
        (b"task[delete][0][id]=5", "task", "task/5", "task[delete][0]"),
        (b"task[delete][id]=5", "task", "task/5", "task[delete]"),
        (b"task[delete]=5", "task", "task/5", "task[delete]"),
    ],
)
def test_deletes(body: bytes, kind: str, subject: str, item: str) -> None:
    decoded = checked(delivery(body))
    assert decoded.rejections == []
    [event] = [load(event) for event in decoded.events]
    assert (event["type"], event["subject"], event["item"]) == (f"kommo.{kind}.deleted", subject, item)
    assert (event["time"], event["timesource"]) == (RECEIVED_TEXT, "received")
    assert event["data"][kind]["id"] == 5


def test_several_deletes() -> None:
    decoded = checked(delivery(b"leads[delete][]=5&leads[delete][]=6&leads[delete][]=x&leads[delete][]=7"))
    assert [load(event)["subject"] for event in decoded.events] == ["lead/5", "lead/6", "lead/7"]
    assert [rejection.item for rejection in decoded.rejections] == ["leads[delete][2]"]


# What a body proves, and what it does not


def kinds(tree: dict[str, Any]) -> list[str]:
    return [event.type.removeprefix("kommo.") for event in whole(delivery(tree)).events]


@pytest.mark.parametrize("action", ["status", "add", "mail_in", "call_in", "chat", "site_visit"])
def test_digital_pipeline_hooks_say_nothing_of_the_lead(action: str) -> None:
    thin = {"id": "5", "status_id": "1", "pipeline_id": "2", "old_status_id": "3", "old_pipeline_id": "2"}
    event = only({"leads": {action: {"0": thin}}, "account": {"id": str(ACCOUNT_ID), "subdomain": "test"}})
    assert event["type"] == "kommo.digital_pipeline.triggered"
    assert (event["timesource"], event["subject"]) == ("received", "lead/5")
    assert event["data"]["trigger"] == action
    assert event["data"]["changes"] == {"status_id": {"from": 3, "to": 1}}
    assert not EVENT_TYPES[event["type"]].snapshot
    again = only({"leads": {action: {"0": thin}}}, delivery_id="another")
    assert again["id"] != event["id"]  # nothing tells a repeat from a second time


def test_moves() -> None:
    assert kinds({"leads": {"status": {"0": lead(old_status_id="9")}}}) == ["lead.status_changed"]
    assert kinds({"leads": {"update": {"0": lead(old_status_id="9")}}}) == ["lead.status_changed"]
    assert kinds({"leads": {"update": {"0": lead(old_status_id="1")}}}) == ["lead.updated"]
    assert kinds({"leads": {"update": {"0": lead(old_status_id="")}}}) == ["lead.updated"]
    assert kinds({"leads": {"status": {"0": lead()}}}) == ["lead.status_changed"]
    assert kinds({"leads": {"responsible": {"0": lead(old_status_id="9")}}}) == ["lead.responsible_changed"]
    assert kinds({"contacts": {"update": {"0": lead(old_status_id="9")}}}) == ["contact.updated"]
    assert kinds({"leads": {"add": {"0": lead(old_status_id="9")}}}) == ["lead.added"]


def test_a_move_to_another_pipeline() -> None:
    event = only({"leads": {"status": {"0": lead(old_status_id="9", old_pipeline_id="8")}}})
    assert event["data"]["changes"] == {"status_id": {"from": 9, "to": 1}, "pipeline_id": {"from": 8, "to": 2}}


def test_an_old_responsible_who_is_the_new_one_is_no_change() -> None:
    fields = lead(responsible_user_id="3", old_responsible_user_id="3")
    assert kinds({"contacts": {"update": {"0": fields}}}) == ["contact.updated"]
    assert kinds({"leads": {"update": {"0": fields}}}) == ["lead.updated"]
    fields["old_responsible_user_id"] = "4"
    assert kinds({"contacts": {"update": {"0": fields}}}) == ["contact.responsible_changed"]
    both = {**fields, "old_status_id": "9"}
    assert kinds({"leads": {"update": {"0": both}}}) == ["lead.status_changed", "lead.responsible_changed"]


def test_tasks() -> None:
    def task(**fields: Any) -> list[str]:
        return kinds({"task": {"update": {"0": {"id": "5", "updated_at": "1726580291", "text": "x", **fields}}}})

    assert task(status="1", action_close="1") == ["task.completed"]
    assert task(status="1", action_close="0") == ["task.updated"]
    assert task(status="0", action_close="1") == ["task.updated"]
    assert task(status="1", action_close="0", result={"id": "7", "text": "y"}) == ["task.result_added"]
    assert task(status="1", action_close="1", result={"id": "7", "text": "y"}) == ["task.completed"]
    assert task(old_text="x") == ["task.updated"]
    assert task(old_text="y") == ["task.text_changed"]
    assert task(old_text="y", status="1", action_close="1") == ["task.completed", "task.text_changed"]


def test_contacts_and_companies() -> None:
    assert kinds({"contacts": {"add": {"0": lead(type="contact")}}}) == ["contact.added"]
    assert kinds({"contacts": {"add": {"0": lead(type="company")}}}) == ["company.added"]
    assert kinds({"contacts": {"add": {"0": lead()}}}) == ["contact.added"]
    assert kinds({"contacts": {"add": {"0": lead(type="robot")}}}) == ["unrecognized"]
    assert kinds({"companies": {"add": {"0": lead()}}}) == ["unrecognized"]


def test_what_no_model_knows_yet_passes_through() -> None:
    fields = {**lead(brand_new="1"), "nest": {"0": {"a": "b"}}, "tags": {"0": {"id": "1", "name": "x"}}}
    event = only({"leads": {"add": {"0": fields}}})
    assert event["data"]["lead"]["brand_new"] == "1"
    assert event["data"]["lead"]["nest"] == [{"a": "b"}]
    assert event["data"]["lead"]["tags"] == [{"id": "1", "name": "x"}]
    assert only({"leads": {"merge": {"0": fields}}})["type"] == UNRECOGNIZED.name
    assert only({"warehouses": {"add": {"0": fields}}})["subject"] == "warehouses/5"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"x=1", {"x": "1"}),
        (b"add[0][id]=5&add[0][text]=hi", {"add": [{"id": "5", "text": "hi"}]}),
        (b"account[id]=16700680", {"account": {"id": "16700680"}}),
        (b"leads=1", {"leads": "1"}),
        (b"account=1", {"account": "1"}),
        (b"roulette[add]=1", {"roulette": {"add": "1"}}),
        (b"unsorted[seen][0][uid]=a", {"unsorted": {"seen": [{"uid": "a"}]}}),
    ],
)
def test_bodies_of_another_shape_are_kept(body: bytes, fields: Any) -> None:
    decoded = checked(delivery(body))
    assert decoded.rejections == []
    [event] = [load(event) for event in decoded.events]
    assert event["type"] == UNRECOGNIZED.name
    assert event["data"]["fields"] == fields


@pytest.mark.parametrize("body", [b"", b"&&", b"=", b"[a]=1", b"\n"])
def test_an_empty_body_is_a_rejection(body: bytes) -> None:
    decoded = checked(delivery(body))
    assert decoded.events == []
    assert [(rejection.item, rejection.error_class) for rejection in decoded.rejections] == [
        ("", ErrorClass.VALIDATION)
    ]


# The account block


def test_an_address_that_is_not_kommo_s_is_never_the_account_s() -> None:
    """data.account.link becomes an address to click on; a body cannot choose it."""
    for block in (
        {"_links": {"self": "javascript:alert(1)"}},
        {"_links": {"self": "https://evil.example/x.kommo.com"}},
        {"_links": {"self": "https://test.kommo.com.evil.example"}},
        {"subdomain": "evil.example/"},
        {"link": "javascript:alert(1)"},
        {"link": {"0": "javascript:alert(1)"}, "subdomain": "test"},
    ):
        decoded = checked(delivery({"account": block, "leads": {"add": {"0": lead()}}}))
        links = [load(event)["data"].get("account", {}).get("link") for event in decoded.events]
        assert set(links) <= {None, "https://test.kommo.com"}, block
        leaves = json.dumps([load(event)["data"] for event in decoded.events])
        assert all(text in leaves for text in block if isinstance(text, str))  # and it is kept


def test_an_account_block_too_large_to_repeat_is_an_item_of_its_own() -> None:
    block = {"id": str(ACCOUNT_ID), "subdomain": "test", "more": "x" * 3000}
    decoded = checked(delivery({"account": block, "leads": {"add": {"0": lead(), "1": lead(id="6")}}}))
    account, *leads = [load(event) for event in decoded.events]
    assert account["data"]["fields"] == {"account": block}
    assert [event["data"]["account"] for event in leads] == [{"link": "https://test.kommo.com"}] * 2


# Calls


def call(text: str | None, kind: str = "10", **fields: str) -> list[dict[str, Any]]:
    note = {"note_type": kind, "element_type": "1", "element_id": "5", "created_at": "1726580291", **fields}
    if text is not None:
        note["text"] = text
    tree = {"contacts": {"note": {"0": {"note": note, "type": "contact"}}}}
    return [load(event) for event in whole(delivery(tree)).events]


def test_a_call_with_its_recording() -> None:
    logged, recorded = call(CALL_TEXTS[0], "11")
    assert (logged["type"], recorded["type"]) == ("kommo.call.logged", "kommo.call.recorded")
    assert logged["subject"] == "contact/5"
    assert logged["data"]["call"] == {
        "direction": "out",
        "uniq": "u1",
        "link": "https://example.com/1.mp3",
        "phone": "+1",
        "duration": 65,
        "source": "pbx",
    }
    assert logged["data"]["beside"] == {"type": "contact"}
    assert recorded["data"] == logged["data"]


@pytest.mark.parametrize("text", [*CALL_TEXTS[1:], None])
def test_a_call_without_a_recording_or_without_json_is_a_call(text: str | None) -> None:
    found = call(text)
    assert found[0]["type"] == "kommo.call.logged"
    assert found[0]["data"]["call"]["direction"] == "in"
    assert found[0]["data"]["note"].get("text") == text


@pytest.mark.parametrize("depth", [10, 100, 200, 300, 2000])
def test_a_call_whose_json_is_deep(depth: int) -> None:
    """No deeper than a form: what is deeper stays in the note's text, unread."""
    text = '{"UNIQ":"u","x":' + "[" * depth + "]" * depth + "}"
    [found] = call(text, id="7")
    assert found["data"]["note"]["text"] == text
    assert ("uniq" in found["data"]["call"]) is (depth == 10)


def test_a_call_is_named_by_the_note_where_it_has_no_uniq() -> None:
    names = {
        call(text, **fields)[0]["id"]
        for text, fields in [('{"UNIQ":"u"}', {}), ("{}", {"id": "7"}), ("{}", {"id": "8"}), ("{}", {}), ("x", {})]
    }
    assert len(names) == 5


# Size and time

MIB = MAX_BODY_BYTES


def _filled(part: bytes) -> bytes:
    return part * (MIB // len(part))


NASTY: dict[str, bytes] = {
    "control characters": b"\x01" * MIB,
    "a control character at the end": b"a=" + b"x" * (MIB - 3) + b"\x01",
    "ampersands": b"&" * MIB,
    "many pairs": _filled(b"a=&"),
    "many items": b"&".join(b"leads[add][%d][id]=%d" % (number, number + 1) for number in range(10_000)),
    "many deletes": b"&".join([b"leads[delete][]=5"] * 10_000),
    "many accounts": b"account[subdomain]=" + b"x" * 1900 + b"&" + b"&".join(b"x%d=1" % n for n in range(9_500)),
    "deep keys": b"&".join(b"a" + b"[b]" * 60 + b"[%d]=1" % number for number in range(5400)),
    "keys too deep": _filled(b"a" + b"[b]" * 100 + b"=1&"),
    "a long key": b"a" * MIB,
    "a long key of brackets": b"a" + b"[" * (MIB - 1),
    "a long key of pairs of brackets": b"a" + b"[]" * (MIB // 2 - 1),
    "a long index": b"leads[add][" + b"x" * (MIB - 20) + b"][id]=5",
    "one long value": b"leads[update][0][id]=5&leads[update][0][name]=" + b"x" * (MIB - 60),
    "one value that is not UTF-8": b"leads[update][0][id]=5&leads[update][0][name]=" + b"\xff" * (MIB - 60),
    "a value of NUL": b"leads[update][0][id]=5&leads[update][0][name]=" + _filled(b"%00")[:-60],
    "a value of percents": b"leads[update][0][id]=5&leads[update][0][name]=" + b"%" * (MIB - 60),
    "a call that is not UTF-8": b"leads[note][0][note][note_type]=10&leads[note][0][note][element_id]=5"
    b"&leads[note][0][note][text]={%22LINK%22:%22" + b"\\\xff" * (MIB // 2 - 100) + b"%22}",
    "a long text of a task": b"task[update][0][id]=5&task[update][0][old_text]="
    + b"\xff" * (MIB // 2)
    # two copies in the snapshot's fields and two in its changes
    + b"&task[update][0][text]="
    + b"\xfe" * (MIB // 2 - 100),
}


def test_nasty_bodies_take_a_bounded_time_and_room() -> None:
    """The time of all together, which is 7; a square in one of them costs hundreds."""

    def seconds(name: str) -> float:
        given_delivery = delivery(NASTY[name][:MIB])
        began = time.process_time()
        decoded = decode(given_delivery)
        took = time.process_time() - began
        assert decoded.events or decoded.rejections, name
        for event in decoded.events[:50] + decoded.events[-50:]:
            Event.from_json(event.value)
        assert all(len(event.value) <= MAX_EVENT_BYTES for event in decoded.events), name
        assert sum(len(event.value) for event in decoded.events) < 32 * MIB, name
        assert all(len(rejection.reason) < 300 and len(rejection.item) <= 256 for rejection in decoded.rejections), name
        return took

    assert mean_cost(map(seconds, NASTY)) < 30


def test_a_mebibyte_of_control_characters_is_refused() -> None:
    [rejection] = decode(delivery(NASTY["control characters"])).rejections
    assert rejection.error_class is ErrorClass.VALIDATION
    assert "control character" in rejection.reason


def test_an_event_too_large_for_its_topic_is_a_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.decoder.MAX_EVENT_BYTES", 2000)
    decoded = decode(delivery({"leads": {"add": {"0": lead(name="x" * 3000), "1": lead()}}}))
    assert [rejection.item for rejection in decoded.rejections] == ["leads[add][0]"]
    assert [load(event)["item"] for event in decoded.events] == ["leads[add][1]"]


def test_origin_and_delivery_are_in_the_event() -> None:
    given_delivery = delivery({"leads": {"add": {"0": lead()}}})
    live, replay = (load(decode(given_delivery, origin=origin).events[0]) for origin in ("live", "replay"))
    assert live == {**replay, "origin": "live"}
    assert replay["origin"] == "replay"
    assert live["deliveryid"] == DELIVERY_ID
    assert live["sequence"] == f"{RECEIVED_US}-000000"


def test_values_are_decoded_once() -> None:
    body = (
        b"leads[add][0][id]=5&leads[add][0][last_modified]=1726580291&leads[add][0][name]="
        + quote_plus("100%25 & +").encode()
    )
    [event] = decode(delivery(body)).events
    assert load(event)["data"]["lead"]["name"] == "100%25 & +"
