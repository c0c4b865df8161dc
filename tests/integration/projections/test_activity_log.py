"""activity_log: every event once, at the time it happened, in the partition of its month."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import time
from typing import Any

import asyncpg
import orjson
import pytest

from projections import months
from projections.activity_log import ActivityLog
from schemas.catalogue import EVENT_TYPES
from tests.support.lines import COMMAND, ENDED, SAID, TOLD
from tests.support.projections import T0, Log, Tables, body, event_json, lead, moment, open_tables, task, write


async def test_what_the_columns_say_of_what_an_agent_tells(tables: Tables) -> None:
    for kind, cases in TOLD.items():
        for facts, summary, lasted in cases:
            await tables.clear()
            log = Log()
            told = {"command": {**COMMAND, **facts}}
            log.append(event_json(kind, "command/5", data=told, timesource="agent"))
            await tables.write(log.events)
            (row,) = await tables.shown()
            outcome = None if kind.endswith("admitted") else kind.rpartition(".")[2]
            assert (row["summary"], row["outcome"], row["duration_ms"]) == (summary, outcome, lasted)
            assert (row["entity_type"], row["entity_id"], row["changes"], row["actor_id"]) == (
                "command",
                "5",
                None,
                None,
            )
            (kept,) = await tables.activity()
            assert (kept["time_source"], kept["floats"], kept["occurred_at"]) == ("agent", False, moment(T0))
            assert await tables.recent() == []


async def test_what_the_columns_say_of_each_type(tables: Tables) -> None:
    cases: list[tuple[Any, ...]] = [(kind, *said, None, None) for kind, said in SAID.items()]
    cases += [
        (kind, content, summary, ..., ..., outcome, lasted)
        for kind, ends in ENDED.items()
        for content, summary, outcome, lasted in ends
    ]
    for kind, content, summary, actor, changes, outcome, lasted in cases:
        await tables.clear()
        log = Log()
        log.deliver(content, T0 + 0.5, "the-delivery", EVENT_TYPES[kind].door)
        await tables.write(log.events)
        (row,) = [row for row in await tables.shown() if row["event_type"] == kind]
        (event,) = [event for event in log.events if event.kind.name == kind]
        assert (row["summary"], row["outcome"], row["duration_ms"]) == (summary, outcome, lasted)
        assert actor is ... or (row["actor_id"], row["changes"]) == (actor, changes)
        subject = "roulette" if kind == "kommo.unrecognized" else kind.split(".")[1]
        of_another = ("note", "call", "message", "digital_pipeline", "salesbot")
        assert row["entity_type"] == (subject if subject not in of_another else event.entity_type)
        assert (row["entity_id"], str(row["event_id"])) == ("5", event.event_id)
        assert (row["correlation_id"], row["log_partition"], row["log_offset"]) == ("the-delivery", 0, event.offset)
        assert row["occurred_at"] == moment(T0 if event.kommo_time else T0 + 0.5)
        assert not (event.kommo_time and EVENT_TYPES[kind].by_delivery)
        assert row["sort_key"].startswith("0-" if EVENT_TYPES[kind].creates else "1-")


async def test_a_call_that_another_gateway_describes_is_told_by_what_it_says_of_it(tables: Tables) -> None:
    call_of_another = {"direction": "in", "phone": "+4930555", "duration": 95}
    log = Log()
    log.append(event_json("kommo.call.logged", data={"call": call_of_another, "note": {"text": "a note beside it"}}))
    await tables.write(log.events)
    assert [row["summary"] for row in await tables.shown()] == ["Call from +4930555, 1:35 min"]


_ODD = [
    {"lead": {"id": 5, "name": "a\0b"}, "changes": {"na\0me": {"from": "\0", "to": ["\0", {"\0": 1}]}}},
    {"lead": {"id": 5, "name": "x" * 2**16}, "changes": {"name": {"from": "y" * 2**16, "to": "x" * 2**16}}},
    {"lead": {"id": 10**30, "modified_user_id": 10**30, "status_id": -(10**30)}, "changes": {"price": {"to": 10**25}}},
    {"lead": {"modified_user_id": 1.5, "name": ["not", "a text"]}, "changes": "none"},
    {"lead": "no map", "note": [], "call": None, "fields": {"a": []}, "changes": {"status_id": "no map"}},
    {"task": {"text": {"no": "text"}, "result": "no map"}, "call": {"duration": 10**18, "call_status": "٣"}},
    {"lead": {"responsible_user_id": {"deep": 1}}, "call": {"duration": -5, "phone": 5, "call_status": 10**30}},
]


_ODD_TEXTS = [
    b'{"changes":' + b'{"a":' * 900 + b'"\\u0000"' + b"}" * 900 + b"}",
    b'{"changes":{"responsible_user_id":{"from":1,"to":' + b"[" * 950 + b"]" * 950 + b"}}}",
    b'{"lead":{"responsible_user_id":' + b"[" * 950 + b"]" * 950 + b"}}",
]


async def test_odd_data_of_another_gateway_never_breaks_the_batch(tables: Tables) -> None:
    log = Log()
    odd = [json.dumps(data).encode() for data in _ODD] + _ODD_TEXTS
    for kind in EVENT_TYPES:
        for number, data in enumerate(odd):
            for subject in ("lead/1", "task/1"):
                log.append(event_json(kind, subject, named={"n": number}, data=orjson.Fragment(data)))
    await tables.write(log.events)
    rows = await tables.activity()
    assert len(rows) == len(log.events)
    assert not [row for row in rows if "\0" in row["summary"] or len(row["summary"]) > 300]
    assert not [row for row in await tables.shown() if "\0" in row["summary"]]


async def test_nul_in_a_webhook_is_shown_as_the_replacement_character(tables: Tables) -> None:
    log = Log()
    log.deliver(body("task", "update", task(5, T0, old_text="a\0b", text="c\0d")), T0 + 1)
    await tables.write(log.events)
    (row,) = await tables.shown()
    assert (row["summary"], row["changes"]) == (
        "Task text is now “c\ufffdd”",
        {"text": {"from": "a\ufffdb", "to": "c\ufffdd"}},
    )


# ---- deletes --------------------------------------------------------------------------------------------------------


async def _shown(tables: Tables, log: Log) -> list[tuple[str, float]]:
    await tables.write(log.events)
    return [(row["event_type"], row["occurred_at"].timestamp() - T0) for row in await tables.shown()]


async def test_deletes_with_nothing_between_show_as_the_first(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "add", lead(5, T0)), T0 + 1)
    for received in (300, 10, 1200):
        log.deliver(body("leads", "delete", {"id": 5}), T0 + received)
    log.deliver(body("leads", "delete", {"id": 6}), T0 + 20)
    log.deliver(body("contacts", "delete", {"id": 5, "type": "contact"}), T0 + 21)
    assert await _shown(tables, log) == [
        ("kommo.lead.added", 0),
        ("kommo.lead.deleted", 10),
        ("kommo.lead.deleted", 20),
        ("kommo.contact.deleted", 21),
    ]
    assert len(await tables.activity()) == 6  # each of them is in the log


async def test_deletes_with_a_restore_between_both_show(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "delete", {"id": 5}), T0 + 10)
    log.deliver(body("leads", "restore", lead(5, T0 + 20)), T0 + 5000)  # late: Kommo's time counts
    log.deliver(body("leads", "delete", {"id": 5}), T0 + 30)
    assert [at for _, at in await _shown(tables, log)] == [10, 20, 30]


async def test_what_has_no_time_of_kommos_does_not_stand_between_deletes(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "delete", {"id": 5}), T0 + 10)
    log.deliver(body("leads", "status", {"id": 5, "status_id": 1, "pipeline_id": 2}), T0 + 20)
    log.deliver(body("leads", "delete", {"id": 5}), T0 + 30)
    shown = [at for kind, at in await _shown(tables, log) if kind == "kommo.lead.deleted"]
    assert shown == [10]


# ---- readings of one event ------------------------------------------------------------------------------------------


async def test_a_higher_revision_replaces_and_a_lower_does_not(tables: Tables) -> None:
    log = Log()
    for revision, name in ((1, "first"), (3, "third"), (2, "second")):
        log.append(event_json("kommo.lead.updated", revision=revision, data={"lead": {"name": name}}))
    for events in (log.events, log.events[::-1]):
        await tables.clear()
        await tables.write(*([event] for event in events))
        assert [(row["revision"], row["summary"]) for row in await tables.activity()] == [(3, "Lead “third” updated")]
        await tables.clear()
        await tables.write(events)
        assert [row["revision"] for row in await tables.activity()] == [3]


async def test_a_higher_revision_may_correct_the_time(tables: Tables) -> None:
    first, second = (
        event_json("kommo.note.added"),
        event_json("kommo.note.added", revision=2, time="2026-08-01T00:00:00Z"),
    )
    for batches in ([[0], [1]], [[0, 1]], [[1, 0]], [[0], [1], [1]]):
        await tables.clear()
        log = Log()
        log.append(first)
        log.append(second)
        await tables.write(*([log.events[number] for number in batch] for batch in batches))
        assert [(row["revision"], row["occurred_at"].month) for row in await tables.activity()] == [(2, 8)]


async def test_the_same_id_in_two_accounts_is_two_events(tables: Tables) -> None:
    log = Log()
    log.append(event_json("kommo.lead.updated", accountid="1"))
    log.append(event_json("kommo.lead.updated", accountid="2"))
    for batches in ([log.events], [[event] for event in log.events]):
        await tables.clear()
        await tables.write(*batches)
        assert [row["account_id"] for row in await tables.activity()] == [1, 2]


# ---- months ---------------------------------------------------------------------------------------------------------

_THIS_MONTH = dt.datetime.now(dt.UTC).replace(day=2, hour=3, minute=4, second=5, microsecond=0)


def _at(time: dt.datetime, number: int = 0) -> bytes:
    return event_json("kommo.lead.updated", named={"n": number, "at": time.isoformat()}, time=time.isoformat())


async def _partitions(tables: Tables) -> list[tuple[str, int]]:
    rows = await tables.rows(
        "SELECT tableoid::regclass::text AS name, count(*) AS rows FROM kommo_projections.activity_log_v2 "
        "GROUP BY 1 ORDER BY 1"
    )
    return [(row["name"].removeprefix("kommo_projections.activity_log_v2_"), row["rows"]) for row in rows]


async def test_months_are_attached_as_they_come_and_what_is_too_old_or_far_ahead_is_not(tables: Tables) -> None:
    last_month = (_THIS_MONTH.replace(day=1) - dt.timedelta(days=1)).replace(day=1, hour=0, minute=0, second=0)
    log = Log()
    for number, occurred_at in enumerate(
        [
            _THIS_MONTH,
            _THIS_MONTH.replace(day=1, hour=0, minute=0, second=0),
            last_month,
            last_month.astimezone(dt.timezone(dt.timedelta(hours=-5))),
            dt.datetime(1, 1, 1, tzinfo=dt.UTC),
            dt.datetime(1987, 6, 5, tzinfo=dt.UTC),
            dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
        ]
    ):
        log.append(_at(occurred_at, number))
    await tables.write(log.events)
    assert await _partitions(tables) == sorted(
        [("default", 3), (f"{_THIS_MONTH:%Y_%m}", 2), (f"{last_month:%Y_%m}", 2)]
    )


async def test_rows_of_the_default_partition_move_along(tables: Tables) -> None:
    log = Log()
    projection = ActivityLog()
    projection._months.attach = _nothing  # type: ignore[method-assign]  # as if every lock had been refused
    await write(tables.connection, projection, [log.append(_at(_THIS_MONTH)), log.append(_at(moment(0)))])
    assert await _partitions(tables) == [("default", 2)]
    await tables.write([log.append(_at(_THIS_MONTH, 1))])
    assert await _partitions(tables) == sorted([(f"{_THIS_MONTH:%Y_%m}", 2), ("default", 1)])


async def _nothing(*_: object) -> None: ...


async def test_processes_that_attach_the_same_month_at_once(tables: Tables, kept_database: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        others = [await stack.enter_async_context(open_tables(kept_database)) for _ in range(4)]
        await asyncio.gather(
            *(
                write(other.connection, other.projections[0], [Log().append(_at(_THIS_MONTH, number))])
                for number, other in enumerate(others)
            )
        )
    assert await _partitions(tables) == [(f"{_THIS_MONTH:%Y_%m}", 4)]


async def test_a_long_reader_does_not_stop_the_projector(
    tables: Tables, kept_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(months, "REFUSED_SECONDS", 60.0)
    projection = ActivityLog()
    log = Log()
    reader = await asyncpg.connect(kept_database)
    try:
        async with reader.transaction():
            await reader.fetch("SELECT * FROM kommo.activity_log")
            await write(tables.connection, projection, [log.append(_at(_THIS_MONTH))])
            start = time.monotonic()
            for number in range(1, 5):  # the lock that was refused is not asked for with every batch
                await write(tables.connection, projection, [log.append(_at(_THIS_MONTH, number))])
            assert time.monotonic() - start < 2
            assert await _partitions(tables) == [("default", 5)]
    finally:
        await reader.close()
    projection._months._refused_until = 0.0  # the pause is over
    await write(tables.connection, projection, [log.append(_at(_THIS_MONTH, 5))])
    assert await _partitions(tables) == [(f"{_THIS_MONTH:%Y_%m}", 6)]


async def test_an_event_whose_time_was_not_believed_at_first_is_one_line(tables: Tables) -> None:
    log = Log()
    content = body("leads", "update", lead(5, T0))
    (first,) = log.deliver(content, T0 - 2 * 86_400)  # the gateway's clock was two days behind
    (again,) = log.deliver(content, T0 + 300)
    assert first.event_id == again.event_id
    assert (first.kommo_time, again.kommo_time) == (False, True)
    seen = []
    for batches in ([[first], [again]], [[again], [first]], [[first, again]], [[again, first]]):
        await tables.clear()
        await tables.write(*batches)
        seen.append([(row["occurred_at"], row["sort_key"]) for row in await tables.activity()])
    assert seen == [[(first.time, first.sort_key)]] * 4


async def test_an_earlier_revision_read_later_does_not_come_back_at_its_own_time(tables: Tables) -> None:
    old = Log().append(event_json("kommo.lead.updated", revision=1))
    new = Log().append(event_json("kommo.lead.updated", revision=2, time="2026-09-21T15:00:00Z"))
    for batches in ([[old], [new], [old]], [[new], [old]], [[old, new]]):
        await tables.clear()
        await tables.write(*batches)
        assert [(row["occurred_at"], row["revision"]) for row in await tables.activity()] == [(new.time, 2)]
