"""calls: one row per call, however often, where and in whatever order its notes come."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import itertools
import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.calls import Calls, call_id
from projections.reading import LoggedEvent
from tests.support.projections import ACCOUNT, LINK, T0, Log, Row, Tables, body, call, event_json, note, write
from tests.support.properties import in_postgres
from tests.support.worlds import arrived, orders, read_anyhow

RECORDING = "https://pbx.example/1.mp3"


async def folded(tables: Tables, batches: Iterable[Sequence[LoggedEvent]]) -> list[Row]:
    """The table, whole, after these batches."""
    await tables.connection.execute("DELETE FROM kommo_projections.calls_v1")
    projection = Calls()
    for events in batches:
        await write(tables.connection, projection, events)
    return await tables.rows("SELECT * FROM kommo_projections.calls_v1 ORDER BY account_id, call_id")


async def shown(tables: Tables, log: Log) -> list[Row]:
    """The rows of the view, times as seconds after T0."""
    await folded(tables, [log.events])
    return [
        {name: value.timestamp() - T0 if isinstance(value, dt.datetime) else value for name, value in row.items()}
        for row in await tables.connection.fetch("SELECT * FROM kommo.calls ORDER BY call_id")
    ]


async def only(tables: Tables, log: Log) -> Row:
    (row,) = await shown(tables, log)
    return row


def told(row: Row, *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


# ---- examples -------------------------------------------------------------------------------------------------------


async def test_every_column_of_a_call(tables: Tables) -> None:
    log = Log()
    said = {"CALL_STATUS": 4, "CALL_RESULT": "Will buy", "call_responsible": 42}
    log.deliver(body("contacts", "note", call(8, (1, 5), T0, UNIQ="u-1", **said, LINK=RECORDING)), T0 + 1)
    row = await only(tables, log)
    assert str(row.pop("event_id")) == log.events[0].event_id
    assert log.events[0].kind.name == "kommo.call.logged"
    assert row == {
        "account_id": ACCOUNT,
        "call_id": "u-1",
        "entity_type": "contact",
        "entity_id": "5",
        "direction": "in",
        "phone": "+15550100",
        "duration_seconds": 65,
        "outcome": "conversation",
        "result": "Will buy",
        "source": "pbx",
        "recording_url": RECORDING,
        "responsible_user_id": 42,
        "occurred_at": 0,
        "url": f"{LINK}/contacts/detail/5",
    }


async def test_a_recording_that_comes_later_is_added_and_nothing_is_cleared(tables: Tables) -> None:
    first = body("leads", "note", call(8, (2, 5), T0, UNIQ="u", CALL_STATUS=4, CALL_RESULT="ok", LINK=""))
    bare = note(9, (2, 5), T0 + 60, note_type=10, text=json.dumps({"UNIQ": "u", "LINK": RECORDING}))
    for deliveries in itertools.permutations([(first, T0 + 1), (body("leads", "note", bare), T0 + 61)]):
        log = Log()
        for content, received in deliveries:
            log.deliver(content, received)
        row = await only(tables, log)
        assert told(row, "recording_url", "duration_seconds", "phone", "outcome", "result", "occurred_at") == (
            *(RECORDING, 65, "+15550100", "conversation", "ok"),
            0,
        )


async def test_what_is_told_anew_of_a_call_replaces_what_was_told(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "note", call(8, (2, 5), T0, UNIQ="u", DURATION=0, CALL_STATUS=7)), T0 + 1)
    log.deliver(body("leads", "note", call(9, (2, 5), T0 + 30, UNIQ="u", DURATION=90, CALL_STATUS=4)), T0 + 31)
    assert told(await only(tables, log), "duration_seconds", "outcome", "occurred_at") == (90, "conversation", 0)


async def test_one_call_noted_on_a_contact_and_on_its_lead_is_one_row_of_the_first(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "note", call(9, (2, 7), T0 + 1, UNIQ="u", LINK=RECORDING)), T0 + 2)
    log.deliver(body("contacts", "note", call(8, (1, 5), T0, UNIQ="u")), T0 + 2.5)
    row = await only(tables, log)
    assert told(row, "entity_type", "entity_id", "url") == ("contact", "5", f"{LINK}/contacts/detail/5")
    assert told(row, "occurred_at", "recording_url") == (0, RECORDING)
    assert str(row["event_id"]) == log.events[-1].event_id


async def test_a_recording_alone_is_a_call_too_and_gives_its_place_to_the_log_of_it(tables: Tables) -> None:
    log = Log()
    told_of = {"call": {"uniq": "u", "link": RECORDING}, "note": {}}
    log.append(event_json("kommo.call.recorded", "lead/5", data=told_of, time="2026-09-21T14:13:20Z"))
    row = await only(tables, log)
    assert told(row, "entity_id", "direction", "recording_url", "occurred_at") == ("5", None, RECORDING, 0)
    log.deliver(body("contacts", "note", call(8, (1, 6), T0 + 9, UNIQ="u")), T0 + 10)
    row = await only(tables, log)
    assert told(row, "entity_id", "direction", "recording_url", "occurred_at") == ("6", "in", RECORDING, 9)


async def test_what_names_a_call(tables: Tables) -> None:
    long, long2 = "ж" * 128, "ж" * 129
    log = Log()
    for number, said in enumerate([{"UNIQ": "u"}, {"UNIQ": 77}, {"UNIQ": ""}, {"UNIQ": 1.5}, {"UNIQ": "note:1"}]):
        log.deliver(body("leads", "note", call(100 + number, (2, 5), T0, **said)), T0 + 1)
    for number, uniq in enumerate((long, long2, "a\nb", "a\0b")):
        log.deliver(body("leads", "note", call(200 + number, (2, 5), T0, UNIQ=uniq)), T0 + 1)
    for text in ("one", "two"):  # no JSON, no id: all the fields name it, as they name the event
        for received in (1, 300):
            log.deliver(body("leads", "note", note(0, (2, 5), T0, note_type=11, id="", text=text)), T0 + received)
    rows = await shown(tables, log)
    names = [row["call_id"] for row in rows]
    assert [name for name in names if not name.startswith("digest:")] == ["77", "note:102", "note:103", "u", long]
    assert len({name for name in names if name.startswith("digest:")}) == len(names) - 5 == 6
    assert all(len(name) == 71 for name in names if name.startswith("digest:"))


@pytest.mark.parametrize(
    ("said", "writers", "responsible"),
    [
        ({"call_responsible": 42}, {"main_user_id": 8, "created_by": 9}, 42),
        ({"CALL_RESPONSIBLE": "42"}, {}, 42),
        ({"call_responsible": "Anna"}, {"main_user_id": 8, "created_by": 9}, 8),
        ({"call_responsible": ""}, {"main_user_id": 0, "created_by": 9}, 9),
        ({"call_responsible": 10**30}, {"main_user_id": "", "created_by": 0}, 0),
        ({}, {"created_by": ""}, None),
    ],
)
async def test_who_is_responsible_for_a_call(
    tables: Tables, said: dict[str, Any], writers: dict[str, Any], responsible: int | None
) -> None:
    log = Log()
    item = call(8, (2, 5), T0, UNIQ="u", **said)
    item["note"] |= writers
    log.deliver(body("leads", "note", item), T0 + 1)
    assert (await only(tables, log))["responsible_user_id"] == responsible


async def test_a_robots_note_about_the_recording_does_not_take_the_call_from_its_user(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "note", call(8, (2, 5), T0, UNIQ="u", call_responsible=42)), T0 + 1)
    later = call(9, (2, 5), T0 + 60, UNIQ="u", LINK=RECORDING)
    later["note"]["created_by"] = 0
    log.deliver(body("leads", "note", later), T0 + 61)
    assert (await only(tables, log))["responsible_user_id"] == 42


@pytest.mark.parametrize(
    ("link", "kept"),
    [
        ("http://pbx.example/1.mp3?a=1&b=2", True),
        ("HTTPS://pbx.example/1.mp3", True),
        ("javascript:alert(1)", False),
        ("records/1.mp3", False),
        ("https://pbx.example/" + "x" * 2000, False),
        ("https://pbx.example/\n1", False),
        ("https://pbx.example/\u202e1", False),
        (5, False),
    ],
)
async def test_a_recording_is_a_web_address_or_nothing(tables: Tables, link: Any, kept: bool) -> None:
    log = Log()
    log.deliver(body("leads", "note", call(8, (2, 5), T0, UNIQ="u", LINK=link)), T0 + 1)
    assert (await only(tables, log))["recording_url"] == (link if kept else None)


_ODD = [
    {"call": "no map", "note": None},
    {"call": {"uniq": ["u"], "phone": {"a": 1}, "duration": 10**18, "call_status": {}}, "note": {"id": [1]}},
    {"call": {"uniq": True, "phone": 10**25, "duration": -1, "link": ["https://x"], "direction": ["in"]}},
    {"call": {"uniq": "a\0b", "phone": "\0", "source": "\u202e", "call_result": "x" * 2**20, "direction": "up"}},
    {"call": {"uniq": "x" * 2**20, "call_status": 10**30, "duration": 1.5}, "note": {"main_user_id": 10**30}},
    {"call": {"uniq": 10**30, "phone": 15550100, "call_result": 5}, "account": {"link": "a\0b"}},
    {"call": {}, "note": {"id": "\0", "created_by": "x"}, "beside": {"\0": "\0"}},
]


async def test_odd_data_of_another_gateway_never_breaks_the_batch(tables: Tables) -> None:
    log = Log()
    deep = b'{"note":{"text":' + b"[" * 900 + b"]" * 900 + b"}}"
    for number, data in enumerate([*(json.dumps(data).encode() for data in _ODD), deep]):
        for kind in ("kommo.call.logged", "kommo.call.recorded"):
            for subject in ("lead/1", "talk/5"):
                log.append(event_json(kind, subject, named={"n": number}, data=orjson.Fragment(data)))
    rows = await folded(tables, [log.events])
    assert rows == await folded(tables, ([event] for event in log.events[::-1]))
    assert len(rows) >= len(_ODD)
    assert {row["duration_seconds"] for row in rows} == {None}
    assert "15550100" in {row["phone"] for row in rows}


# ---- two partitions -------------------------------------------------------------------------------------------------


async def test_two_processes_that_are_told_of_one_call_at_once_make_one_row_of_both(
    tables: Tables, kept_database: str
) -> None:
    """A call noted on two entities is in two partitions, whose positions two processes hold."""
    log = Log()
    parts = []
    for entity, link in ((1, ""), (2, RECORDING)):
        items = [call(10 * entity, (entity, 5), T0 + n, UNIQ=f"u{n}", LINK=link) for n in range(20)]
        parts.append(log.deliver(body("leads", "note", *items), T0 + 100))
    expected = await folded(tables, [log.events])
    other = await asyncpg.connect(kept_database, server_settings={"timezone": "UTC"})
    try:
        for _ in range(5):
            await tables.connection.execute("DELETE FROM kommo_projections.calls_v1")
            await asyncio.gather(
                *(
                    _one_by_one(connection, events)
                    for connection, events in zip((tables.connection, other), parts, strict=True)
                )
            )
            query = "SELECT * FROM kommo_projections.calls_v1 ORDER BY account_id, call_id"
            assert await tables.rows(query) == expected
    finally:
        await other.close()


async def _one_by_one(connection: Any, events: Sequence[LoggedEvent]) -> None:
    projection = Calls()
    for event in events:
        await write(connection, projection, [event])


# ---- any order of reading, in PostgreSQL ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Told:
    """One note of one of two calls: on which entity, in which second, what it says, how long its delivery takes."""

    uniq: str
    entity: tuple[int, int]
    second: int
    delay_us: int
    said: tuple[str, ...]
    number: int = 0

    @property
    def received(self) -> float:
        return T0 + self.second + self.delay_us / 1_000_000

    def body(self) -> bytes:
        number = self.number
        every = {
            "PHONE": f"+{number}",
            "DURATION": number,
            "SRC": f"pbx {number}",
            "CALL_STATUS": 1 + number % 8,
            "CALL_RESULT": f"r{number}",
            "LINK": f"https://pbx.example/{number}.mp3",
            "call_responsible": number,
        }
        said = {"UNIQ": self.uniq, **{name: every[name] for name in self.said}}
        text = json.dumps(said) if self.uniq != "none" else "no JSON"
        fields: dict[str, Any] = {"note_type": 10 + number % 2, "text": text, "created_by": number}
        if self.uniq == "none":  # and no id: all its fields name it
            fields["id"] = ""
        item = note(number % 3 + 1, self.entity, T0 + self.second, **fields)
        return body("leads" if self.entity[0] == 2 else "contacts", "note", item)


_NAMES = ("PHONE", "DURATION", "SRC", "CALL_STATUS", "CALL_RESULT", "LINK", "call_responsible")
_NOTES = st.lists(
    st.builds(
        Told,
        st.sampled_from(["a", "a", "b", "", "none"]),
        st.sampled_from([(2, 5), (1, 5), (2, 6)]),
        st.integers(0, 3),
        st.sampled_from([-1_000_000, 0, 1, 500_000, 60_000_000]),
        st.lists(st.sampled_from(_NAMES), max_size=4, unique=True).map(tuple),
    ),
    min_size=1,
    max_size=10,
).map(lambda found: [dataclasses.replace(item, number=number) for number, item in enumerate(found)])


@in_postgres()
@given(_NOTES, orders())
async def test_any_order_of_reading_any_batching_and_any_repeat_gives_the_same_rows(
    tables: Tables, world: list[Told], rng: random.Random
) -> None:
    log = arrived((item.received, item.body()) for item in world)
    expected = await folded(tables, [log.events])
    assert len(expected) == len({(event.account_id, call_id(event)) for event in log.events})
    for _ in range(3):
        assert await folded(tables, read_anyhow(log.events, rng)) == expected
    for item in rng.choices(world, k=5):  # Kommo delivers some of it again
        log.deliver(item.body(), item.received + rng.choice([300, 1200, 5700]))
    assert await folded(tables, read_anyhow(log.events, rng)) == expected
