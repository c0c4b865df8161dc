"""commands, version 1: one row per command, as the events of the agent `commands` tell its story.

The last event says how it stands; what was asked for is in the first. The order is that of the attempts, not of the
clocks: each attempt may be told by another machine. What a command made or changed at Kommo is kept beside it, by
entity and Kommo's time, so that Kommo's own webhook of it is known as its effect.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from projections.columns import jsonb, number, text
from projections.folding import Folding, Key, Mark, Marks, State, earliest, keep_newest, keep_oldest, latest, moment
from projections.folding import microseconds as micro
from projections.reading import LoggedEvent

_PREFIX = "kommo.command."
_STATES = {"admitted": "waiting", "retried": "waiting"}
_ENDED = ("succeeded", "failed")
_MAX_ERROR = 1000
_MOST_ATTEMPTS = 2**31

_EFFECTS = """
INSERT INTO kommo_projections.command_effects_v1 AS old
    (account_id, entity_type, entity_id, at, events, command_id, asked_at)
SELECT account_id, entity_type, entity_id, at, events, command_id, min(asked_at)
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::timestamptz[])
    AS new (account_id, entity_type, entity_id, at, events, command_id, asked_at)
GROUP BY account_id, entity_type, entity_id, at, events, command_id
ON CONFLICT (account_id, entity_type, entity_id, at, events, command_id)
    DO UPDATE SET asked_at = excluded.asked_at WHERE excluded.asked_at < old.asked_at
"""


@dataclass(slots=True)
class CommandState(State):
    """What a row is worked out from; the time of its marks is their stage, their first word when it was, microseconds.

    `news`: of the last stage. `asked`: of the first. `plan`: the action's data, which only the first event has.
    `made`: the entities made or changed.
    """

    news: Marks = field(default_factory=dict)
    asked: Marks = field(default_factory=dict)
    plan: Marks = field(default_factory=dict)
    made: Marks = field(default_factory=dict)

    def fold(self, event: LoggedEvent) -> None:
        """Take one event in."""
        told = _told(event)
        mark = Mark(_stage(event, told), event.sort_key, event.revision, [])
        at = micro(event.time)
        keep_newest(
            self.news,
            event.event_id,
            mark.saying(
                at,
                event.kind.name.removeprefix(_PREFIX),
                number(told.get("attempts")),
                text(told.get("error_class"), 40),
                text(told.get("error"), _MAX_ERROR),
                text(told.get("next_attempt_at"), 40),
                number(told.get("duration_ms")),
                number(told.get("total_ms")),
                text(told.get("decision"), 20),
            ),
        )
        said = (text(told.get("action"), 60), text(told.get("entity"), 200), event.correlation_id)
        keep_oldest(self.asked, event.event_id, mark.saying(at, *said))
        if isinstance(told.get("data"), dict):
            keep_oldest(self.plan, event.event_id, mark.saying(jsonb(told["data"]), text(told.get("after"), 64)))
        if isinstance(told.get("entities"), dict):
            keep_newest(self.made, event.event_id, mark.saying(jsonb(told["entities"])))

    def columns(self) -> tuple[Any, ...]:
        """Return the columns of Commands, in their order."""
        (_, _, event_id), news = latest(self.news)
        at, outcome, attempts, error_class, error, next_attempt_at, duration_ms, total_ms, decision = news.says
        asked_at, action, entity, correlation_id = earliest(self.asked)[1].says
        entity_type, _, entity_id = (entity or "command/").partition("/")
        state = _STATES.get(outcome, outcome)
        data, after = earliest(self.plan)[1].says if self.plan else (None, None)
        return (
            action or "unknown",
            entity_type,
            entity_id,
            state,
            attempts or 0,
            None if state == "succeeded" else error_class,
            None if state == "succeeded" else error,
            _time(next_attempt_at) if state == "waiting" else None,
            moment(asked_at),
            moment(at) if state in _ENDED else None,
            duration_ms,
            total_ms,
            latest(self.made)[1].says[0] if self.made else None,
            decision,
            after,
            data,
            text(correlation_id, 200) or "",
            moment(at),
            event_id,
        )


def _told(event: LoggedEvent) -> dict[str, Any]:
    command = event.data.get("command")
    return command if isinstance(command, dict) else {}


def _stage(event: LoggedEvent, told: dict[str, Any]) -> int:
    """Return where an event stands in its command's story: the attempt, how that ended, what a person then decided."""
    attempt = min(max(number(told.get("attempts")) or 0, 0), _MOST_ATTEMPTS)
    step = 0 if event.kind.creates else 2 if told.get("decision") else 1
    return 3 * attempt + step


