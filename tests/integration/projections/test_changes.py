"""What changed, worked out from neighbours: an entity's snapshots in Kommo's order, whatever order they came in."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.reading import LoggedEvent
from projections.snapshot import snapshot
from tests.support.projections import T0, Log, Row, Tables, body, event_json, lead, person, task
from tests.support.properties import in_postgres
from tests.support.worlds import orders

_WHOLE = {"date_create": T0 - 1000}


def _lead(at: int, **fields: Any) -> bytes:
    return body("leads", "update", lead(5, at, **_WHOLE, **fields))


def _fields(*fields: tuple[int, str, Any]) -> dict[str, Any]:
    """Custom fields as a lead carries them: (id, name, value)."""
    return {
        str(n): {"id": i, "name": name, "values": {"0": {"value": value}}} for n, (i, name, value) in enumerate(fields)
    }


def _tags(*names: str) -> dict[str, Any]:
    return {str(number): {"id": number + 1, "name": name} for number, name in enumerate(names)}


async def _lines(tables: Tables, *bodies: bytes) -> list[Row]:
    log = Log()
    for number, content in enumerate(bodies):
        log.deliver(content, T0 + 500 + number)
    await tables.write(log.events)
    return await tables.shown()


async def _last(tables: Tables, *bodies: bytes) -> tuple[str, dict[str, Any] | None]:
    line = (await _lines(tables, *bodies))[-1]
    return line["summary"], line["changes"]


async def test_price_and_tags(tables: Tables) -> None:
    before = _lead(T0, price=100, tags=_tags("new"))
    after = _lead(T0 + 9, price=250, tags=_tags("hot", "new"))
    assert await _last(tables, before, after) == (
        "Lead “Deal 5” updated: price 100 → 250, tag hot added",
        {"price": {"from": 100, "to": 250}, "tags": {"from": ["new"], "to": ["hot", "new"]}},
    )


async def test_without_an_earlier_snapshot_nothing_is_said(tables: Tables) -> None:
    assert await _last(tables, _lead(T0, price=100)) == ("Lead “Deal 5” updated", None)


async def test_custom_fields_by_name_set_changed_and_cleared(tables: Tables) -> None:
    before = _lead(T0, custom_fields=_fields((1, "City", "Rome"), (2, "Plan", "basic")))
    after = _lead(T0 + 9, custom_fields=_fields((2, "Plan", "pro"), (3, "Source", "Site")))
    assert await _last(tables, before, after) == (
        "Lead “Deal 5” updated: City cleared, Plan basic → pro, Source set to Site",
        {
            "custom_fields.City": {"from": "Rome", "to": None},
            "custom_fields.Plan": {"from": "basic", "to": "pro"},
            "custom_fields.Source": {"from": None, "to": "Site"},
        },
    )


async def test_two_custom_fields_of_one_name(tables: Tables) -> None:
    before = _lead(T0, custom_fields=_fields((1, "Phone", "111"), (2, "Phone", "222"), (3, "City", "Rome")))
    after = _lead(T0 + 9, custom_fields=_fields((1, "Phone", "999"), (2, "Phone", "888"), (3, "City", "Oslo")))
    summary, changes = await _last(tables, before, after)
    assert (changes or {}).keys() == {"custom_fields.City", "custom_fields.Phone (1)", "custom_fields.Phone (2)"}
    assert summary.endswith(": City Rome → Oslo, Phone (1) 111 → 999, Phone (2) 222 → 888")


async def test_a_change_that_no_event_tells_is_told_by_the_neighbours(tables: Tables) -> None:
    """old_x beside x makes an event of its own only for some entities and actions."""
    told = {"old_status_id": 1, "status_id": 2}
    customers = [body("customers", "update", person(5, T0 + at, **_WHOLE, **more)) for at, more in _STAGES]
    assert (await _last(tables, *customers))[1] == {"status_id": {"from": 1, "to": 2}}
    for action in ("restore", "responsible"):
        await tables.clear()
        summary, changes = await _last(
            tables, _lead(T0, status_id=1), body("leads", action, lead(5, T0 + 9, **_WHOLE, **told))
        )
        assert (changes or {})["status_id"] == {"from": 1, "to": 2}, summary


_STAGES: tuple[tuple[int, dict[str, Any]], ...] = ((0, {"status_id": 1}), (9, {"old_status_id": 1, "status_id": 2}))


async def test_both_hooks_of_one_move_tell_it_once(tables: Tables) -> None:
    moved = lead(5, T0 + 9, **_WHOLE, status_id=101)
    first = body("leads", "update", moved)  # without old_status_id, and before the hook of the move
    lines = await _lines(
        tables, _lead(T0, status_id=100), first, body("leads", "status", {**moved, "old_status_id": 100})
    )
    assert [(line["event_type"], line["changes"]) for line in lines[1:]] == [
        ("kommo.lead.updated", None),
        ("kommo.lead.status_changed", {"status_id": {"from": 100, "to": 101}}),
    ]


async def test_more_custom_fields_than_a_page_can_take_are_not_compared(tables: Tables) -> None:
    def many(at: int, value: str, price: int) -> bytes:
        return _lead(at, price=price, custom_fields=_fields(*((n, f"F{n}", value) for n in range(1, 600))))

    assert (await _last(tables, many(T0, "a", 1), many(T0 + 9, "b", 2)))[1] == {"price": {"from": 1, "to": 2}}


async def test_a_field_that_is_renamed_did_not_change(tables: Tables) -> None:
    before = _lead(T0, custom_fields=_fields((1, "City", "Rome")))
    after = _lead(T0 + 9, custom_fields=_fields((1, "Town", "Rome")))
    assert await _last(tables, before, after) == ("Lead “Deal 5” updated", None)


async def test_a_price_that_vanished_was_cleared_and_none_is_none(tables: Tables) -> None:
    assert (await _last(tables, _lead(T0, price=5), _lead(T0 + 9)))[0] == "Lead “Deal 5” updated: price cleared"
    await tables.clear()
    assert (await _last(tables, _lead(T0, price=0), _lead(T0 + 9), _lead(T0 + 19, price="")))[1] is None


async def test_a_body_that_is_not_whole_clears_nothing(tables: Tables) -> None:
    before = _lead(T0, price=5, tags=_tags("a"), custom_fields=_fields((1, "City", "Rome")))
    thin = body("leads", "update", {"id": 5, "name": "Deal 5", "last_modified": T0 + 9})
    assert await _last(tables, before, thin) == ("Lead “Deal 5” updated", None)


async def test_the_next_whole_one_is_compared_with_what_stands_before_it(tables: Tables) -> None:
    lines = await _lines(tables, _lead(T0, price=5), _lead(T0 + 9, price=6), _lead(T0 + 19, price=7))
    assert [line["changes"] for line in lines] == [
        None,
        {"price": {"from": 5, "to": 6}},
        {"price": {"from": 6, "to": 7}},
    ]


async def test_a_late_event_changes_its_own_line_and_the_next(tables: Tables) -> None:
    first, late, last = _lead(T0, price=5), _lead(T0 + 9, price=6), _lead(T0 + 19, price=7)
    assert (await _last(tables, first, last))[1] == {"price": {"from": 5, "to": 7}}
    await tables.clear()
    lines = await _lines(tables, first, last, late)
    assert [line["changes"] for line in lines[1:]] == [{"price": {"from": 5, "to": 6}}, {"price": {"from": 6, "to": 7}}]


async def test_what_the_body_proves_is_told_once(tables: Tables) -> None:
    """One body, two events: the move and the handing over. The price that changed with them stands at one of them."""
    before = _lead(T0, price=5, status_id=100, responsible_user_id=7)
    told = {"old_status_id": 100, "status_id": 101, "old_responsible_user_id": 7, "responsible_user_id": 8}
    lines = await _lines(tables, before, _lead(T0 + 9, price=6, **told))
    moved = next(line for line in lines if line["event_type"] == "kommo.lead.status_changed")
    handed = next(line for line in lines if line["event_type"] == "kommo.lead.responsible_changed")
    priced = [line for line in (moved, handed) if "price" in line["changes"]]
    assert len(priced) == 1
    assert moved["changes"].keys() - {"price"} == {"status_id"}
    assert handed["changes"].keys() - {"price"} == {"responsible_user_id"}
    assert priced[0]["summary"].endswith(": price 5 → 6")


async def test_a_move_of_which_only_the_snapshot_tells(tables: Tables) -> None:
    """The hook of the move was lost; the next update shows where the lead is."""
    summary, changes = await _last(tables, _lead(T0, status_id=100), _lead(T0 + 9, status_id=101))
    assert changes == {"status_id": {"from": 100, "to": 101}}
    assert summary == "Lead “Deal 5” updated: status 100 → 101"


async def test_tasks(tables: Tables) -> None:
    def told(at: int, **fields: Any) -> bytes:
        return body("task", "update", task(5, at, **{"created_at": T0 - 9, "complete_before": T0 + 86400, **fields}))

    lines = await _lines(
        tables,
        told(T0),
        told(T0 + 10, complete_before=T0 + 90000),
        told(T0 + 20, status=1, action_close=1, complete_before=T0 + 90000),
        told(T0 + 30, status=0, complete_before=T0 + 90000),
        told(T0 + 40, status=0, complete_before=0),
    )
    assert [line["summary"] for line in lines] == [
        "Task “Do 5” updated",
        "Task “Do 5” updated: deadline 2026-09-22 14:13 UTC → 2026-09-22 15:13 UTC",
        "Task “Do 5” completed",
        "Task “Do 5” updated: reopened",
        "Task “Do 5” updated: deadline cleared",
    ]


async def test_contacts_and_the_leads_they_are_linked_to(tables: Tables) -> None:
    def told(at: int, *leads: int) -> bytes:
        links = {str(number): {"ID": number} for number in leads}
        return body("contacts", "update", person(5, at, **_WHOLE, **({"linked_leads_id": links} if leads else {})))

    assert (await _last(tables, told(T0, 1, 2), told(T0 + 9, 2, 3)))[0] == (
        "Contact “Name 5” updated: lead 3 added, lead 1 removed"
    )


async def test_conversations(tables: Tables) -> None:
    def told(at: int, **fields: Any) -> bytes:
        return body("talk", "update", {"talk_id": 5, "updated_at": at, "is_in_work": 1, "is_read": 0, **fields})

    lines = await _lines(tables, told(T0), told(T0 + 9, is_read=1), told(T0 + 19, is_read=1, is_in_work=0))
    assert [line["changes"] for line in lines[1:]] == [
        {"is_read": {"from": 0, "to": 1}},
        {"is_in_work": {"from": 1, "to": 0}},
    ]
    assert lines[1]["summary"].endswith(": read")
    assert lines[2]["summary"].endswith(": closed")


def _talk(at: int, **fields: Any) -> bytes:
    return body("talk", "update", {"talk_id": 5, "updated_at": at, "origin": "waba", **fields})


async def test_a_conversation_that_is_closed_when_it_is_first_seen(tables: Tables) -> None:
    """Nothing differs from what is not known, so `changes` says nothing."""
    lines = await _lines(
        tables, _talk(T0, is_read=0), _talk(T0 + 9, is_in_work=0, is_read=1), _talk(T0 + 19, is_in_work=0, rate=5)
    )
    assert [(line["summary"], line["changes"]) for line in lines] == [
        ("Conversation in waba updated", None),
        ("Conversation in waba updated: closed, read", {"is_read": {"from": 0, "to": 1}}),
        ("Conversation in waba updated", None),
    ]


async def test_a_conversation_that_is_in_work_when_it_is_first_seen_is_not_closed(tables: Tables) -> None:
    assert (await _last(tables, _talk(T0, is_in_work=1)))[0] == "Conversation in waba updated"


async def test_of_two_lines_of_one_second_the_first_says_that_it_was_closed(tables: Tables) -> None:
    lines = await _lines(tables, _talk(T0, is_in_work=0), _talk(T0, is_in_work=0, rate=5))
    assert [line["summary"].partition(": ")[2] for line in lines] == ["closed", ""]


@pytest.mark.parametrize(
    ("late", "summary"), [(1, "Conversation in waba updated: closed"), (0, "Conversation in waba updated")]
)
async def test_a_late_event_before_it_says_whether_it_was_closed_then(tables: Tables, late: int, summary: str) -> None:
    first, before = _talk(T0 + 9, is_in_work=0), _talk(T0, is_in_work=late)
    assert await _last(tables, first) == ("Conversation in waba updated: closed", None)
    await tables.clear()
    lines = await _lines(tables, first, before)
    assert (lines[1]["summary"], lines[1]["changes"]) == (
        summary,
        {"is_in_work": {"from": 1, "to": 0}} if late else None,
    )


async def test_a_conversation_of_another_account_or_id_says_nothing_of_this_one(tables: Tables) -> None:
    log = Log()
    log.deliver(body("talk", "update", {"talk_id": 6, "updated_at": T0, "is_in_work": 0}), T0 + 500)
    log.append(
        event_json("kommo.talk.updated", "talk/5", accountid="1", data={"talk": {"talk_id": 5, "is_in_work": 1}})
    )
    log.deliver(_talk(T0 + 9, is_in_work=0), T0 + 501)
    await tables.write(log.events)
    assert (await tables.shown())[-1]["summary"] == "Conversation in waba updated: closed"


@pytest.mark.parametrize(
    "changes",
    [
        {"status_id": {"from": [1], "to": {"a": 2}}, "pipeline_id": {"from": 1}},
        {"status_id": 5, "pipeline_id": [1, 2], "tags": {"from": 1, "to": 2}},
        {"tags": {"from": 1, "to": 2}, "name": {"from": "a", "to": "b"}},
    ],
)
async def test_a_hook_of_the_pipeline_in_which_another_gateway_says_no_move(
    tables: Tables, changes: dict[str, Any]
) -> None:
    log = Log()
    log.append(event_json("kommo.digital_pipeline.triggered", data={"trigger": "chat", "changes": changes}))
    await tables.write(log.events)
    (line,) = await tables.shown()
    assert (line["summary"], line["changes"]) == ("Automation of the pipeline (chat) on lead 1", changes)


async def test_another_entity_or_account_is_no_neighbour(tables: Tables) -> None:
    other = body("leads", "update", lead(6, T0, **_WHOLE, price=1))
    contact = body("contacts", "update", person(5, T0, **_WHOLE, name="x"))
    assert (await _last(tables, other, contact, _lead(T0 + 9, price=2)))[1] is None


async def test_a_stub_and_a_hook_of_the_pipeline_are_no_neighbours(tables: Tables) -> None:
    hook = body("leads", "mail_in", {"id": 5, "status_id": 999, "pipeline_id": 1})
    gone = body("leads", "delete", {"id": 5})
    back = body("leads", "restore", lead(5, T0 + 1000, **_WHOLE, price=7))
    lines = await _lines(tables, _lead(T0, price=5), hook, gone, back)
    assert [line["event_type"] for line in lines][-1] == "kommo.lead.restored"
    assert lines[-1]["changes"] == {"price": {"from": 5, "to": 7}}


async def test_hostile_names_stay_on_their_line_and_short(tables: Tables) -> None:
    before = _lead(T0, custom_fields=_fields((1, "a\n\u202eb" * 40, "x\ny" * 100)))
    after = _lead(T0 + 9, custom_fields=_fields((1, "a\n\u202eb" * 40, "%s\\'\"" * 100)))
    summary, _ = await _last(tables, before, after)
    assert not {"\n", "\u202e"} & set(summary)
    assert len(summary) < 400


async def test_many_changes_are_counted(tables: Tables) -> None:
    before = _lead(T0, custom_fields=_fields(*((n, f"Field {n:02}", "a") for n in range(30))))
    after = _lead(T0 + 9, custom_fields=_fields(*((n, f"Field {n:02}", "b") for n in range(30))))
    summary, changes = await _last(tables, before, after)
    assert summary.endswith("Field 07 a → b, and 22 more")
    assert len(changes or {}) == 30


# ---- any order, any repeats, any batching ---------------------------------------------------------------------------

_STEP = st.fixed_dictionaries(
    {
        "second": st.integers(0, 4),
        "price": st.sampled_from([None, 1, 2]),
        "tags": st.sets(st.sampled_from("ab")),
        "city": st.sampled_from([None, "Rome", "Oslo"]),
        "status": st.sampled_from([100, 101]),
        "old": st.sampled_from([None, 100, 101]),
        "whole": st.booleans(),
        "entity": st.sampled_from([5, 6]),
    }
)


def _body(step: dict[str, Any], number: int) -> bytes:
    fields: dict[str, Any] = {"name": f"n{number}", "status_id": step["status"]}
    if step["whole"]:
        fields |= _WHOLE | {"tags": _tags(*sorted(step["tags"]))}
        if step["city"]:
            fields["custom_fields"] = _fields((1, "City", step["city"]))
    if step["price"]:
        fields["price"] = step["price"]
    if step["old"]:
        fields["old_status_id"] = step["old"]
    return body("leads", "update", lead(step["entity"], T0 + step["second"], **fields))


def _expected(events: list[LoggedEvent]) -> dict[str, dict[str, Any]]:
    """Work the changes out the plain way: sort, walk, compare."""
    found: dict[str, dict[str, Any]] = {}
    last: dict[str, dict[str, Any]] = {}
    for event in sorted({e.event_id: e for e in reversed(events)}.values(), key=lambda e: e.clock):
        now = json.loads(snapshot(event) or "")
        before = last.get(event.entity_id)
        changes: dict[str, Any] = {}
        if before:
            for name in before["fields"].keys() & now["fields"].keys():
                if before["fields"][name] != now["fields"][name]:
                    changes[name] = {"from": before["fields"][name], "to": now["fields"][name]}
            if "custom" in before and "custom" in now:
                for key in before["custom"].keys() | now["custom"].keys():
                    old, new = before["custom"].get(key), now["custom"].get(key)
                    if (old and old[1]) != (new and new[1]):
                        name = f"custom_fields.{(new or old)[0]}"
                        changes[name] = {"from": old and old[1], "to": new and new[1]}
            for other in events:
                if other.entity_id == event.entity_id and other.time == event.time and other.event_id != event.event_id:
                    for name in other.data.get("changes") or {}:
                        changes.pop(name, None)
        found[event.event_id] = changes | (event.data.get("changes") or {})
        last[event.entity_id] = now
    return found


@in_postgres()
@given(st.lists(_STEP, min_size=2, max_size=12), orders())
async def test_same_lines_for_any_order_repeats_and_batching(
    tables: Tables, steps: list[dict[str, Any]], rng: random.Random
) -> None:
    log = Log()
    for number, step in enumerate(steps):
        log.deliver(_body(step, number), T0 + 10 + number)
    wanted = _expected(log.events)
    for _ in range(2):
        read = [*log.events, *rng.sample(log.events, rng.randrange(len(log.events) + 1))]
        rng.shuffle(read)
        cut = sorted(rng.sample(range(len(read) + 1), 2))
        await tables.clear()
        await tables.write(*(part for part in (read[: cut[0]], read[cut[0] : cut[1]], read[cut[1] :]) if part))
        assert {str(row["event_id"]): row["changes"] or {} for row in await tables.shown()} == wanted
