"""An id names an occurrence: the same for every repeat, another for everything else, and the same for ever."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import re
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import readers
from schemas.catalogue import EVENT_TYPES
from schemas.decoder import decode
from schemas.delivery import Delivery
from schemas.identity import event_id, new_delivery_id
from schemas.models import Lead, Task
from schemas.wire import Int, Text
from tests.support.webhooks import ACCOUNT_ID, bodies, corpus_delivery, delivery, encoded, nested

LITERAL: list[tuple[tuple[int, str, str, Any], str]] = [
    ((1, "kommo.lead.added", "lead/5", {"id": "5"}), "7bc18d46-d957-831e-8c11-74c447d9b611"),
    (
        (1, "kommo.lead.added", "lead/5", {"name": 'Ж "\\\n\x7f\u2028😀', "id": "5", "a": {"1": "x", "0": ""}}),
        "97b7c704-6926-83d3-950d-7c6850511fca",
    ),
    (
        (
            16700680,
            "kommo.lead.status_changed",
            "lead/30052055",
            {"old_status_id": "1", "status_id": "142", "pipeline_id": "9", "last_modified": None},
        ),
        "04cc8016-400d-8030-bf94-fd79481f49bc",
    ),
    (
        (2**63 - 1, "kommo.task.deleted", "task/1", {"delivery": "01996bd1-9a40-7000-8000-000000000001"}),
        "8d133b9b-0c4e-8468-b9c9-dfde55eee8c2",
    ),
]


@pytest.mark.parametrize(("parts", "wanted"), LITERAL, ids=range(len(LITERAL)))
def test_ids_never_change(parts: tuple[int, str, str, Any], wanted: str) -> None:
    assert event_id(*parts) == wanted


@pytest.mark.parametrize("parts", [parts for parts, _ in LITERAL], ids=range(len(LITERAL)))
def test_another_program_can_make_them(parts: tuple[int, str, str, Any]) -> None:
    """By the words of event_id's description, with the standard library alone."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    number = number & ~(0xF << 76) | 0x8 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    assert event_id(*parts) == str(uuid.UUID(int=number))


_fields = st.recursive(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda children: st.dictionaries(st.text("ab01é", min_size=1, max_size=3), children, max_size=4),
    max_leaves=8,
)


@given(_fields, st.randoms(use_true_random=False))
def test_version_bits_and_order_of_keys(fields: Any, chance: random.Random) -> None:
    name = event_id(1, "kommo.note.added", "lead/1", fields)
    assert uuid.UUID(name).version == 8
    assert uuid.UUID(name).variant == uuid.RFC_4122

    def shuffled(tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        items = list(tree.items())
        chance.shuffle(items)
        return {key: shuffled(value) for key, value in items}

    assert event_id(1, "kommo.note.added", "lead/1", shuffled(fields)) == name


def test_each_part_counts() -> None:
    names = {
        event_id(1, "kommo.lead.added", "lead/5", {"id": "5"}),
        event_id(2, "kommo.lead.added", "lead/5", {"id": "5"}),
        event_id(1, "kommo.lead.updated", "lead/5", {"id": "5"}),
        event_id(1, "kommo.lead.added", "lead/6", {"id": "5"}),
        event_id(1, "kommo.lead.added", "lead/5", {"id": 5}),
        event_id(1, "kommo.lead.added", "lead/5", {"id": "05"}),
        event_id(1, "kommo.lead.added", "lead/5", {"id": "5", "name": ""}),
        event_id(1, "kommo.lead.added", "lead/5", {"id": "5", "name": None}),
        event_id(1, "kommo.lead.added", "lead/5", None),
    }
    assert len(names) == 9


def ids(tree: dict[str, Any], **request: Any) -> dict[str, str]:
    """The ids of the events of a body, by type; each type once."""
    decoded = decode(delivery(tree, **request))
    assert decoded.rejections == []
    found = {event.type.removeprefix("kommo."): event.id for event in decoded.events}
    assert len(found) == len(decoded.events)
    return found


def corpus(number: str) -> dict[str, Any]:
    return next(nested(path.read_bytes()) for path in bodies() if path.name.startswith(number))


def item(tree: dict[str, Any]) -> dict[str, Any]:
    """The one item of a body, to be changed in place."""
    key = next(key for key in tree if key != "account")
    [(_, items)] = tree[key].items()
    [(_, fields)] = items.items()
    inner: dict[str, Any] = fields["note"] if isinstance(fields.get("note"), dict) else fields
    return inner


# Bodies, and the fields that name their occurrence; None: all fields do. Wherever all do, any change is another event.
DECLARED: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "003": ("lead.status_changed", ("old_status_id", "status_id", "pipeline_id", "last_modified")),
    "036": ("lead.status_changed", ("old_status_id", "status_id", "pipeline_id", "last_modified")),
    "004": ("lead.responsible_changed", ("old_responsible_user_id", "responsible_user_id", "last_modified")),
    "049": ("contact.responsible_changed", ("old_responsible_user_id", "responsible_user_id", "updated_at")),
    "053": ("company.responsible_changed", ("old_responsible_user_id", "responsible_user_id", "updated_at")),
    "056": ("task.text_changed", ("old_text", "text", "last_modified", "updated_at")),
    "057": ("task.completed", ("last_modified", "updated_at")),
    "058": ("task.result_added", ("last_modified", "updated_at")),
    "060": ("task.responsible_changed", ("old_responsible_user_id", "responsible_user_id", "last_modified")),
    "001": ("lead.added", None),
    "002": ("lead.updated", None),
    "038": ("lead.restored", None),
    "045": ("contact.added", None),
    "051": ("company.updated", None),
    "055": ("task.added", None),
    "061": ("note.added", None),
    "063": ("note.added", None),
    "041": ("unsorted.added", None),
    "044": ("unsorted.declined", None),
    "065": ("catalog_element.added", None),
    "068": ("message.received", ("id", "created_at")),
    "071": ("talk.updated", None),
}

