"""commands: one row per command and what it touched at Kommo, whatever order its events are read in."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given

from projections import queries
from projections.activity_log import ActivityLog
from projections.commands import Commands
from projections.queries import ACTIVITY, COMMANDS, Filter, command, page, page_query, story
from projections.reading import LoggedEvent
from schemas.catalogue import EVENT_TYPES
from tests.support.outcomes import ONE, TELLINGS, THREE, TWO, Telling, told, told_log
from tests.support.plans import cost, full_tables
from tests.support.projections import (
    ACCOUNT,
    T0,
    Log,
    Row,
    Tables,
    body,
    call,
    event_json,
    lead,
    note,
    open_tables,
    person,
    task,
)
from tests.support.projections import write as write_batch
from tests.support.properties import in_postgres
from tests.support.servers import Servers
from tests.support.worlds import orders, read_anyhow


async def folded(tables: Tables, batches: Iterable[Sequence[LoggedEvent]]) -> tuple[list[Row], list[Row]]:
    """Both tables, whole, after these batches."""
    await tables.connection.execute(
        "DELETE FROM kommo_projections.commands_v1; DELETE FROM kommo_projections.command_effects_v1"
    )
    projection = Commands()
    for events in batches:
        await write_batch(tables.connection, projection, events)
    return (
        await tables.rows("SELECT * FROM kommo_projections.commands_v1 ORDER BY account_id, command_id"),
        await tables.rows("SELECT * FROM kommo_projections.command_effects_v1 ORDER BY 1, 2, 3, 4, 5, 6"),
    )


async def shown(tables: Tables, log: Log) -> Row:
    """The only row of the view, times as seconds after T0."""
    await folded(tables, [log.events])
    (row,) = await tables.connection.fetch("SELECT * FROM kommo.commands")
    return {
        name: round(value.timestamp() - T0, 3) if isinstance(value, dt.datetime) else value
        for name, value in row.items()
    }


# ---- examples -------------------------------------------------------------------------------------------------------

_WRONG = {"error_class": "external_service", "error": "Kommo did not answer within 15 s"}


def _at(seconds: float) -> str:
    return dt.datetime.fromtimestamp(T0 + seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def test_every_column_of_a_command_that_succeeds_at_the_second_attempt(tables: Tables) -> None:
    log = Log()
    told(log, "admitted", T0, data={"text": "Called\0 back", "entity_id": 7}, after=TWO)
    told(log, "retried", T0 + 1, duration_ms=900, total_ms=1000, next_attempt_at=_at(3), **_WRONG)
    row = await shown(tables, log)
    assert (row["state"], row["attempts"], row["next_attempt_at"], row["ended_at"]) == ("waiting", 1, 3, None)
    assert (row["error_class"], row["error"]) == (_WRONG["error_class"], _WRONG["error"])
    touched = {"lead": 7, "note": 11}
    event = told(
        log, "succeeded", T0 + 3.5, attempt=2, duration_ms=340, total_ms=3500, entities=touched, updated_at=T0 + 3
    )
    row = await shown(tables, log)
    assert (json.loads(row.pop("data")), json.loads(row.pop("entities"))) == (
        {"text": "Called\ufffd back", "entity_id": 7},
        touched,
    )
    assert str(row.pop("event_id")) == event.event_id
    assert row == {
        "account_id": ACCOUNT,
        "command_id": ONE,
        "action": "add_note",
        "entity_type": "lead",
        "entity_id": "7",
        "state": "succeeded",
        "attempts": 2,
        "error_class": None,
        "error": None,
        "next_attempt_at": None,
        "admitted_at": 0,
        "ended_at": 3.5,
        "duration_ms": 340,
        "total_ms": 3500,
        "decision": None,
        "after": TWO,
        "correlation_id": "of-1",
        "occurred_at": 3.5,
    }


async def test_how_a_command_stands_after_each_part_of_its_story(tables: Tables) -> None:
    log = Log()
    columns = ("state", "attempts", "error_class", "error", "decision", "ended_at", "occurred_at")

    async def stands() -> tuple[Any, ...]:
        row = await shown(tables, log)
        return tuple(row[name] for name in columns)

    told(log, "admitted", T0, data={})
    assert await stands() == ("waiting", 0, None, None, None, None, 0)
    told(log, "unknown", T0 + 5, **_WRONG)
    assert await stands() == ("unknown", 1, *_WRONG.values(), None, None, 5)
    told(log, "retried", T0 + 60, decision="repeat", error="a person decided", next_attempt_at=_at(60))
    assert await stands() == ("waiting", 1, None, "a person decided", "repeat", None, 60)
    told(log, "failed", T0 + 61, attempt=2, error_class="validation", error="refused")
    assert await stands() == ("failed", 2, "validation", "refused", None, 61, 61)


async def test_what_another_machines_clock_says_later_is_not_what_comes_later(tables: Tables) -> None:
    """Admitted by a worker whose clock is ahead of the one that carries it out, and decided by a third."""
    log = Log()
    told(log, "admitted", T0 + 5, data={})
    told(log, "succeeded", T0 + 4)
    row = await shown(tables, log)
    assert (row["state"], row["admitted_at"], row["ended_at"]) == ("succeeded", 5, 4)
    told(log, "retried", T0 + 9, attempt=1, next_attempt_at=_at(9))
    told(log, "unknown", T0 + 3, attempt=2)
    assert (await shown(tables, log))["state"] == "unknown"
    told(log, "succeeded", T0 + 2, attempt=2, decision="done")
    row = await shown(tables, log)
    assert (row["state"], row["decision"], row["ended_at"]) == ("succeeded", "done", 2)


async def test_a_command_that_was_refused_has_only_its_failure(tables: Tables) -> None:
    log = Log()
    told(log, "failed", T0, attempt=0, entity=f"command/{ONE}", error_class="validation", error="data.text: missing")
    row = await shown(tables, log)
    assert (row["state"], row["attempts"], row["entity_type"], row["entity_id"]) == ("failed", 0, "command", ONE)
    assert (row["error"], row["admitted_at"], row["ended_at"], row["data"]) == ("data.text: missing", 0, 0, None)


async def test_what_is_no_news_of_a_command(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "add", lead(5, T0)), T0 + 1)
    log.append(event_json("kommo.command.succeeded", "lead/5"))
    log.append(event_json("kommo.lead.added", "command/5"))
    assert await folded(tables, [log.events]) == ([], [])


_ODD: list[Any] = [
    {"command": "no map"},
    {"command": None},
    {"command": {"action": 5, "entity": ["lead"], "attempts": -(10**30), "data": "none", "entities": [1]}},
    {
        "command": {
            "action": "a\0b",
            "entity": "lead",
            "attempts": 10**18,
            "decision": {"no": "text"},
            "data": {"\0": 1},
        }
    },
    {"command": {"entities": {"lead": "7", "na\0me": 5, "x" * 100: 6, "": 7, "deep": [1]}, "updated_at": 10**30}},
    {"command": {"entities": {"lead": 2**70, "task": -5}, "updated_at": -5, "total_ms": -1, "action": "create_task"}},
    {"command": {"entities": {"task": 5}, "total_ms": 10**18, "action": "create_task", "updated_at": 1.5}},
    {"command": {"error": "x" * 2**16, "error_class": "y" * 99, "next_attempt_at": "0001-01-01T00:00:00+14:00"}},
    {"command": {"next_attempt_at": "soon", "duration_ms": 10**30, "total_ms": True, "after": 5}},
    {"command": {"next_attempt_at": 5, "entity": "x" * 500, "attempts": "3"}},
]


async def test_odd_data_of_another_program_never_breaks_the_batch(tables: Tables) -> None:
    kinds = [name for name in EVENT_TYPES if name.startswith("kommo.command.")]
    log = Log()
    deep = b'{"command":{"data":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b',"error":' + b"[" * 90 + b"]" * 90 + b"}}"
    for number, data in enumerate([*(json.dumps(data).encode() for data in _ODD), deep]):
        for kind in kinds:
            log.append(event_json(kind, f"command/{number}", named={"n": number}, data=orjson.Fragment(data)))
    expected = await folded(tables, [log.events])
    assert len(expected[0]) == len(_ODD) + 1
    assert await folded(tables, ([event] for event in log.events[::-1])) == expected
    found = {row["command_id"]: row for row in expected[0]}
    assert (found["0"]["action"], found["0"]["entity_type"], found["0"]["entity_id"]) == ("unknown", "command", "")
    assert (found["3"]["action"], json.loads(found["3"]["data"])) == ("a\ufffdb", {"\ufffd": 1})
    assert len(found["7"]["error"]) == 1000
    await write_batch(tables.connection, ActivityLog(), log.events)
    assert not [row for row in await tables.shown() if "\0" in row["summary"] or len(row["summary"]) > 300]


async def test_an_effect_that_is_told_twice_was_asked_for_when_the_first_says_in_any_order(tables: Tables) -> None:
    log = Log()
    for attempt, total_ms in ((1, 5000), (2, 9000), (3, 1000)):
        asked = {"action": "create_lead", "entities": {"lead": 7}, "total_ms": total_ms}
        told(log, "succeeded", T0 + 10, attempt=attempt, **asked)
    for batches in ([log.events], [[event] for event in log.events], [[event] for event in log.events[::-1]]):
        _, (effect,) = await folded(tables, batches)
        assert effect["asked_at"].timestamp() == T0 + 1


# ---- any order of reading, in PostgreSQL ----------------------------------------------------------------------------


@in_postgres()
@given(TELLINGS, orders())
async def test_any_order_of_reading_any_batching_and_any_repeat_gives_the_same_rows_and_effects(
    tables: Tables, world: list[Telling], rng: random.Random
) -> None:
    events = told_log(world).events
    expected = await folded(tables, [events])
    for _ in range(3):
        assert await folded(tables, read_anyhow(events, rng)) == expected


# ---- what a command caused ------------------------------------------------------------------------------------------


async def _causes(tables: Tables, log: Log) -> list[tuple[str, str, str | None]]:
    for projection in (ActivityLog(), Commands()):
        await write_batch(tables.connection, projection, log.events)
    rows = await tables.connection.fetch(
        "SELECT entity_type || '/' || entity_id AS entity, event_type, caused_by FROM kommo.activity_log "
        "WHERE entity_type <> 'command' ORDER BY occurred_at, sort_key"
    )
    return [(row["entity"], row["event_type"].removeprefix("kommo."), row["caused_by"]) for row in rows]


async def test_the_webhooks_of_a_command_are_known_as_its_effect(tables: Tables) -> None:
    log = Log()
    # A lead with its contact: the answer does not say when.
    told(log, "succeeded", T0 + 0.5, action="create_lead", total_ms=400, entities={"lead": 7, "contact": 8})
    log.deliver(body("leads", "add", lead(7, T0)), T0 + 2)
    log.deliver(body("contacts", "add", person(8, T0)), T0 + 2)
    log.deliver(body("leads", "add", lead(9, T0)), T0 + 2)  # a person's
    # A change, by its second.
    changed = {"action": "update_lead", "entities": {"lead": 7}, "updated_at": T0 + 10}
    told(log, "succeeded", T0 + 10.3, TWO, **changed)
    log.deliver(body("leads", "update", lead(7, T0 + 10, price=5)), T0 + 11)
    log.deliver(body("leads", "status", lead(7, T0 + 10, old_status_id=100, status_id=101)), T0 + 11)
    log.deliver(body("leads", "note", note(1, (2, 7), T0 + 10)), T0 + 11)  # another kind of event
    log.deliver(body("leads", "update", lead(7, T0 + 12, price=6)), T0 + 13)  # another second
    log.deliver(body("leads", "delete", {"id": 7}), T0 + 20)
    assert await _causes(tables, log) == [
        ("lead/7", "lead.added", ONE),
        ("contact/8", "contact.added", ONE),
        ("lead/9", "lead.added", None),
        ("lead/7", "lead.updated", TWO),
        ("lead/7", "lead.status_changed", TWO),
        ("lead/7", "note.added", None),
        ("lead/7", "lead.updated", None),
        ("lead/7", "lead.deleted", None),
    ]


async def test_notes_calls_tasks_and_meetings_are_known_too(tables: Tables) -> None:
    log = Log()
    at = {"updated_at": T0}
    told(log, "succeeded", T0 + 0.3, ONE, entities={"lead": 7, "note": 11}, **at)
    told(log, "succeeded", T0 + 0.4, TWO, action="create_call_note", entities={"lead": 7, "note": 12}, **at)
    told(log, "succeeded", T0 + 0.5, THREE, action="create_meeting_note", entities={"task": 5}, **at)
    log.deliver(body("leads", "note", note(11, (2, 7), T0)), T0 + 1)
    log.deliver(body("leads", "note", call(12, (2, 7), T0)), T0 + 1.1)
    log.deliver(body("task", "add", task(5, T0)), T0 + 1.2)
    log.deliver(body("task", "update", task(5, T0, status=1, action_close=1)), T0 + 1.3)
    log.deliver(body("leads", "update", lead(7, T0)), T0 + 1.4)  # a person's change in this very second
    found = {kind: by for _, kind, by in await _causes(tables, log)}
    assert found == {
        "note.added": ONE,
        "call.logged": TWO,
        "task.added": THREE,
        "task.completed": THREE,
        "lead.updated": None,
    }


async def test_what_cannot_be_told_apart_has_no_cause_and_what_was_there_before_was_not_made(tables: Tables) -> None:
    log = Log()
    for command_id in (ONE, TWO):  # two notes on one lead in one second
        told(log, "succeeded", T0 + 0.4, command_id, entities={"lead": 7, "note": 11}, updated_at=T0)
    log.deliver(body("leads", "note", note(11, (2, 7), T0)), T0 + 1)
    # A contact that was there, and the lead that is made for it.
    log.deliver(body("contacts", "add", person(8, T0 + 100)), T0 + 101)
    asked = {"action": "create_lead", "total_ms": 1000, "entities": {"lead": 20, "contact": 8}}
    told(log, "succeeded", T0 + 200, THREE, **asked)
    log.deliver(body("leads", "add", lead(20, T0 + 199)), T0 + 201)
    # What has no time of Kommo's.
    log.deliver(body("leads", "update", {"id": 20, "name": "x"}), T0)
    found = {(entity, kind): by for entity, kind, by in await _causes(tables, log)}
    assert found == {
        ("lead/7", "note.added"): None,
        ("contact/8", "contact.added"): None,
        ("lead/20", "lead.added"): THREE,
        ("lead/20", "lead.updated"): None,
    }


async def test_another_account_is_never_a_cause(tables: Tables) -> None:
    log = Log()
    told(log, "succeeded", T0, action="update_lead", entities={"lead": 7}, updated_at=T0)
    told(log, "succeeded", T0, TWO, action="create_lead", entities={"lead": 8})
    log.deliver(body("leads", "update", lead(7, T0)), T0 + 1)
    log.deliver(body("leads", "add", lead(8, T0)), T0 + 1)
    assert {by for _, _, by in await _causes(tables, log)} == {ONE, TWO}
    await tables.connection.execute("UPDATE kommo_projections.command_effects_v1 SET account_id = account_id + 1")
    assert {row["caused_by"] for row in await tables.shown()} == {None}


async def test_a_story_is_the_commands_own_lines_its_correlation_and_what_it_caused(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "add", lead(1, T0 - 5)), T0 - 4, "of-1")  # the delivery that led to the command
    told(log, "admitted", T0, data={})
    told(log, "retried", T0 + 1, next_attempt_at=_at(2), **_WRONG)
    told(log, "succeeded", T0 + 3.5, attempt=2, entities={"lead": 7, "note": 11}, updated_at=T0 + 3)
    told(log, "succeeded", T0 + 3.6, TWO)
    log.deliver(body("leads", "note", note(11, (2, 7), T0 + 3)), T0 + 4)
    log.deliver(body("leads", "note", note(12, (2, 8), T0 + 3)), T0 + 4)
    for projection in (ActivityLog(), Commands()):
        await write_batch(tables.connection, projection, log.events)
    row = await command(tables.connection, ONE, (ACCOUNT,))
    assert row is not None
    lines = await story(tables.connection, ACCOUNT, ONE, row["correlation_id"])
    assert [(line["event_type"], line["entity_id"]) for line in lines] == [
        ("kommo.lead.added", "1"),
        ("kommo.command.admitted", ONE),
        ("kommo.command.retried", ONE),
        ("kommo.note.added", "7"),
        ("kommo.command.succeeded", ONE),
    ]
    assert await command(tables.connection, ONE, (ACCOUNT + 1,)) is None
    assert await command(tables.connection, ONE, None) == row
    assert await story(tables.connection, ACCOUNT + 1, ONE, row["correlation_id"]) == []


# ---- pages stay fast ------------------------------------------------------------------------------------------------

_MANY = """
DO $$ BEGIN FOR m IN 1..6 LOOP EXECUTE format(
    'CREATE TABLE kommo_projections.activity_log_v2_2026_0%1$s PARTITION OF kommo_projections.activity_log_v2 '
    'FOR VALUES FROM (''2026-0%1$s-01'') TO (''2026-0%2$s-01'')', m, m + 1);
