"""The state of a row of calls by itself: the same in whatever order its notes are read."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from projections.calls import CallState
from projections.reading import LoggedEvent
from schemas.catalogue import EVENT_TYPES
from tests.support.projections import moment
from tests.support.worlds import assert_any_order_gives_the_same_state, one_of_each, orders, some_of, state_of

_KINDS = ("kommo.call.logged", "kommo.call.logged", "kommo.call.recorded")
_READING = st.tuples(
    one_of_each((0, 1, 2, 3, 4), (1, 2, 3), (0, 1), (1, 1, 1, 2)),
    some_of(phone=("1", "2", ""), duration=(0, 5), link=("https://a", "https://b", ""), call_responsible=(1, 2)),
)
_EVENTS = st.lists(
    st.tuples(one_of_each(_KINDS, ("contact", "lead")), st.lists(_READING, min_size=1, max_size=3)),
    min_size=1,
    max_size=9,
)


def _read(events: list[Any]) -> list[LoggedEvent]:
    found: list[LoggedEvent] = []
    for number, ((name, entity), read) in enumerate(events):
        for (receipt, at, place, revision), said in read:
            found.append(
                LoggedEvent(
                    1,
                    entity,
                    "5",
                    EVENT_TYPES[name],
                    f"event-{number}",
                    moment(at),
                    f"1-{receipt * 1_000_000:016d}-{place:06d}",
                    "kommo",
                    revision,
                    "",
                    {"call": said, "note": {"created_by": receipt}},
                    0,
                    len(found),
                )
            )
    return found


READINGS = _EVENTS.map(_read)
"""Readings of a few events of one call: few times, few sequences, two revisions, partial data."""


@given(READINGS, orders())
def test_a_state_is_the_same_in_whatever_order_its_events_are_read(
    events: list[LoggedEvent], rng: random.Random
) -> None:
    assert_any_order_gives_the_same_state(CallState, events, rng)


@given(READINGS)
def test_a_state_says_what_the_first_and_the_newest_notes_say(events: list[LoggedEvent]) -> None:
    entity, _, _, phone, duration, *_, recording, _, occurred_at, event_id, _ = state_of(CallState, events).columns()
    logged = [event for event in events if event.kind.name == "kommo.call.logged"] or events
    assert occurred_at == min(event.time for event in logged)
    assert (entity, event_id) in {(e.entity_type, e.event_id) for e in logged if e.time == occurred_at}
    for name, column in (("phone", phone), ("duration", duration), ("link", recording)):
        saying = [event for event in events if event.data["call"].get(name) not in (None, "")]
        newest = max((event.time for event in saying), default=None)
        assert column in ({event.data["call"][name] for event in saying if event.time == newest} or {None})