# With another text in these it would be another type or another entity.
NAMES_THE_EVENT = (
    *("id", "uid", "talk_id", "element_id", "element_type", "entity_id", "entity_type"),
    *("type", "status", "action", "action_close"),
)


@pytest.mark.parametrize("number", DECLARED)
def test_which_fields_name_an_occurrence(number: str) -> None:
    kind, names = DECLARED[number]
    tree = corpus(number)
    before = ids(tree)[kind]
    for name in item(tree):
        if name in NAMES_THE_EVENT or not isinstance(item(tree)[name], str):
            continue
        changed = copy.deepcopy(tree)
        item(changed)[name] += "0"  # another text; of old_x and x the two still differ
        after = ids(changed).get(kind)
        assert after is not None
        counts = names is None or name in names or (name in ("last_modified", "updated_at") and "status" not in kind)
        assert (after != before) is counts, name


@pytest.mark.parametrize("number", DECLARED)
def test_a_field_kommo_adds_tomorrow(number: str) -> None:
    """It makes another event of a snapshot, and none of an occurrence with fields of its own."""
    kind, names = DECLARED[number]
    tree = corpus(number)
    before = ids(tree)[kind]
    item(tree)["brand_new"] = "1"
    assert (ids(tree)[kind] != before) is (names is None)


@pytest.mark.parametrize("number", DECLARED)
def test_the_order_of_fields_does_not_matter(number: str) -> None:
    tree = corpus(number)
    before = ids(tree)
    fields = item(tree)
    for name in reversed(list(fields)):
        fields[name] = fields.pop(name)
    assert list(fields) != sorted(fields)
    assert ids(tree) == before


def test_a_text_is_not_its_number() -> None:
    """The wire text counts: 5, 05, 5.0 and nothing are four texts."""
    tree = corpus("031")
    seen = set()
    for text in ("5", "05", "5.0", " 5", "+5", "5_0", ""):
        item(tree)["price"] = text
        seen.add(ids(tree)["lead.added"])
    del item(tree)["price"]
    seen.add(ids(tree)["lead.added"])
    assert len(seen) == 8


def test_a_model_that_learns_a_field_changes_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    class NewerLead(Lead):
        price: Text = None
        custom_fields: Any = None
        group_id: Int = 0
        invented: Int = None

    class NewerTask(Task):
        text: Any = None
        is_overdue: Int = 0

    before = {path.name: [event.id for event in decode(corpus_delivery(path)).events] for path in bodies()}
    monkeypatch.setattr(readers, "Lead", NewerLead)
    monkeypatch.setattr(readers, "Task", NewerTask)
    assert {path.name: [event.id for event in decode(corpus_delivery(path)).events] for path in bodies()} == before


def test_a_repeat_has_the_same_id_except_a_delete() -> None:
    for path in bodies():
        tree = nested(path.read_bytes())
        tree.pop("account", None)
        first = ids(tree)
        again = ids(tree, delivery_id="another", received_us=1_790_000_300_000_000)
        [kind] = first
        assert (first == again) is not EVENT_TYPES[f"kommo.{kind}"].by_delivery, path.name
        assert ids(tree) == first


def test_a_delete_repeated_in_a_replay_has_the_same_id() -> None:
    assert ids(corpus("059")) == ids(corpus("059"))


@pytest.mark.parametrize("number", ["020", "033", "047", "054", "059"])
def test_delete_ids_differ_for_each_delivery(number: str) -> None:
    tree = corpus(number)
    assert len({str(ids(tree, account_id=16700680, delivery_id=f"delivery-{count}")) for count in range(5)}) == 5