END LOOP; END $$;
INSERT INTO kommo_projections.activity_log_v2
SELECT CASE WHEN i % 4 = 0 THEN 31337 ELSE 100000 + i % 300 END, timestamptz '2026-01-01' + i * interval '5 minutes',
       gen_random_uuid(), 'lead', (i % 5000)::text, CASE WHEN i < 5000 THEN 'kommo.lead.added' ELSE 'kommo.lead.updated'
       END, 1, 'x', NULL, NULL, NULL, 'd' || i, 0, i, '1-' || lpad(i::text, 16, '0') || '-000000', 'kommo', 1, false
FROM generate_series(0, 39999) AS i;
INSERT INTO kommo_projections.command_effects_v1
SELECT account_id, entity_type, entity_id, occurred_at, 'kommo.lead.', event_id::text, occurred_at
FROM kommo_projections.activity_log_v2 WHERE log_offset % 8 = 0;
INSERT INTO kommo_projections.commands_v1 (account_id, command_id, action, entity_type, entity_id, status, attempts,
    admitted_at, correlation_id, occurred_at, event_id, state)
SELECT account_id, event_id::text, CASE WHEN log_offset % 1600 = 0 THEN 'create_lead' ELSE 'update_lead' END, 'lead',
    entity_id, CASE WHEN log_offset % 1600 = 0 THEN 'unknown' ELSE 'succeeded' END, 1, occurred_at, correlation_id,
    occurred_at, event_id, '{}'
