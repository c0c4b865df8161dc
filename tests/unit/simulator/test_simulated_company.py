from __future__ import annotations

import datetime as dt
import random
import time
import uuid
from collections import Counter, defaultdict
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.catalogue import EVENT_TYPES, UNRECOGNIZED
from schemas.decoder import decode
from schemas.delivery import MAX_BODY_BYTES, Delivery
from schemas.event import Event
from schemas.form import parse_form
from simulator import calls, leads, tasks
from simulator.company import SimulatedDelivery, deliveries
from simulator.happenings import Happening
from simulator.world import World

ACCOUNT = 16700680
START = dt.datetime(2026, 3, 2, 8, 0, tzinfo=dt.UTC)
SEEDS = (1, 3)
LONGEST = 5000
BODIES = Path(__file__).parent / "bodies"


@cache
def all_of(seed: int) -> tuple[SimulatedDelivery, ...]:
    return tuple(islice(deliveries(seed, ACCOUNT, START), LONGEST))


def some(seed: int, count: int) -> tuple[SimulatedDelivery, ...]:
    return all_of(seed)[:count]


@cache
def told_by(seed: int) -> list[tuple[SimulatedDelivery, list[Event]]]:
    """Each delivery and its events."""
    return [(delivery, events_of(delivery, number)) for number, delivery in enumerate(all_of(seed))]


def key_of(delivery: SimulatedDelivery) -> tuple[str, str]:
    item = item_of(delivery)
    return delivery.entity, item.get("uid") or item.get("talk_id") or item["id"]


# A salesbot's request is JSON to a widget, and what is not recognised is what Kommo may send one day. Kommo sends no
# restore of customers.
NOT_SENT = {"kommo.salesbot.requested", UNRECOGNIZED.name, "kommo.customer.restored"}


def events_of(delivery: SimulatedDelivery, number: int = 0) -> list[Event]:
    decoded = decode(Delivery(ACCOUNT, f"d{number}", delivery.at * 1_000_000, delivery.body))
    assert decoded.rejections == []
    return [Event.from_json(event.value) for event in decoded.events]


def item_of(delivery: SimulatedDelivery) -> dict[str, Any]:
    item: dict[str, Any] = parse_form(delivery.body)[delivery.entity][delivery.action]["0"]
    return item


