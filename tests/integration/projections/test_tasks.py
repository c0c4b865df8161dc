"""tasks: one row per task as its newest snapshots describe it, whatever order its events are read in."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.reading import LoggedEvent
from projections.tasks import Tasks
from schemas.catalogue import EVENT_TYPES
from tests.support.projections import (
    ACCOUNT,
    LINK,
    T0,
    Log,
    Row,
    Tables,
    body,
    event_json,
    lead,
    note,
    task,
    task_statuses,
    text_time,
    write,
)
from tests.support.properties import in_postgres
from tests.support.worlds import arrived, orders, read_anyhow


async def folded(tables: Tables, batches: Iterable[Sequence[LoggedEvent]]) -> list[Row]:
    """The table, whole, after these batches."""
    await tables.connection.execute("DELETE FROM kommo_projections.tasks_v1")
    projection = Tasks()
    for events in batches:
        await write(tables.connection, projection, events)
    return await tables.rows("SELECT * FROM kommo_projections.tasks_v1 ORDER BY account_id, task_id")


async def shown(tables: Tables, log: Log) -> Row:
    """The only row of the view, times as seconds after T0."""
    await folded(tables, [log.events])
    rows = [dict(row) for row in await tables.connection.fetch("SELECT * FROM kommo.tasks")]
    assert len(rows) == 1
    return {
        name: value.timestamp() - T0 if isinstance(value, dt.datetime) else value for name, value in rows[0].items()
    }


def told(row: Row, *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


# ---- examples -------------------------------------------------------------------------------------------------------

_WHOLE = {
    "element_type": 2,
    "element_id": 15320411,
    "task_type": 1,
    "complete_before": T0 + 3600,
    "complete_till": text_time(T0 + 3600),
    "created_at": T0,
    "date_create": text_time(T0),
}


async def test_every_column_of_a_task_that_is_closed(tables: Tables) -> None:
    log = Log()
    log.deliver(body("task", "add", task(5, T0, **_WHOLE, text="Call Anna")), T0 + 1)
    result = {"id": 4600307, "text": "Will buy"}
    log.deliver(body("task", "update", task(5, T0 + 60, **_WHOLE, status=1, action_close=1)), T0 + 61)
    closed_later = task(5, T0 + 90, **_WHOLE, status=1, action_close=0, result=result)
    (event,) = log.deliver(body("task", "update", closed_later), T0 + 91)
    row = await shown(tables, log)
    assert str(row.pop("event_id")) == event.event_id
    assert row == {
        "account_id": ACCOUNT,
        "task_id": "5",
        "state": "completed",
        "text": "Do 5",
        "task_type": 1,
        "entity_type": "lead",
        "entity_id": "15320411",
        "responsible_user_id": 7,
        "deadline": 3600,
        "overdue": False,
        "result": "Will buy",
        "created_at": 0,
        "completed_at": 60,
        "reopened_at": None,
        "occurred_at": 90,
        "url": f"{LINK}/todo/list/",
    }


async def test_a_partial_body_clears_nothing_and_what_is_empty_says_that_there_is_none(tables: Tables) -> None:
    log = Log()
    log.deliver(body("task", "add", task(5, T0, **_WHOLE, result={"id": 1, "text": "r"})), T0 + 1)
    log.deliver(body("task", "update", {"id": 5, "updated_at": T0 + 10, "text": ""}), T0 + 11)
    row = await shown(tables, log)
    columns = ("state", "text", "task_type", "entity_id", "responsible_user_id", "deadline", "result", "created_at")
    assert told(row, *columns) == ("open", "Do 5", 1, "15320411", 7, 3600, "r", 0)
    assert told(row, "occurred_at", "url") == (10, f"{LINK}/todo/list/")
    empty = {"complete_before": 0, "element_id": 0, "element_type": 0, "result": ""}
    log.deliver(body("task", "update", {"id": 5, "updated_at": T0 + 20, **empty}), T0 + 21)
    row = await shown(tables, log)
    assert told(row, "deadline", "entity_type", "entity_id", "result") == (None, None, None, "r")


@pytest.mark.parametrize(
    ("fields", "deadline"),
    [
        ({"complete_before": T0 + 5}, 5),
        ({"complete_till": text_time(T0 + 6)}, 6),
        ({"complete_before": T0 + 5, "complete_till": text_time(T0 + 6)}, 5),
        ({"complete_before": 0, "complete_till": text_time(T0 + 6)}, 6),
        ({"complete_before": "", "complete_till": ""}, None),
        ({"complete_before": -1}, None),
        ({"complete_till": "0000-00-00 00:00:00"}, None),
        ({"complete_before": "soon"}, 99),  # no time, and not none: as it was
        ({"complete_before": 10**17}, 99),
        ({"complete_till": "2026-02-30 00:00:00"}, 99),
        ({}, 99),
    ],
)
async def test_what_a_body_says_of_the_deadline(tables: Tables, fields: dict[str, Any], deadline: int | None) -> None:
    log = Log()
    log.deliver(body("task", "add", task(5, T0, complete_before=T0 + 99)), T0 + 1)
    log.deliver(body("task", "update", task(5, T0 + 10, **fields)), T0 + 11)
    assert (await shown(tables, log))["deadline"] == deadline


@pytest.mark.parametrize(
    ("kind", "identifier", "on"),
    [
        (1, 6, ("contact", "6")),
        (2, 6, ("lead", "6")),
        (3, 6, ("company", "6")),
        (12, 6, ("customer", "6")),
        (4, 6, (None, None)),  # what it is on has no name here
        (0, 0, (None, None)),
        ("", "", (None, None)),
        (2, -1, (None, None)),
        (2, "six", ("lead", "99")),
        ("lead", 6, ("lead", "99")),
    ],
)
async def test_what_a_task_is_on(tables: Tables, kind: Any, identifier: Any, on: tuple[Any, Any]) -> None:
    log = Log()
    log.deliver(body("task", "add", task(5, T0, element_type=2, element_id=99)), T0 + 1)
    log.deliver(body("task", "update", task(5, T0 + 10, element_type=kind, element_id=identifier)), T0 + 11)
    assert told(await shown(tables, log), "entity_type", "entity_id") == on


async def test_overdue_is_worked_out_on_reading(tables: Tables) -> None:
    log = Log()
    now = int(dt.datetime.now(dt.UTC).timestamp())
    for number, (state, deadline) in enumerate([(0, now - 5), (0, now + 500), (0, 0), (1, now - 5)]):
        log.deliver(body("task", "update", task(number + 1, T0, status=state, complete_before=deadline)), T0 + 1)
    log.deliver(body("task", "update", task(9, T0, complete_before=now - 5)), T0 + 1)
    log.deliver(body("task", "delete", {"id": 9}), T0 + 20)
    await folded(tables, [log.events])
    rows = await tables.connection.fetch("SELECT task_id, overdue FROM kommo.tasks ORDER BY task_id")
    assert [tuple(row) for row in rows] == [("1", True), ("2", False), ("3", False), ("4", False), ("9", False)]


async def test_a_task_is_deleted_until_a_newer_snapshot_brings_it_back(tables: Tables) -> None:
    log = Log()
    log.deliver(body("task", "add", task(5, T0)), T0 + 1)
    log.deliver(body("task", "update", task(5, T0 + 5, status=1, action_close=1)), T0 + 6)
    log.deliver(body("task", "delete", {"id": 5}), T0 + 10)
    log.deliver(body("task", "delete", {"id": 5}), T0 + 310)  # Kommo's repeat
    assert told(await shown(tables, log), "state", "text", "completed_at", "occurred_at") == ("deleted", "Do 5", 5, 10)
    log.deliver(body("task", "update", task(5, T0 + 9, text="Late")), T0 + 400)
    assert told(await shown(tables, log), "state", "text", "occurred_at") == ("deleted", "Late", 10)
    log.deliver(body("task", "update", task(5, T0 + 500)), T0 + 501)
    assert told(await shown(tables, log), "state", "occurred_at") == ("open", 500)


async def test_a_delete_before_anything_else_is_known(tables: Tables) -> None:
    log = Log()
    log.deliver(body("task", "delete", {"id": 5}), T0 + 10)
    row = await shown(tables, log)
    assert told(row, "state", "text", "created_at", "occurred_at") == ("deleted", None, None, 10)


@pytest.mark.parametrize(
    ("statuses", "state", "completed_at", "reopened_at"),
    [
        ((0,), "open", None, None),
        ((0, 0, 1), "completed", 2, None),
        ((1, 1, 1), "completed", 0, None),
        ((0, 1, 0), "open", None, 2),
        ((1, 0, 0, 0), "open", None, 1),
        ((1, 0, 1, 1, 0, 0), "open", None, 4),
        ((1, 0, 1), "completed", 2, 1),
    ],
)
async def test_when_a_task_was_closed_and_reopened(
    tables: Tables, statuses: tuple[int, ...], state: str, completed_at: int | None, reopened_at: int | None
) -> None:
    log = Log()
    task_statuses(log, *statuses)
    columns = ("state", "completed_at", "reopened_at")
    assert told(await shown(tables, log), *columns) == (state, completed_at, reopened_at)


async def test_a_late_snapshot_that_shows_it_closed_makes_what_follows_a_reopening(tables: Tables) -> None:
    log = Log()
    for second in (0, 20, 30, 40):
        log.deliver(body("task", "update", task(5, T0 + second, status=0, price=second)), T0 + second + 1)
    assert (await shown(tables, log))["reopened_at"] is None
    log.deliver(body("task", "update", task(5, T0 + 25, status=1, action_close=1)), T0 + 300)
    assert told(await shown(tables, log), "state", "reopened_at") == ("open", 30)


async def test_what_is_no_news_of_a_task(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "note", note(1, (4, 5), T0)), T0 + 1)  # on a task
    log.deliver(body("leads", "add", lead(5, T0)), T0 + 1)
    log.append(event_json("kommo.task.added", "lead/5"))
    assert await folded(tables, [log.events]) == []


_ODD = [
    {"task": "no map"},
    {"task": None, "account": "none"},
    {"task": {"text": "a\0b\u202e", "result": {"text": "\0"}, "status": "1", "task_type": "17265663a90"}},
    {"task": {"text": "x" * 2**20, "status": True, "result": ["r"], "element_id": [], "element_type": {}}},
    {"task": {"task_type": 10**30, "responsible_user_id": -(2**63) - 1, "created_at": 10**18, "element_id": 10**30}},
    {"task": {"complete_before": 1.5, "complete_till": "9999-12-31 23:59:59", "created_at": -5}},
    {"task": {"complete_before": [0], "complete_till": {"": 0}, "date_create": "x" * 19, "status": [1]}},
    {"task": {"element_type": 2, "element_id": True, "text": 5, "result": {"text": {"no": "text"}}}},
    {"task": {"status": 10**30}, "account": {"link": "a\0b"}},
    {"task": {"status": 2}, "account": {"link": "x" * 2**20}},
]


async def test_odd_data_of_another_gateway_never_breaks_the_batch(tables: Tables) -> None:
    kinds = [name for name in EVENT_TYPES if name.startswith("kommo.task.")]
    log = Log()
    deep = b'{"task":{"text":' + b"[" * 900 + b"]" * 900 + b',"result":' + b'{"text":' * 90 + b"1" + b"}" * 90 + b"}}"
    for number, data in enumerate([*(json.dumps(data).encode() for data in _ODD), deep]):
        for kind in kinds:
            log.append(event_json(kind, f"task/{number}", named={"n": number}, data=orjson.Fragment(data)))
    rows = await folded(tables, [log.events])
    assert len(rows) == len(_ODD) + 1
    assert rows == await folded(tables, ([event] for event in log.events[::-1]))
    found = {row["task_id"]: row for row in rows}
    assert told(found["2"], "text", "result", "completed_at") == ("a\ufffdb", "\ufffd", None)
    assert found["3"]["text"] == "x" * 1999 + "…"
    assert found["5"]["deadline"] == dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    assert [row["url"] for row in rows] == [None] * len(rows)


# ---- any order of reading, in PostgreSQL ----------------------------------------------------------------------------

_KINDS = ("add", "update", "complete", "reopen", "result", "partial", "handed", "untimed", "delete", "delete")


@dataclasses.dataclass(frozen=True)
class Happening:
    """One thing that happens to one of two tasks in a second, and how long its delivery takes."""

    kind: str
    task: int
    second: int
    delay_us: int
    number: int = 0

    @property
    def received(self) -> float:
        return T0 + self.second + self.delay_us / 1_000_000

    def body(self) -> bytes:
        at, number = T0 + self.second, self.number
        changed = {"complete_before": T0 + number, "element_type": 2, "element_id": number}
        whole = task(self.task, at, text=f"as of {number}", **changed)
        match self.kind:
            case "add":
                return body("task", "add", {**whole, "created_at": at})
            case "update":
                return body("task", "update", {**whole, "complete_before": ""})
            case "complete":
                return body("task", "update", {**whole, "status": 1, "action_close": 1})
            case "reopen":
                return body("task", "update", {**whole, "old_text": "x"})
            case "result":
                result = {"id": number + 1, "text": f"r{number}"}
                return body("task", "update", {**whole, "status": 1, "action_close": 0, "result": result})
            case "partial":
                said = [("text", f"p{number}"), ("task_type", number), ("status", number % 2), ("element_id", 0)]
                return body("task", "update", {"id": self.task, "updated_at": at, **dict([said[number % 4]])})
            case "handed":
                return body("task", "update", {**whole, "old_responsible_user_id": 7, "responsible_user_id": 8})
            case "untimed":
                return body("task", "update", {"id": self.task, "text": f"u{number % 2}", "status": number % 2})
        return body("task", "delete", {"id": self.task})


def _happenings(seconds: int) -> st.SearchStrategy[list[Happening]]:
    delays = st.sampled_from([-1_000_000, 0, 1, 500_000, 60_000_000])
    one = st.builds(Happening, st.sampled_from(_KINDS), st.integers(1, 2), st.integers(0, seconds), delays)
    return st.lists(one, min_size=1, max_size=12).map(
        lambda found: [dataclasses.replace(item, number=number) for number, item in enumerate(found)]
    )


@in_postgres()
@given(_happenings(4), orders())
async def test_any_order_of_reading_any_batching_and_any_repeat_gives_the_same_rows(
    tables: Tables, world: list[Happening], rng: random.Random
) -> None:
    events = arrived((item.received, item.body()) for item in world).events
    expected = await folded(tables, [events])
    for _ in range(3):
        assert await folded(tables, read_anyhow(events, rng)) == expected


@in_postgres()
@given(_happenings(4), orders())
async def test_a_delivery_that_kommo_repeats_later_changes_no_row(
    tables: Tables, world: list[Happening], rng: random.Random
) -> None:
    log = arrived((item.received, item.body()) for item in world)
    expected = await folded(tables, [log.events])
    # A repeated delete has a new id, and what carries no time another time.
    repeated = [item for item in world if item.kind not in ("delete", "untimed")]
    for item in rng.choices(repeated, k=5) if repeated else []:
        log.deliver(item.body(), item.received + rng.choice([300, 1200, 5700]))
    assert await folded(tables, read_anyhow(log.events, rng)) == expected
