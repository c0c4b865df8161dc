"""71 real bodies: each has a reviewed expected list of events, ids included, so that no id changes unnoticed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.catalogue import EVENT_TYPES
from schemas.decoder import REVISION, decode
from schemas.event import Event
from schemas.form import parse_form
from schemas.identity import event_id
from tests.support.webhooks import (
    CORPUS,
    DELIVERY_ID,
    EXPECTED,
    RECEIVED_US,
    bodies,
    corpus_delivery,
    load,
    nested,
    said,
    same,
)

BODIES = bodies()
REVIEWED: dict[str, list[dict[str, Any]]] = json.loads(EXPECTED.read_text(encoding="utf-8"))

each_body = pytest.mark.parametrize("path", BODIES, ids=[path.stem for path in BODIES])

# What each body means, written by hand from the body and the notes in corpus/INDEX.tsv: type, entity, time, changes.
# A time of "received" is the gateway's: the body says none.
MEANING: dict[str, tuple[str, str, str, dict[str, tuple[Any, Any]]]] = {
    "001": ("lead.added", "lead/31926529", "2016-03-01T09:27:44Z", {}),
    "002": ("lead.updated", "lead/31926520", "2016-03-01T08:26:20Z", {}),
    "003": ("lead.status_changed", "lead/31926520", "2016-03-01T08:26:20Z", {"status_id": (10216995, 10216994)}),
    "004": (
        "lead.responsible_changed",
        "lead/31926520",
        "2016-03-01T08:55:27Z",
        {"responsible_user_id": (102525, 938348)},
    ),
    "005": ("contact.added", "contact/1112", "2016-03-01T09:36:04Z", {}),
    "006": ("company.added", "company/1110", "2016-03-01T09:30:55Z", {}),
    "007": ("contact.restored", "contact/1065", "2016-03-01T10:12:08Z", {}),
    "008": ("company.deleted", "company/52379505", "received", {}),
    "009": ("contact.deleted", "contact/52379505", "received", {}),
    "010": ("lead.added", "lead/40334183", "2016-03-04T16:42:45Z", {}),
    "011": ("lead.restored", "lead/40334183", "2016-03-04T16:42:45Z", {}),
    "012": ("lead.updated", "lead/40334183", "2016-03-04T16:42:45Z", {}),
    "013": (
        "lead.responsible_changed",
        "lead/40337679",
        "2016-02-26T17:05:46Z",
        {"responsible_user_id": (654094, 504141)},
    ),
    "014": ("contact.added", "contact/52171487", "2016-03-04T16:33:29Z", {}),
    "015": ("contact.updated", "contact/52171487", "2016-03-04T16:33:29Z", {}),
    "016": ("contact.restored", "contact/52171487", "2016-03-04T16:33:29Z", {}),
    "017": ("lead.status_changed", "lead/40337679", "2016-03-04T16:50:01Z", {"status_id": (9931852, 9931855)}),
    "018": ("lead.added", "lead/8000832", "2017-01-09T12:27:39Z", {}),
    "019": ("lead.updated", "lead/8000832", "2017-01-09T12:30:34Z", {}),
    "020": ("lead.deleted", "lead/8000832", "received", {}),
    "021": ("lead.status_changed", "lead/8001508", "2017-01-09T12:58:20Z", {"status_id": (13352727, 13352730)}),
    # UTC: in UTC+3 this note would have been written two hours before its lead was made (021, 12:33:36 UTC).
    "022": ("note.added", "lead/8001508", "2017-01-09T13:01:18Z", {}),
    "023": ("contact.added", "contact/21999540", "2017-01-09T12:28:36Z", {}),
    "024": ("contact.updated", "contact/21999540", "2017-01-09T12:30:51Z", {}),
    "025": ("contact.deleted", "contact/21999540", "received", {}),
    "026": ("note.added", "contact/21999476", "2017-01-09T12:36:16Z", {}),
    "027": ("company.added", "company/22000020", "2017-01-09T12:30:06Z", {}),
    "028": ("company.updated", "company/22000020", "2017-01-09T12:31:03Z", {}),
    "029": ("company.deleted", "company/22000020", "received", {}),
    "030": ("note.added", "company/21992826", "2017-01-09T13:01:34Z", {}),
    "031": ("lead.added", "lead/30052055", "2025-04-13T08:27:55Z", {}),
    "032": ("lead.updated", "lead/30052055", "2025-04-13T08:27:56Z", {}),
    "033": ("lead.deleted", "lead/30052055", "received", {}),
    "034": ("lead.status_changed", "lead/26066553", "2023-01-17T09:06:25Z", {"status_id": (17944876, 142)}),
    "035": ("lead.added", "lead/1111111", "2024-09-17T09:46:30Z", {}),
    "036": ("lead.status_changed", "lead/123456789", "2024-09-17T10:09:27Z", {"status_id": (67548607, 67548615)}),
    "037": ("lead.deleted", "lead/12345678", "received", {}),
    "038": ("lead.restored", "lead/15317715", "2024-09-17T11:30:50Z", {}),
    "039": ("lead.status_changed", "lead/15318175", "2024-09-17T11:32:38Z", {"status_id": (67548607, 67548619)}),
    # Its old_status_id is a stale copy of the move in 039, two minutes earlier.
    "040": (
        "lead.responsible_changed",
        "lead/15318175",
        "2024-09-17T11:34:42Z",
        {"responsible_user_id": (12345673, 1234567)},
    ),
    "041": (
        "unsorted.added",
        "unsorted/4278accf80c59e99411d5c6e01e4054864ca958e594699484ba8c5f40bb1",
        "2024-09-17T11:49:24Z",
        {},
    ),
    "042": (
        "unsorted.updated",
        "unsorted/40789acb990dbb9754dc234e18d2325470612b2284880504d78f258d8f77",
        "received",
        {},
    ),
    # Their created_at may be that of the incoming lead: it would put the end before what came in between.
    "043": (
        "unsorted.accepted",
        "unsorted/f575b754b0d1eb1c380e53d6821ffd2820a6dfbe3822de0cfddaf266980f",
        "received",
        {},
    ),
    "044": (
        "unsorted.declined",
        "unsorted/f575b754b0d1eb1c380e457edeba88954891f3dce5d2fe1324fd3e2af58d",
        "received",
        {},
    ),
    "045": ("contact.added", "contact/17611273", "2024-09-17T11:38:47Z", {}),
    "046": ("contact.updated", "contact/17611273", "2024-09-17T11:38:50Z", {}),
    "047": ("contact.deleted", "contact/17611273", "received", {}),
    "048": ("contact.restored", "contact/17611273", "2024-09-17T11:41:04Z", {}),
    "049": (
        "contact.responsible_changed",
        "contact/17611273",
        "2024-09-17T11:42:06Z",
        {"responsible_user_id": (11087123, 11940747)},
    ),
    "050": ("company.added", "company/17612521", "2024-09-17T12:35:34Z", {}),
    "051": ("company.updated", "company/17612521", "2024-09-17T12:37:14Z", {}),
    "052": ("company.restored", "company/17612521", "2024-09-17T12:42:17Z", {}),
    "053": (
        "company.responsible_changed",
        "company/17612521",
        "2024-09-17T12:43:08Z",
        {"responsible_user_id": (11087123, 11940747)},
    ),
    "054": ("company.deleted", "company/17612521", "received", {}),
    "055": ("task.added", "task/1564671", "2024-09-17T13:07:29Z", {}),
    "056": ("task.text_changed", "task/1502517", "2024-09-17T13:11:20Z", {"text": ("task text", "task text edited")}),
    "057": ("task.completed", "task/1564845", "2024-09-17T13:21:09Z", {}),
    "058": ("task.result_added", "task/1564835", "2024-09-17T13:29:18Z", {}),
    "059": ("task.deleted", "task/1564885", "received", {}),
    "060": (
        "task.responsible_changed",
        "task/1564917",
        "2024-09-17T13:28:01Z",
        {"responsible_user_id": (11087123, 11940747)},
    ),
    # date_create says 16:38:11, created_at 13:38:11 UTC.
    "061": ("note.added", "lead/15320411", "2024-09-17T13:38:11Z", {}),
    "062": ("note.added", "lead/15320411", "2024-09-17T13:39:32Z", {}),
    "063": ("note.added", "contact/17614247", "2024-09-17T13:43:34Z", {}),
    "064": ("note.added", "company/17614267", "2024-09-17T13:44:13Z", {}),
    "065": ("catalog_element.added", "catalog_element/347577", "2024-09-17T13:48:03Z", {}),
    "066": ("catalog_element.updated", "catalog_element/347577", "2024-09-17T13:49:22Z", {}),
    "067": ("catalog_element.deleted", "catalog_element/347577", "received", {}),
    "068": ("message.received", "lead/9276114", "2024-09-17T13:54:55Z", {}),
    "069": ("talk.added", "talk/191", "2024-09-17T13:54:58Z", {}),
    "070": ("talk.updated", "talk/191", "2024-09-17T13:58:07Z", {}),
    "071": ("talk.updated", "talk/191", "2024-09-17T13:59:08Z", {}),
}


def test_all_bodies_are_here_and_reviewed() -> None:
    index = (CORPUS / "INDEX.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert [line.split("\t")[0] for line in index] == [path.name for path in BODIES] == list(REVIEWED)
    assert [path.name[:3] for path in BODIES] == list(MEANING)
    assert len(BODIES) == 71


@each_body
def test_body_gives_its_reviewed_events(path: Path) -> None:
    decoded = decode(corpus_delivery(path))
    assert [load(event) for event in decoded.events] == REVIEWED[path.name]
    assert decoded.rejections == []


@each_body
def test_body_means_what_it_says(path: Path) -> None:
    """The table above and the reviewed file cannot both be regenerated into the same mistake."""
    kind, subject, time, changes = MEANING[path.name[:3]]
    [event] = REVIEWED[path.name]
    source = "received" if time == "received" else "kommo"
    assert (event["type"], event["subject"]) == (f"kommo.{kind}", subject)
    assert event["time"] == ("2026-09-21T14:13:20.123456Z" if time == "received" else time)
    assert event["timesource"] == source
    wanted = {name: {"from": before, "to": after} for name, (before, after) in changes.items()}
    assert event["data"].get("changes", {}) == wanted


@each_body
def test_envelope(path: Path) -> None:
    given = corpus_delivery(path)
    [found] = decode(given).events
    event = Event.from_json(found.value)
    assert (found.id, found.type, found.key) == (event.id, event.type, event.key)
    assert event.key == f"{given.account_id}/{event.subject}".encode()
    assert event.source == f"/kommo/accounts/{given.account_id}"
    assert event.sequence == f"{RECEIVED_US}-000000"
    assert event.deliveryid == event.correlationid == DELIVERY_ID
    assert (event.revision, event.origin, event.version) == (REVISION, "live", EVENT_TYPES[event.type].version)
    assert event.to_json() == found.value


@each_body
def test_nothing_of_the_body_is_lost_and_nothing_added(path: Path) -> None:
    """Every pair of the body is in the event: in its account block, or in its item with the same text or number."""
    body = path.read_bytes()
    form = nested(body)
    [event] = REVIEWED[path.name]
    account = {name: value for name, value in event["data"].get("account", {}).items() if name != "link"}
    assert same(form.pop("account", {}), account)
    [(key, actions)] = form.items()
    [(action, items)] = actions.items()
    [(index, item)] = items.items()
    assert event["item"] == f"{key}[{action}][{index}]"
    assert same(item, said(event["data"], event["item"]))


@each_body
def test_form_is_nested_as_an_independent_reader_nests_it(path: Path) -> None:
    body = path.read_bytes()
    assert parse_form(body) == nested(body)


@each_body
def test_a_repeat_is_the_same_event_except_a_delete(path: Path) -> None:
    first = corpus_delivery(path)
    again = type(first)(first.account_id, "another delivery", first.received_us + 300_000_000, first.body)
    [event], [repeat] = decode(first).events, decode(again).events
    assert (event.id == repeat.id) is not EVENT_TYPES[event.type].by_delivery


def test_ids_are_all_different() -> None:
    counts = Counter(event["id"] for events in REVIEWED.values() for event in events)
    assert set(counts.values()) == {1}


@pytest.mark.parametrize("name", ["003-leads-status", "017-leads-status", "034-leads-status"])
def test_id_of_a_move_is_made_of_the_texts_of_the_body(name: str) -> None:
    """Made by hand from the body, not by the decoder."""
    lead = nested((CORPUS / f"{name}.form").read_bytes())["leads"]["status"]["0"]
    names = ("old_status_id", "status_id", "pipeline_id", "last_modified")
    wanted = event_id(16700680, "kommo.lead.status_changed", f"lead/{lead['id']}", {name: lead[name] for name in names})
    assert REVIEWED[f"{name}.form"][0]["id"] == wanted


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        ("001", "https://test000002.kommo.com"),  # no address in the body: made of the subdomain
        ("031", "https://example.amocrm.ru"),
        ("042", "https://test.kommo.com"),
        ("035", None),  # no account block at all
    ],
)
def test_address_of_the_account(number: str, wanted: str | None) -> None:
    [event] = next(events for name, events in REVIEWED.items() if name.startswith(number))
    assert event["data"].get("account", {}).get("link") == wanted


def test_details_that_are_easily_lost() -> None:
    def data(number: str) -> Any:
        [event] = next(events for name, events in REVIEWED.items() if name.startswith(number))
        return event["data"]

    assert data("022")["note"]["text"] == "Note to lead"  # 2017: quotes stripped, everywhere
    assert data("022")["note"]["attachement"] == ""
    assert data("022")["note"]["timestamp_x"] == "2017-01-09 13:01:19"
    assert data("026")["beside"] == data("063")["beside"] == {"type": "contact"}
    assert data("030")["beside"] == data("064")["beside"] == {"type": "company"}
    assert data("010")["lead"]["price"] is None  # sent empty
    assert data("017")["lead"]["price"] == 0
    assert data("032")["lead"]["modified_user_id"] == 0  # an automation
    assert "modified_user_id" not in data("046")["contact"]  # absent, not null
    assert data("036")["lead"]["date_create"] == "17265663a90"
    assert data("036")["lead"]["name"] == ""
    assert data("035")["lead"]["custom_fields"][4]["values"] == ["1729717200"]  # a date is a bare text
    assert data("039")["lead"]["custom_fields"][3]["values"] == [{"value": "2", "enum": "908107"}]
    assert data("045")["contact"]["custom_fields"][4]["values"] == {"value": "2", "enum": "566642"}  # radiobutton
    assert data("014")["contact"]["linked_leads_id"] == {"40326593": {"ID": "40326593"}}  # keyed by id, no list
    assert data("040")["lead"]["old_status_id"] == 67548607  # kept, not believed
    assert data("058")["task"]["result"] == {"id": "4600307", "text": "client responded"}
    assert data("057")["task"]["old_text"] == "text"
    assert data("041")["unsorted"]["data"]["leads"][0]["gso_session_uid"] == "null"
    assert data("042")["unsorted"]["source_data"]["date"] == "1567619168"  # sent twice
    assert data("043")["unsorted"]["accept_result"] == {"leads": ["15258873"]}
