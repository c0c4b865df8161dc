"""The state of a row of tasks by itself: the same in whatever order its events are read, and bounded."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.reading import LoggedEvent
from projections.tasks import STATUS_SECONDS, State
from schemas.catalogue import EVENT_TYPES
from tests.support.projections import T0, Log, moment, task_statuses
from tests.support.worlds import assert_any_order_gives_the_same_state, one_of_each, orders, some_of, state_of


def test_what_a_state_keeps_of_the_statuses_is_bounded() -> None:
    log = Log()
    task_statuses(log, 1, *[0] * STATUS_SECONDS)
    full, over = state_of(State, log.events[:-1]), state_of(State, log.events)
    assert (len(full.statuses), len(over.statuses)) == (STATUS_SECONDS, STATUS_SECONDS)
    assert full._closing()[2] == (T0 + 1) * 1_000_000
    assert over._closing()[2] is None  # forgotten
    assert state_of(State, log.events[::-1]) == over


_KINDS = ("added", "updated", "updated", "completed", "deleted")
_READING = st.tuples(
    one_of_each((0, 1, 2, 3, 4), (False, False, False, False, False, True), (1, 1, 1, 2), (0, 1)),
    some_of(
        status=(0, 1), text=("a", "b"), complete_before=(0, T0, T0 + 1), responsible_user_id=(1, 2), element_id=(0, 5)
    ),
)
_EVENTS = st.lists(
    st.tuples(one_of_each(_KINDS, (1, 2, 3, 4)), st.lists(_READING, min_size=1, max_size=3)), min_size=1, max_size=11
)


def _read(events: list[Any]) -> list[LoggedEvent]:
    found: list[LoggedEvent] = []
    for number, ((name, at), read) in enumerate(events):
        kind = EVENT_TYPES[f"kommo.task.{name}"]
        for (received, untimed, revision, place), data in read:
            receipt = at if kind.deletes else received
            found.append(
                LoggedEvent(
                    1,
                    "task",
                    "5",
                    kind,
                    f"event-{number}",
                    moment(receipt if untimed and not kind.deletes else at),
                    f"{0 if kind.creates else 1}-{receipt * 1_000_000:016d}-{place:06d}",
                    "received" if kind.deletes or untimed else "kommo",
                    revision,
                    "",
                    {"task": {**data, "element_type": 2}},
                    0,
                    len(found),
                )
            )
    return found


READINGS = _EVENTS.map(_read)
"""Readings of a few events of one task: few times, few sequences, two revisions, partial data."""


@given(READINGS, orders(), st.booleans())
def test_a_state_is_the_same_in_whatever_order_its_events_are_read(
    events: list[LoggedEvent], rng: random.Random, short: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if short:
            patch.setattr("projections.tasks.STATUS_SECONDS", 2)
        assert_any_order_gives_the_same_state(State, events, rng)


@given(READINGS)
def test_a_state_is_what_a_look_at_all_events_at_once_would_say(events: list[LoggedEvent]) -> None:
    """Written without the fold: of each event at each time the reading that counts, sorted, looked through."""

    def line(name: str, says: Callable[[Any], list[Any]] = lambda value: [value]) -> list[tuple[Any, Any]]:
        saying = [event for event in events if event.kind.snapshot and name in event.data["task"]]
        chosen = {}
        for event in sorted(
            saying, key=lambda e: (e.revision, _down(e.sort_key), _down(repr(says(e.data["task"][name]))))
        ):
            chosen[event.event_id, event.time] = (event.clock, says(event.data["task"][name])[-1])
        return sorted(chosen.values())

    columns = state_of(State, events).columns()
    state, text, _, _, on, responsible, deadline, *_, completed_at, reopened_at, _, _, _ = columns
    for column, told_in_order in (
        (text, line("text")),
        (responsible, line("responsible_user_id")),
        (on, line("element_id", lambda value: ["lead", str(value)] if value else [None, None])),
        (deadline, line("complete_before", lambda value: [value * 1_000_000 if value else None])),
    ):
        expected = told_in_order[-1][1] if told_in_order else None
        assert column == (moment(expected / 1_000_000) if column is deadline and expected else expected)
    statuses = line("status")
    reopened = [clock[0] for (_, before), (clock, now) in itertools.pairwise(statuses) if (before, now) == (1, 0)]
    assert reopened_at == (reopened[-1] if reopened else None)
    closed = list(itertools.takewhile(lambda pair: pair[1] == 1, reversed(statuses)))
    assert completed_at == (closed[-1][0][0] if closed else None)
    deletes = [event.clock for event in events if event.kind.deletes]
    alive = _alive(events)
    gone = bool(deletes) and (not alive or max(deletes) > alive)
    assert state == ("deleted" if gone else "completed" if closed else "open")


def _alive(events: Sequence[LoggedEvent]) -> Any:
    """The place of the newest snapshot: of each event at its newest time the reading that counts."""
    snapshots = [event for event in events if event.kind.snapshot]
    newest = [event for event in snapshots if event.time == max(event.time for event in snapshots)]
    chosen = {e.event_id: e.clock for e in sorted(newest, key=lambda e: (e.revision, _down(e.sort_key)))}
    return max(chosen.values(), default=None)


def _down(text: str) -> list[int]:
    """A key that sorts texts the other way round."""
    return [-ord(character) for character in text]
