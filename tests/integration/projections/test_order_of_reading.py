"""The same deliveries repeated, reordered and batched in any way give the same tables."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from projections.reading import LoggedEvent
from tests.support.projections import T0, Log, Row, Tables, body, call, lead, note, person, task
from tests.support.properties import in_postgres
from tests.support.worlds import orders

# ---- worlds of webhooks, in PostgreSQL ------------------------------------------------------------------------------

_KINDS = (
    "lead.add",
    "lead.update",
    "lead.status",
    "lead.responsible",
    "lead.delete",
    "lead.restore",
    "contact.add",
    "contact.update",
    "contact.delete",
    "company.add",
    "company.responsible",
    "company.delete",
    "task.add",
    "task.update",
    "task.complete",
    "task.delete",
    "note",
    "call",
    "call.recorded",
    "unrecognized",
    "unrecognized.untimed",
)


@dataclasses.dataclass(frozen=True)
class Happening:
    """One thing at Kommo: what, to which of two entities, in which second, and how long its delivery takes."""

    kind: str
    entity: int
    second: int
    delay_us: int
    number: int = 0

    @property
    def deletes(self) -> bool:
        return self.kind.endswith(".delete")

    @property
    def at(self) -> int:
        return T0 + self.second

    @property
    def received(self) -> float:
        return (self.at * 1_000_000 + self.delay_us) / 1_000_000

    def bodies(self) -> list[bytes]:
        """The bodies Kommo sends of it; a move gives two, in two deliveries."""
        at, entity, named = self.at, self.entity, f"as of {self.number}"
        element = (2, entity) if self.number % 2 else (1, entity)
        match self.kind:
            case "lead.add":
                return [body("leads", "add", lead(entity, at, name=named))]
            case "lead.update":
                return [body("leads", "update", lead(entity, at, name=named, price=self.number))]
            case "lead.status":
                item = lead(entity, at, name=named, old_status_id=100, status_id=101 + self.number % 2)
                return [body("leads", "status", item), body("leads", "update", {**item, "price": 5})]
            case "lead.responsible":
                item = lead(entity, at, old_responsible_user_id=7, responsible_user_id=8)
                return [body("leads", "responsible", item), body("leads", "update", {**item, "price": 6})]
            case "lead.restore":
                return [body("leads", "restore", lead(entity, at))]
            case "contact.add":
                return [body("contacts", "add", person(entity, at, name=named))]
            case "contact.update":
                return [body("contacts", "update", {"id": entity, "type": "contact", "updated_at": at})]
            case "company.add":
                return [body("contacts", "add", person(entity, at, "company"))]
            case "company.responsible":
                item = person(entity, at, "company", old_responsible_user_id=7, responsible_user_id=self.number)
                return [body("contacts", "update", item)]
            case "task.add":
                return [body("task", "add", task(entity, at))]
            case "task.update":
                return [body("task", "update", task(entity, at, old_text="x", text=named))]
            case "task.complete":
                return [body("task", "update", task(entity, at, status=1, action_close=1, result={"text": "done"}))]
            case "note":
                return [body("leads" if element[0] == 2 else "contacts", "note", note(self.number, element, at))]
            case "call" | "call.recorded":
                said: dict[str, Any] = {"UNIQ": f"u{self.number % 2}"}
                if self.kind == "call.recorded":
                    said["LINK"] = "https://example.com/call.mp3"
                return [body("leads", "note", call(self.number, (2, entity), at, **said))]
            case "unrecognized":
                return [body("roulette", "update", {"id": entity, "updated_at": at, "name": named})]
            case "unrecognized.untimed":
                return [body("roulette", "spin", {"id": entity, "status_id": 1, "pipeline_id": 2})]
        key = {"lead": "leads", "contact": "contacts", "company": "contacts", "task": "task"}
        name = self.kind.partition(".")[0]
        return [body(key[name], "delete", {"id": entity, "type": name})]


def happenings(seconds: int) -> st.SearchStrategy[list[Happening]]:
    """Small worlds: many things in few seconds; receipts on the second, in it and a minute late."""
    one = st.builds(
        Happening,
        st.sampled_from(_KINDS),
        st.integers(1, 2),
        st.integers(0, seconds),
        st.sampled_from([-1_000_000, 0, 1, 500_000, 999_999, 60_000_000]),
    )
    return st.lists(one, min_size=1, max_size=14).map(
        lambda found: [dataclasses.replace(item, number=number) for number, item in enumerate(found)]
    )


def arrived(world: Sequence[Happening]) -> Log:
    """The log of a world: deliveries in the order of their receipts, as one gateway would have them."""
    log = Log()
    deliveries = [(item.received, content) for item in world for content in item.bodies()]
    for number, (received, content) in enumerate(sorted(deliveries, key=lambda pair: pair[0])):
        log.deliver(content, received + number / 1_000_000, f"delivery-{number}")
    return log


def batches(events: Sequence[LoggedEvent], rng: random.Random) -> list[list[LoggedEvent]]:
    """The same events cut into batches somewhere."""
    cuts = sorted(rng.randrange(len(events) + 1) for _ in range(rng.randrange(6)))
    return [list(events[start:end]) for start, end in itertools.pairwise([0, *cuts, len(events)]) if start < end]


async def folded(tables: Tables, *parts: Sequence[LoggedEvent]) -> tuple[list[Row], list[Row]]:
    """Both tables, whole, after these batches."""
    await tables.clear()
    await tables.write(*parts)
    return await tables.activity(), await tables.recent()


@in_postgres()
@given(happenings(4), orders())
async def test_any_order_of_reading_any_batching_and_any_repeat_gives_the_same_tables(
    tables: Tables, world: list[Happening], rng: random.Random
) -> None:
    events = arrived(world).events
    expected = await folded(tables, events)
    for _ in range(3):
        read = [*events, *rng.choices(events, k=rng.randrange(1 + len(events)))]
        rng.shuffle(read)
        assert await folded(tables, *batches(read, rng)) == expected


@in_postgres()
@given(happenings(4), orders())
async def test_a_delivery_that_kommo_repeats_later_changes_no_column_of_any_row(
    tables: Tables, world: list[Happening], rng: random.Random
) -> None:
    log = arrived(world)
    expected = await folded(tables, log.events)
    # A repeated delete has a new id, and what carries no time another time: both have tests of their own.
    repeated = [item for item in world if not item.deletes and item.kind != "unrecognized.untimed"]
    for item in rng.choices(repeated, k=5) if repeated else []:
        for content in item.bodies():
            log.deliver(content, item.received + rng.choice([300, 1200, 5700]))
    assert await folded(tables, log.events) == expected
    read = log.events.copy()
    rng.shuffle(read)
    assert await folded(tables, *batches(read, rng)) == expected


_OF_ARRIVAL = ("sort_key", "correlation_id", "log_offset", "log_partition")


@in_postgres()
@given(happenings(40), orders())
async def test_another_order_of_arrival_gives_the_same_rows(
    tables: Tables, world: list[Happening], rng: random.Random
) -> None:
    # One thing a second: within one, the order of arrival is all there is. A delete's time is its receipt, so that
    # stays; of a call told twice the first receipt counts, so a call comes once here.
    taken: set[int] = set()
    calls: set[object] = set()
    chosen = []
    for item in world:
        key = (item.number % 2, item.entity) if item.kind.startswith("call") else item.number
        if item.second // 2 in taken or ("call", key) in calls or item.kind == "unrecognized.untimed":
            continue
        taken.add(item.second // 2)
        if item.kind.startswith("call"):
            calls.add(("call", key))
        # A delete and what it must not touch are never closer than half a second.
        chosen.append(dataclasses.replace(item, delay_us=500_000 if item.deletes else item.delay_us))
    movable = [item for item in chosen if not item.deletes]
    receipts = [item.received for item in movable]
    rng.shuffle(receipts)
    late = dict(zip([item.number for item in movable], receipts, strict=True))
    logs = []
    for times in ({}, late):
        log = Log()
        deliveries = [
            (times.get(item.number, item.received), f"delivery-{item.number}-{place}", content)
            for item in chosen
            for place, content in enumerate(item.bodies())
        ]
        for number, (received, name, content) in enumerate(sorted(deliveries)):
            late_us = 0 if "delete" in content.decode() else number / 1_000_000
            log.deliver(content, received + late_us, name)
        logs.append(await folded(tables, log.events))
    (activity, recent), (other_activity, other_recent) = logs

    def plain(rows: list[Row], *left_out: str) -> list[Row]:
        return [{name: value for name, value in row.items() if name not in left_out} for row in rows]

    assert plain(activity, *_OF_ARRIVAL) == plain(other_activity, *_OF_ARRIVAL)
    assert plain(recent, "state") == plain(other_recent, "state")


async def test_of_a_call_told_twice_the_first_receipt_counts_in_the_log_and_the_later_time_in_recent_updates(
    tables: Tables,
) -> None:
    """The limit of types whose id does not contain their time: recent_updates keeps no history to go back to."""
    log = Log()
    log.deliver(body("leads", "note", call(1, (2, 5), T0 + 60, UNIQ="u")), T0 + 60.5)
    log.deliver(body("leads", "note", call(2, (2, 5), T0, UNIQ="u", DURATION=90)), T0 + 61)
    log.deliver(body("leads", "note", call(3, (2, 5), T0 + 120, UNIQ="u", DURATION=120)), T0 + 121)
    for events in itertools.permutations(log.events):
        activity, recent = await folded(tables, *([event] for event in events))
        assert [(row["occurred_at"].timestamp(), row["duration_ms"]) for row in activity] == [(T0 + 60, 65_000)]
        assert [row["occurred_at"].timestamp() for row in recent] == [T0 + 120]


async def test_what_carries_no_time_has_its_first_receipt_in_the_log_and_its_last_in_recent_updates(
    tables: Tables,
) -> None:
    untimed = {"id": 5, "type": "contact", "name": "Ann"}
    log = Log()
    for received in (T0 + 300, T0, T0 + 1200):
        log.deliver(body("contacts", "update", untimed), received)
    for events in itertools.permutations(log.events):
        activity, recent = await folded(tables, *([event] for event in events))
        assert [(row["occurred_at"].timestamp(), row["log_offset"]) for row in activity] == [(T0, 1)]
        assert [row["occurred_at"].timestamp() for row in recent] == [T0 + 1200]


async def test_a_clock_far_ahead_at_the_first_receipt_and_not_at_the_repeat_gives_one_row(tables: Tables) -> None:
    """A time more than a day ahead of the receipt is not believed; the repeat, an hour later, is within the day."""
    content = body("leads", "update", lead(5, T0 + 86_400 + 600))
    log = Log()
    log.deliver(content, T0)
    log.deliver(content, T0 + 3600)
    for events in itertools.permutations(log.events):
        activity, _ = await folded(tables, *([event] for event in events))
        assert [(row["occurred_at"].timestamp(), row["time_source"]) for row in activity] == [(T0, "received")]


async def test_two_gateways_that_receive_both_hooks_of_a_move_in_one_microsecond(tables: Tables) -> None:
    moved = lead(5, T0, old_status_id=100, status_id=101)
    log = Log()
    log.deliver(body("leads", "status", {**moved, "name": "A"}), T0 + 1)
    log.deliver(body("leads", "update", {**moved, "name": "B"}), T0 + 1)
    expected = await folded(tables, log.events)
    for events in itertools.permutations(log.events):
        assert await folded(tables, *([event] for event in events)) == expected