def test_two_deletes_of_one_delivery_are_two_events() -> None:
    decoded = decode(delivery({"leads": {"delete": {"0": {"id": "5"}, "1": {"id": "6"}}}}))
    assert len({event.id for event in decoded.events}) == 2


def test_the_status_hook_and_the_update_hook_of_one_move_are_one_event() -> None:
    fields = item(corpus("034"))
    status = ids({"leads": {"status": {"0": fields}}})
    fuller = {**fields, "group_id": "7", "custom_fields": {"0": {"id": "1", "values": {"0": {"value": "x"}}}}}
    update = ids({"leads": {"update": {"0": fuller}}}, delivery_id="another", received_us=1_790_000_001_000_000)
    assert status == update
    assert list(status) == ["lead.status_changed"]
    back = {**fields, "status_id": fields["old_status_id"], "old_status_id": fields["status_id"]}
    assert ids({"leads": {"status": {"0": back}}}) != status
    later = {**fields, "last_modified": str(int(fields["last_modified"]) + 1)}
    assert ids({"leads": {"update": {"0": later}}}) != status


def test_the_place_in_the_body_does_not_matter() -> None:
    fields = item(corpus("031"))
    alone = decode(delivery({"leads": {"add": {"0": fields}}})).events
    later = decode(delivery({"task": {"delete": {"0": {"id": "1"}}}, "leads": {"add": {"3": fields}}})).events
    assert alone[0].id == later[1].id


def test_other_accounts_and_the_same_texts_elsewhere() -> None:
    fields = item(corpus("045"))
    company = {**fields, "type": "company"}
    names = [
        *ids({"contacts": {"add": {"0": fields}}}).values(),
        *ids({"contacts": {"add": {"0": fields}}}, account_id=ACCOUNT_ID + 1).values(),
        *ids({"contacts": {"add": {"0": company}}}).values(),
        *ids({"contacts": {"update": {"0": fields}}}).values(),
        *ids({"contacts": {"restore": {"0": fields}}}).values(),
        *ids({"contact": {"add": {"0": fields}}}).values(),
        *ids({"contact": {"update": {"0": fields}}}).values(),
    ]
    assert len(set(names)) == len(names) == 7


def test_a_call_is_named_by_its_uniq_and_its_recording_by_the_link_too() -> None:
    def call(**text: str) -> dict[str, str]:
        note = {"id": "77", "note_type": "10", "element_type": "2", "element_id": "5", "created_at": "1726580291"}
        return ids({"leads": {"note": {"0": {"note": {**note, "text": json.dumps(text)}}}}})

    started = call(UNIQ="u1", PHONE="1", LINK="")
    recorded = call(UNIQ="u1", PHONE="1", LINK="https://example.com/a.mp3", DURATION="60")
    assert list(started) == ["call.logged"]
    assert list(recorded) == ["call.logged", "call.recorded"]
    assert recorded["call.logged"] == started["call.logged"]
    assert call(UNIQ="u1", LINK="https://example.com/b.mp3")["call.recorded"] != recorded["call.recorded"]
    assert call(UNIQ="u2", PHONE="1", LINK="")["call.logged"] != started["call.logged"]
    assert call(UNIQ="", PHONE="1") == call(UNIQ="", PHONE="1", DURATION="9")  # then the note's id names it


def test_the_encoding_of_the_body_does_not_matter() -> None:
    tree = corpus("045")
    body = encoded(tree)
    plain = body.replace(b"%5B", b"[").replace(b"%5D", b"]")
    lower = re.sub(rb"%[0-9A-F]{2}", lambda match: match[0].lower(), body)
    assert len({decode(delivery(text)).events[0].id for text in (body, plain, lower)}) == 1


def test_delivery_ids_are_version_7_and_sort_by_time() -> None:
    names = [new_delivery_id() for _ in range(100)]
    assert len(set(names)) == 100
    assert all(uuid.UUID(name).version == 7 and uuid.UUID(name).variant == uuid.RFC_4122 for name in names)
    assert [name[:13] for name in names] == sorted(name[:13] for name in names)


@pytest.mark.parametrize(
    "body",
    [
        "leads[status][0][id]=1&leads[status][0][name]=a&leads[status][0][status_id]=2&leads[status][0][old_status_id]=1"
        "&leads[status][0][updated_at]={}",
        "task[update][0][id]=1&task[update][0][status]=1&task[update][0][action_close]=1&task[update][0][text]={}",
        "leads[responsible][0][id]=1&leads[responsible][0][responsible_user_id]=2"
        "&leads[responsible][0][old_responsible_user_id]=1&leads[responsible][0][price]={}",
    ],
)
def test_what_does_not_say_when_is_named_by_all_its_fields(body: str) -> None:
    first, second = (
        decode(Delivery(1, "d", 1_764_000_000_000_000, body.format(value).encode())).events[0]
        for value in ("1763000000", "1763000001")
    )
    assert first.type == second.type
    assert first.id != second.id
