"""A row stays small whatever is sent, and what another gateway writes is read strictly."""

from __future__ import annotations

import random
from typing import Any

import pytest

from projections import recent_updates, tasks
from projections.folding import MOST_MARKS
from projections.reading import LoggedEvent, read_event
from projections.snapshot import snapshot
from schemas.event import EventError
from tests.support.projections import T0, Log, body, event_json, lead, task
from tests.support.worlds import state_of

MANY = 10 * MOST_MARKS


def _tasks() -> list[LoggedEvent]:
    return Log().deliver(
        body("task", "update", *(task(5, T0, status=n % 2, text=f"as of {n}") for n in range(MANY))), T0 + 1
    )


def _leads() -> list[LoggedEvent]:
    return Log().deliver(body("leads", "update", *(lead(5, T0, name=f"as of {n}") for n in range(MANY))), T0 + 1)


def _deletes() -> list[LoggedEvent]:
    log = Log()
    for number in range(MANY):
        log.deliver(body("leads", "delete", {"id": 5}), T0 + number)
    return log.events


@pytest.mark.parametrize(
    ("kind", "events"),
    [(tasks.State, _tasks()), (recent_updates.State, _leads()), (recent_updates.State, _deletes())],
    ids=["tasks", "leads", "deletes"],
)
def test_a_state_is_bounded_and_the_same_for_any_order(kind: Any, events: list[LoggedEvent]) -> None:
    plain = state_of(kind, events)
    assert len(plain.to_json()) < 200 * 1024
    rng = random.Random(1)
    for _ in range(5):
        read = [*events, *rng.sample(events, 100)]
        rng.shuffle(read)
        assert state_of(kind, read).columns() == plain.columns()


def test_of_many_deletes_the_first_shows_and_an_event_among_them_parts_them() -> None:
    deletes = _deletes()
    assert state_of(recent_updates.State, deletes).columns()[4] == deletes[0].time
    last = Log().deliver(body("leads", "restore", lead(5, T0 + MANY - 2)), T0 + MANY)
    columns = state_of(recent_updates.State, [*deletes, *last]).columns()
    assert columns[4] == deletes[-1].time  # the delete after the restore
    assert columns[6] is True


@pytest.mark.parametrize(
    "changes",
    [
        {"revision": 2**40},
        {"revision": 0},
        {"correlationid": 5},
        {"correlationid": ["a"]},
        {"accountid": 5.7},
        {"accountid": 16700680},
    ],
)
def test_an_event_that_is_none_is_refused_before_it_reaches_a_table(changes: dict[str, Any]) -> None:
    with pytest.raises(EventError):
        read_event(event_json("kommo.lead.updated", **changes), 0, 0)


def test_a_value_too_deep_to_be_compared_is_not() -> None:
    deep: Any = "x"
    for _ in range(1000):
        deep = [deep]
    fields = {"date_create": 1, "tags": [{"name": deep}], "custom_fields": [{"id": deep, "name": deep, "values": deep}]}
    event = read_event(event_json("kommo.lead.updated", data={}), 0, 0)
    event.data = {"lead": fields}
    assert snapshot(event) is None
