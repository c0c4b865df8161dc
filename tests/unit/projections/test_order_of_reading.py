"""The state of a row of recent_updates by itself: the same in whatever order its events are read."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from projections.reading import LoggedEvent
from projections.recent_updates import State
from schemas.catalogue import EVENT_TYPES
from tests.support.worlds import assert_any_order_gives_the_same_state, one_of_each, orders, state_of

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TYPES = (
    "kommo.lead.added",
    "kommo.lead.updated",
    "kommo.lead.deleted",
    "kommo.lead.deleted",
    "kommo.lead.restored",
    "kommo.lead.status_changed",
    "kommo.note.added",
    "kommo.call.logged",
)


_READING = one_of_each((0, 1, 2, 3, 4), (1, 2, 3), (0, 1), (1, 1, 1, 2))
_EVENTS = st.lists(
    st.tuples(one_of_each(_TYPES, (1, 2, 3), (0, 1), (0, 1, 2)), st.lists(_READING, min_size=1, max_size=3)),
    min_size=1,
    max_size=7,
)


def _read(events: list[Any]) -> list[LoggedEvent]:
    found: list[LoggedEvent] = []
    for number, ((name, at, item, says), read) in enumerate(events):
        kind = EVENT_TYPES[name]
        told: dict[str, Any] = ({"name": f"n{number}", "responsible_user_id": number}, {"name": ""}, {})[says]
        for received, another, beside, revision in read:
            receipt = at if kind.deletes else received
            time = at if kind.fixed_time else another
            place = item if kind.deletes else beside
            data = {"lead": {**told, "price": (receipt, place, revision)}, "note": {"text": f"{receipt}.{place}"}}
            found.append(
                LoggedEvent(
                    1,
                    "lead",
                    "5",
                    kind,
                    f"event-{number}",
                    _EPOCH + dt.timedelta(seconds=time),
                    f"{0 if kind.creates else 1}-{receipt * 1_000_000:016d}-{place:06d}",
                    "received" if kind.deletes else "kommo",
                    revision,
                    "",
                    data,
                    0,
                    len(found),
                )
            )
    return found


READINGS = _EVENTS.map(_read)
"""Readings of a few events of one lead: few times, few sequences, two revisions; an id keeps its type and data.

Only calls have several times, and a delete happens at its own receipt.
"""


@given(READINGS, orders())
def test_a_state_is_the_same_in_whatever_order_its_events_are_read(
    events: list[LoggedEvent], rng: random.Random
) -> None:
    assert_any_order_gives_the_same_state(State, events, rng)


@given(READINGS)
def test_a_state_is_what_a_look_at_all_events_at_once_would_say(events: list[LoggedEvent]) -> None:
    """Written without the fold: choose each event's reading, sort, look at the end."""
    chosen: dict[str, LoggedEvent] = {}
    for event in events:
        key = (-event.time.timestamp(), -event.revision, event.sort_key)
        known = chosen.get(event.event_id)
        if known is None or key < (-known.time.timestamp(), -known.revision, known.sort_key):
            chosen[event.event_id] = event
    line = sorted(chosen.values(), key=lambda event: event.clock)
    run = list(itertools.takewhile(lambda event: event.kind.deletes, reversed(line)))
    newest = run[-1] if run else line[-1]
    alive = [event for event in line if event.kind.snapshot]
    titles = [event.data["lead"]["name"] for event in alive if "name" in event.data["lead"]]
    users = [event.data["lead"].get("responsible_user_id") for event in alive]
    users = [user for user in users if user is not None]
    deletes = [event for event in line if event.kind.deletes]
    title, kind, _, responsible, occurred_at, _, deleted, name = state_of(State, events).columns()
    assert (kind, occurred_at, name) == (newest.kind.name, newest.time, newest.event_id)
    assert title == (None if not titles else titles[-1] or "Lead 5")
    assert responsible == (users[-1] if users else None)
    assert deleted == bool(deletes and (not alive or deletes[-1].clock > alive[-1].clock))
