"""commands, version 1: one row per command, as the events of the agent `commands` tell its story.

The newest event says how it stands; what was asked for is in the first. What a command made or changed at Kommo is
kept beside it, by entity and Kommo's time, so that Kommo's own webhook of it is known as its effect.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from projections.columns import jsonb, number, text
from projections.folding import Folding, Key, Mark, Marks, State, earliest, keep_newest, keep_oldest, latest, moment
from projections.reading import LoggedEvent

_PREFIX = "kommo.command."
_STATES = {"admitted": "waiting", "retried": "waiting"}
_ENDED = ("succeeded", "failed")
_MAX_ERROR = 1000

_EFFECTS = """
INSERT INTO kommo_projections.command_effects_v1 (account_id, entity_type, entity_id, at, events, command_id)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[])
ON CONFLICT DO NOTHING
"""


@dataclass(slots=True)
class CommandState(State):
    """What a row is worked out from: `news` of the newest moment, `asked` of the oldest, `made` with its effects.

    `shown` has what of `news` is a column; `plan` the action's data, which only the first event has.
    """

    news: Marks = field(default_factory=dict)
    asked: Marks = field(default_factory=dict)
    plan: Marks = field(default_factory=dict)
    made: Marks = field(default_factory=dict)

    def fold(self, event: LoggedEvent) -> None:
        """Take one event in."""
        mark = Mark.of(event)
        told = _told(event)
        outcome = event.kind.name.removeprefix(_PREFIX)
        keep_newest(
            self.news,
            event.event_id,
            mark.saying(
                outcome,
                number(told.get("attempts")),
                text(told.get("error_class"), 40),
                text(told.get("error"), _MAX_ERROR),
                text(told.get("next_attempt_at"), 40),
                number(told.get("duration_ms")),
                number(told.get("total_ms")),
                text(told.get("decision"), 20),
            ),
        )
        said = mark.saying(text(told.get("action"), 60), text(told.get("entity"), 200), event.correlation_id)
        keep_oldest(self.asked, event.event_id, said)
        if isinstance(told.get("data"), dict):
            keep_oldest(self.plan, event.event_id, mark.saying(jsonb(told["data"]), text(told.get("after"), 64)))
        if isinstance(told.get("entities"), dict):
            keep_newest(self.made, event.event_id, mark.saying(jsonb(told["entities"])))

    def columns(self) -> tuple[Any, ...]:
        """Return the columns of Commands, in their order."""
        (at, _, event_id), news = latest(self.news)
        outcome, attempts, error_class, error, next_attempt_at, duration_ms, total_ms, decision = news.says
        (asked_at, _, _), asked = earliest(self.asked)
        action, entity, correlation_id = asked.says
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
            correlation_id,
            moment(at),
            event_id,
        )


def _told(event: LoggedEvent) -> dict[str, Any]:
    command = event.data.get("command")
    return command if isinstance(command, dict) else {}


def _time(value: str | None) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(value or "")
    except ValueError:
        return None
    return found.astimezone(dt.UTC) if found.tzinfo is not None else None


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


_ON_ENTITY = {"add_note": "kommo.note.", "send_email": "kommo.note.", "create_call_note": "kommo.call."}
"""Actions whose webhook is an event on the entity, of another kind than the entity's own."""

_MADE = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""Instead of Kommo's time, where its answer to a create does not say it: then the event is the entity's `added`."""


def _effects(event: LoggedEvent) -> list[tuple[int, str, str, dt.datetime, str, str]]:
    """Return (account, entity type, entity id, Kommo's time, the events' prefix, command) for each entity touched."""
    told = _told(event)
    entities, at, action = told.get("entities"), number(told.get("updated_at")), told.get("action")
    if not isinstance(entities, dict):
        return []
    time = moment(at * 1_000_000) if at is not None and 0 < at < 2**33 else _MADE
    return [
        (
            event.account_id,
            kind[:64],
            str(entity_id),
            time,
            _ON_ENTITY.get(str(action)) or f"kommo.{kind[:64]}.",
            event.entity_id,
        )
        for kind, entity_id in entities.items()
        if number(entity_id) is not None
    ]
