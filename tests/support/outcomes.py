"""What an agent tells of commands, as events of a log, and worlds of it for properties."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from projections.reading import LoggedEvent
from schemas.outcome import Outcome, outcome_event
from tests.support.projections import ACCOUNT, T0, Log
from tests.support.worlds import one_of_each, some_of

ONE, TWO, THREE = (f"0192f3c1-7c1b-7d0e-8a6f-00000000000{number}" for number in (1, 2, 3))


def told(
    log: Log, outcome: Outcome, at: float, command_id: str = ONE, *, attempt: int = 1, **facts: Any
) -> LoggedEvent:
    """Append what the agent tells of a command at this unix time."""
    said = {"id": command_id, "action": "add_note", "entity": "lead/7", **facts}
    if outcome != "admitted":
        said["attempts"] = attempt
    value = outcome_event(
        outcome,
        said,
        account_id=ACCOUNT,
        correlation_id=f"of-{command_id[-1]}",
        attempt=0 if outcome == "admitted" else attempt,
        at_us=round(at * 1_000_000),
    ).value
    return log.append(value)


_OUTCOMES: tuple[Outcome, ...] = ("admitted", "succeeded", "retried", "failed", "unknown")


@dataclasses.dataclass(frozen=True)
class Telling:
    """One thing an agent tells of one of two commands."""

    outcome: Outcome
    command: str
    second: int
    attempt: int
    action: str
    entities: dict[str, int] | None
    updated_at: int | None
    decision: str | None


_ACTIONS = ("add_note", "create_lead", "update_lead", "create_meeting_note")
TELLINGS = st.lists(
    st.tuples(
        one_of_each(_OUTCOMES, (ONE, TWO), (0, 1, 2, 3), (0, 1, 2), _ACTIONS),
        st.none() | some_of(lead=(1, 2), contact=(1, 2), task=(1, 2), note=(1, 2)),
        one_of_each((None, T0, T0 + 1), (None, None, "repeat", "done")),
    ).map(lambda drawn: Telling(*drawn[0], drawn[1], *drawn[2])),
    min_size=1,
    max_size=12,
)


def told_log(world: Iterable[Telling], *, only_first: bool = True) -> Log:
    """The log of a world; an event id is told by its command, outcome and attempt, so only once."""
    log, seen = Log(), set()
    for number, item in enumerate(world):
        name = (item.command, item.outcome, 0 if item.outcome == "admitted" else item.attempt)
        if only_first and name in seen:
            continue
        seen.add(name)
        told(
            log,
            item.outcome,
            T0 + item.second,
            item.command,
            attempt=item.attempt,
            action=item.action,
            entities=item.entities,
            updated_at=item.updated_at,
            decision=item.decision,
            error=f"e{number}",
            total_ms=100 * number,
            data={"n": number} if item.outcome == "admitted" else None,
        )
    return log