def _time(value: str | None) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(value or "")
        return found.astimezone(dt.UTC) if found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


class Commands(Folding[CommandState]):
    """Folds the events of a command into its row, and keeps its effects."""

    name = "commands"
    version = 1
    key = (("account_id", "bigint"), ("command_id", "text"))
    columns = (
        "action",
        "entity_type",
        "entity_id",
        "status",
        "attempts",
        "error_class",
        "error",
        "next_attempt_at",
        "admitted_at",
        "ended_at",
        "duration_ms",
        "total_ms",
        "entities",
        "decision",
        "after",
        "data",
        "correlation_id",
        "occurred_at",
        "event_id",
    )
    state = CommandState

    def folds(self, event: LoggedEvent) -> bool:
        """What an agent tells of a command."""
        return event.entity_type == "command" and event.kind.name.startswith(_PREFIX)

    def key_of(self, event: LoggedEvent) -> Key:
        """The command."""
        return (event.account_id, event.entity_id)

    async def write(self, connection: Any, events: Sequence[LoggedEvent]) -> None:
        """Fold these events into their rows, and keep what they say was made or changed."""
        await super().write(connection, events)
        effects = [effect for event in events for effect in _effects(event)]
        if effects:
            await connection.execute(_EFFECTS, *(list(column) for column in zip(*effects, strict=True)))


class _Effect(NamedTuple):
    account_id: int
    entity_type: str
    entity_id: str
    at: dt.datetime
    events: str
    command_id: str
    asked_at: dt.datetime


_ON_ENTITY = {"add_note": "kommo.note.", "send_email": "kommo.note.", "create_call_note": "kommo.call."}
"""Actions that put something on an entity, and how the events of their webhooks begin."""

_MAKES = {
    "create_lead": ("lead", "contact"),
    "create_contact": ("contact",),
    "create_task": ("task",),
    "create_meeting_note": ("task",),
}
"""Which entities an action may have made."""

ADDED = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""Instead of Kommo's time, which its answer to a create need not say: the effect is that the entity was added."""


def _effects(event: LoggedEvent) -> list[_Effect]:
    """Return what is kept of each entity that a command touched."""
    told = _told(event)
    entities, updated_at, action = told.get("entities"), number(told.get("updated_at")), str(told.get("action"))
    if not isinstance(entities, dict):
        return []
    total_ms = number(told.get("total_ms")) or 0
    asked_at = event.time - dt.timedelta(milliseconds=min(max(total_ms, 0), 10**10))
    at = moment(updated_at * 1_000_000) if updated_at is not None and 0 < updated_at < 2**33 else None
    found = []
    for name, entity_id in entities.items():
        kind = text(name, 64)
        if kind is None or number(entity_id) is None:
            continue
        entity = (event.account_id, kind, str(entity_id))
        if kind in _MAKES.get(action, ()):
            found.append(_Effect(*entity, ADDED, f"kommo.{kind}.added", event.entity_id, asked_at))
        # A meeting is made and, where it is over, closed.
        if at is not None and (action not in _MAKES or action == "create_meeting_note"):
            events = _ON_ENTITY.get(action, f"kommo.{kind}.")
            found.append(_Effect(*entity, at, events, event.entity_id, asked_at))
    return found
