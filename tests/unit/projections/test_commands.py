"""The state of a row of commands by itself: the same in whatever order its events are read."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given

from projections.commands import CommandState
from projections.reading import LoggedEvent
from tests.support.outcomes import ONE, TELLINGS, Telling, told_log
from tests.support.worlds import assert_any_order_gives_the_same_state, orders, state_of


@given(TELLINGS, orders())
def test_a_state_is_the_same_in_whatever_order_its_events_are_read(world: list[Telling], rng: random.Random) -> None:
    # Even where one id is told twice with other words, as no agent does.
    events = [event for event in told_log(world, only_first=False).events if event.entity_id == ONE]
    if not events:
        return
    assert_any_order_gives_the_same_state(CommandState, events, rng)


@given(TELLINGS)
def test_a_row_is_what_a_look_at_all_events_at_once_would_say(world: list[Telling]) -> None:
    """Written without the fold: sort by attempt, then by who tells it, then by time; look at both ends."""
    events = [event for event in told_log(world).events if event.entity_id == ONE]
    if not events:
        return

    def place(event: LoggedEvent) -> tuple[Any, ...]:
        said = event.data["command"]
        step = ("admitted" not in event.kind.name) + ("decision" in said and "admitted" not in event.kind.name)
        return said.get("attempts", 0), step, event.sort_key, event.event_id

    line = sorted(events, key=place)
    state = state_of(CommandState, events).columns()
    outcome = line[-1].kind.name.rpartition(".")[2]
    assert state[3] == {"admitted": "waiting", "retried": "waiting"}.get(outcome, outcome)
    assert (state[-2], state[-1]) == (line[-1].time, line[-1].event_id)
    assert state[0] == line[0].data["command"]["action"]
    made = [event.data["command"]["entities"] for event in line if "entities" in event.data["command"]]
    assert json.loads(state[12] or "null") == ((made[-1] or None) if made else None)