FROM kommo_projections.activity_log_v2 WHERE log_offset % 8 = 0;
ANALYZE kommo_projections.activity_log_v2; ANALYZE kommo_projections.command_effects_v1;
ANALYZE kommo_projections.commands_v1
"""


@pytest.fixture(scope="module")
def full(shared_servers: Servers) -> Iterator[str]:
    with full_tables(shared_servers, _MANY) as url:
        yield url


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
async def test_pages_and_stories_cost_one_look_up_a_line(full: str, plans: str) -> None:
    async with open_tables(full) as tables:
        connection = tables.connection
        await connection.execute(f"SET plan_cache_mode = {plans}")
        middle = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
        after = (middle, "1-0", "00000000-0000-0000-0000-000000000000")
        for accounts in ((31337,), None, (31337, 100001)):
            for place in (None, after):
                query, arguments = page_query(ACTIVITY, Filter(accounts), place, 51)
                blocks, plan = await cost(connection, query, *arguments)
                assert "Seq Scan on command_effects" not in plan
                assert blocks < 51 * 10, plan
            filters = [Filter(accounts)]
            if accounts == (31337,):
                filters += [Filter(accounts, more=(("state", "unknown"),)), Filter(accounts, entity_type="lead")]
                filters += [Filter(accounts, more=(("action", "create_lead"),))]
            for wanted in filters:
                query, arguments = page_query(COMMANDS, wanted, None, 51)
                blocks, plan = await cost(connection, query, *arguments)
                assert "Seq Scan" not in plan, plan
                assert blocks < 500, plan
        rows, _ = await page(connection, ACTIVITY, Filter((31337,)), None, 50)
        caused = [row for row in rows if row["caused_by"]]
        assert len(caused) == 25
        assert {str(row["event_id"]) == row["caused_by"] for row in caused} == {True}
        some = caused[0]
        blocks, plan = await cost(
            connection, queries._STORY, 31337, some["caused_by"], some["correlation_id"], queries.STORY_LINES
        )
        assert "Seq Scan on command_effects" not in plan, plan
        assert blocks < 500, plan  # a month with no rows is looked at whole


async def test_lines_that_are_sorted_and_not_shown_look_for_no_cause(full: str) -> None:
    async with open_tables(full) as tables:
        connection = tables.connection
        query = "SELECT caused_by FROM kommo.activity_log WHERE account_id = $1 AND occurred_at < '2026-02-01' "
        blocks, plan = await cost(connection, f"{query} ORDER BY log_offset LIMIT 10", 31337)
        assert blocks < 3000, plan