@pytest.mark.parametrize("seed", SEEDS)
def test_every_delivery_becomes_known_events_of_its_own_time(seed: int) -> None:
    for delivery, events in told_by(seed):
        assert len(delivery.body) < MAX_BODY_BYTES
        assert events
        for event in events:
            assert event.type != UNRECOGNIZED.name
            assert event.accountid == str(ACCOUNT)
            # A note keeps the time it was written at when its recording comes; all else happens when it is sent.
            lag = delivery.at - event.time.timestamp()
            assert 0 <= lag <= (3600 if event.type.startswith("kommo.call.") else 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_type_of_the_catalogue_occurs_within_5000_deliveries(seed: int) -> None:
    found = {event.type for _, events in told_by(seed) for event in events}
    assert found == {kind.name for kind in EVENT_TYPES.values() if kind.door == "webhook"} - NOT_SENT


def test_data_fit_the_models_of_their_types() -> None:
    models = {kind.name: kind.model for kind in EVENT_TYPES.values()}
    for _, events in told_by(1):
        for event in events:
            models[event.type].model_validate(event.data)


def test_the_same_arguments_give_the_same_bytes() -> None:
    again = tuple(islice(deliveries(1, ACCOUNT, int(START.timestamp())), 2000))
    assert again == some(1, 2000)


def test_another_seed_account_or_start_gives_something_else() -> None:
    first = some(1, 50)
    assert tuple(islice(deliveries(2, ACCOUNT, START), 50)) != first
    assert tuple(islice(deliveries(1, 77, START), 50)) != first
    assert tuple(islice(deliveries(1, ACCOUNT, START + dt.timedelta(days=1)), 50)) != first


def test_a_given_start_does_not_look_at_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_clock() -> float:
        raise AssertionError("the wall clock was read")

    monkeypatch.setattr(time, "time", no_clock)
    assert tuple(islice(deliveries(1, ACCOUNT, START), 300)) == some(1, 300)


def test_without_a_start_it_happens_now() -> None:
    before = int(time.time())
    live = list(islice(deliveries(1, ACCOUNT), 200))
    assert all(before <= delivery.at <= time.time() for delivery in live)


def test_two_runs_at_different_times_share_no_ids() -> None:
    def ids(start: dt.datetime) -> set[str]:
        found = islice(deliveries(1, ACCOUNT, start), 1000)
        return {key_of(delivery)[1] for delivery in found if delivery.action == "add"}

    assert not ids(START) & ids(START + dt.timedelta(hours=1))


def test_a_start_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        deliveries(1, ACCOUNT, dt.datetime(2026, 1, 1))  # noqa: DTZ001 that is what is tried


@pytest.mark.parametrize("seed", SEEDS)
def test_time_moves_on_as_in_a_company(seed: int) -> None:
    times = [delivery.at for delivery in some(seed, 2000)]
    assert times == sorted(times)
    assert times[0] >= START.timestamp()
    assert 4 * 3600 < times[-1] - times[0] < 24 * 3600


@pytest.mark.parametrize("seed", SEEDS)
def test_an_entity_changes_once_a_second_at_most(seed: int) -> None:
    seen: dict[tuple[str, str], str] = {}
    for delivery in some(seed, 2000):
        item = item_of(delivery)
        # Bodies without a time of their own, and those that are not about the state of an entity.
        if delivery.entity in ("unsorted", "message", "outgoing_message") or "updated_at" not in item:
            continue
        key = key_of(delivery)
        told = {name: value for name, value in item.items() if name != "old_status_id"}
        text = orjson.dumps(told, option=orjson.OPT_SORT_KEYS).decode()
        before = seen.get(key)
        if before is not None and orjson.loads(before)["updated_at"] == item["updated_at"]:
            assert before == text  # the second hook of one move
        seen[key] = text


def test_a_record_is_touched_once_a_second() -> None:
    world = World(ACCOUNT, random.Random(1), 1000)
    added, *_ = leads.lead_added(world)
    assert added.at == 1000
    assert leads.lead_moved(world) == []
    assert not world.touch(world.leads[0])
    world.now += 1
    assert leads.lead_moved(world)
    assert leads.lead_updated(world) == []


def test_what_waits_for_a_deleted_entity_does_not_happen() -> None:
    world = World(ACCOUNT, random.Random(1), 1000)
    leads.lead_added(world)
    (lead,) = world.leads
    for _ in range(200):
        calls.call_made(world)
    lead.alive = False
    world.now += 1000
    happened = [due() for due in iter(world.due, None)]
    assert len(happened) > 20
    assert all(changes == [] for changes in happened)


@pytest.mark.parametrize("ended", [tasks.task_deleted, tasks.task_reopened])
def test_a_task_that_is_no_longer_done_is_given_no_result(ended: Happening) -> None:
    world = World(ACCOUNT, random.Random(1), 1000)
    leads.lead_added(world)
    while len(world.tasks) < 40:
        tasks.task_added(world)
    world.now += 1
    while world.tasks:
        tasks.task_completed(world)
    while world.done_tasks:
        world.now += 1
        ended(world)
    world.now += 1000
    happened = [due() for due in iter(world.due, None)]
    assert len(happened) > 10
    assert all(change.entity != "task" for changes in happened for change in changes)


def test_tasks_are_missed_put_off_reopened_and_given_results() -> None:
    seen: dict[str, dict[str, Any]] = {}
    found: set[str] = set()
    for delivery in some(1, 5000):
        if delivery.entity != "task" or delivery.action == "delete":
            continue
        item = item_of(delivery)
        before = seen.get(item["id"], item)
        found |= {"missed"} if before["status"] == "0" and int(before["complete_before"]) < delivery.at else set()
        found |= {"put off"} if int(before["complete_before"]) < int(item["complete_before"]) else set()
        found |= {"reopened"} if (before["status"], item["status"]) == ("1", "0") else set()
        found |= {"given a result"} if "result" in item else set()
        found |= {"of somebody else"} if before["responsible_user_id"] != item["responsible_user_id"] else set()
        seen[item["id"]] = item
    assert found == {"missed", "put off", "reopened", "given a result", "of somebody else"}


def test_fields_and_tags_are_added_changed_and_cleared() -> None:
    seen: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    found: set[tuple[str, str]] = set()
    for delivery in some(1, 5000):
        if delivery.entity not in ("leads", "contacts") or delivery.action != "update":
            continue
        item = item_of(delivery)
        for kind in ("custom_fields", "tags"):
            now = {entry["id"]: entry for entry in item.get(kind, {}).values()}
            before = seen.setdefault((kind, item["id"]), now)
            found |= {(kind, "added")} if now.keys() - before.keys() else set()
            found |= {(kind, "cleared")} if before.keys() - now.keys() else set()
            found |= {(kind, "changed")} if any(now[name] != before[name] for name in now.keys() & before) else set()
            seen[kind, item["id"]] = now
    wanted = {(kind, deed) for kind in ("custom_fields", "tags") for deed in ("added", "cleared")}
    assert found == {*wanted, ("custom_fields", "changed")}


def test_sizes_are_those_of_real_accounts() -> None:
    sizes = sorted(len(d.body) for d in some(1, 5000) if (d.entity, d.action) == ("leads", "update"))
    assert 1500 < sizes[len(sizes) // 2] < 3500
    of = Counter(delivery.entity for delivery in some(1, 5000))
    assert of["leads"] + of["task"] > 0.6 * of.total()


def test_both_hooks_of_one_move_give_one_event() -> None:
    hooks: dict[tuple[str, str], list[SimulatedDelivery]] = defaultdict(list)
    for delivery in some(1, 2000):
        item = item_of(delivery)
        if delivery.action in ("status", "update") and "old_status_id" in item and "updated_at" in item:
            hooks[item["id"], item["updated_at"]].append(delivery)
    pairs = [pair for pair in hooks.values() if len(pair) == 2]
    assert len(pairs) > 30
    assert len(pairs) < len(hooks)  # some moves have the status hook only
    assert {pair[0].action for pair in pairs} == {"status", "update"}  # in both orders
    for first, second in pairs:
        assert {first.action, second.action} == {"status", "update"}
        (one,), (other,) = events_of(first, 1), events_of(second, 2)
        assert one.type == other.type == "kommo.lead.status_changed"
        assert one.id == other.id


def test_leads_are_won_and_lost() -> None:
    ends = {item_of(delivery)["status_id"] for delivery in some(1, 2000) if delivery.action == "status"}
    assert {"142", "143"} <= ends


def test_a_recording_that_comes_later_belongs_to_the_same_call() -> None:
    found_of: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for _, events in told_by(1):
        for event in events:
            if event.type.startswith("kommo.call."):
                found_of[event.data["call"]["uniq"] or event.data["note"]["id"]].append((event.type, event.id))
    logged, recorded = "kommo.call.logged", "kommo.call.recorded"
    shapes = {tuple(kind for kind, _ in found) for found in found_of.values()}
    assert shapes == {(logged,), (logged, recorded), (logged, logged, recorded)}
    for found in found_of.values():
        assert len({name for kind, name in found if kind == logged}) == 1


def test_what_is_deleted_stays_quiet_until_it_is_restored() -> None:
    gone: set[tuple[str, str]] = set()
    restored = 0
    for delivery in some(3, 5000):
        item = item_of(delivery)
        if delivery.action == "note":
            key = (delivery.entity, item["note"]["element_id"])
            assert key not in gone
            continue
        if delivery.entity in ("message", "outgoing_message"):  # of a deleted lead they are news of the contact
            assert ("leads", item.get("entity_id")) not in gone
            continue
        key = key_of(delivery)
        if delivery.action == "restore":
            restored += 1
            gone.remove(key)
        assert key not in gone
        if delivery.action == "delete":
            gone.add(key)
    assert restored > 20


def test_request_ids_are_uuids_of_their_own() -> None:
    found = [uuid.UUID(delivery.headers["X-Amocrm-Requestid"]) for delivery in some(1, 2000)]
    assert all(identifier.version == 4 for identifier in found)
    assert len(set(found)) == 2000


def shape(item: dict[str, Any]) -> tuple[str, ...]:
    return (*item, *(f"note.{name}" for name in item.get("note", ())))


@pytest.mark.parametrize("path", sorted(BODIES.glob("*.form")), ids=lambda path: path.stem)
def test_items_have_the_fields_of_kommos_bodies_in_kommos_order(path: Path) -> None:
    form = parse_form(path.read_bytes())
    entity = next(key for key in form if key != "account")
    action = next(iter(form[entity]))
    wanted = form[entity][action]["0"]
    found = {
        shape(item_of(delivery))
        for delivery in some(1, 5000)
        if (delivery.entity, delivery.action) == (entity, action)
        and item_of(delivery).get("type") == wanted.get("type")
    }
    assert shape(wanted) in found
