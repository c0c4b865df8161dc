"""tasks, version 1: one row per task as its newest snapshots describe it.

Each column moves by its own clock (projections/folding.py): a body that does not have a field leaves its column as it
was. A field that is there and empty says that there is none, so it clears a deadline, or what the task is on.

Whether and when a task was closed and reopened is seen in the order of its snapshots: status 0 after 1 is a
reopening. A late snapshot may come between any two, so the statuses of the newest STATUS_SECONDS seconds with a
snapshot are kept, each at its place. What is older is forgotten: the row stays bounded, and depends on nothing but
which events there are.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from projections import task_fields
from projections.columns import number, text
from projections.folding import (
    Folding,
    Key,
    Life,
    Mark,
    Marks,
    account_link,
    entity_url,
    in_order,
    keep,
    keep_newest,
    latest,
    moment,
    said,
)
from projections.reading import LoggedEvent
from schemas.wire import text_time

STATUS_SECONDS = 100
"""Of how many seconds with a snapshot the statuses are kept, the newest."""

_MOST_STATUSES = 400  # a second has one snapshot, seldom more

_OPEN, _DONE = 0, 1
_MAX_TEXT = 2000


@dataclass(slots=True)
class State(Life):
    """What a row is worked out from.

    `statuses`: each snapshot's status, of the newest seconds, by event id and time: a body without a time of Kommo's
    has one at each receipt. The others: of the newest second with a snapshot that says the column, saying it; times in
    microseconds since 1970. `on` says entity type and id, `links` the account's address.
    """

    statuses: Marks = field(default_factory=dict)
    texts: Marks = field(default_factory=dict)
    types: Marks = field(default_factory=dict)
    on: Marks = field(default_factory=dict)
    responsible: Marks = field(default_factory=dict)
    deadlines: Marks = field(default_factory=dict)
    results: Marks = field(default_factory=dict)
    created: Marks = field(default_factory=dict)
    links: Marks = field(default_factory=dict)

    def fold(self, event: LoggedEvent) -> None:
        """Take one event in."""
        mark = Mark.of(event)
        self.live(event, mark)
        link = account_link(event)
        if link is not None:
            keep_newest(self.links, event.event_id, mark.saying(link))
        found = event.data.get("task")
        if not event.kind.snapshot or not isinstance(found, dict):
            return
        if found.get("status") in (_OPEN, _DONE) and type(found["status"]) is int:
            self._keep_status(event.event_id, mark.saying(found["status"]))
        for marks, column in (
            (self.texts, text(found.get("text"), _MAX_TEXT)),
            (self.types, number(found.get("task_type"))),
            (self.responsible, number(found.get("responsible_user_id"))),
            (self.results, _result(found)),
            (
                self.created,
                task_fields.from_unix_seconds(found.get("created_at")) or text_time(found.get("date_create")),
            ),
        ):
            if column is not None:
                keep_newest(marks, event.event_id, mark.saying(column))
        for marks, says in ((self.on, task_fields.on(found)), (self.deadlines, task_fields.deadline(found))):
            if says is not None:
                keep_newest(marks, event.event_id, mark.saying(*says))

    def _keep_status(self, event_id: str, mark: Mark) -> None:
        # By id and time, so that no later reading of an event at another time takes this one away: what has been left
        # out for being too old could not come back.
        keep(self.statuses, f"{event_id}@{mark.at}", mark)
        if len(self.statuses) > STATUS_SECONDS:
            kept = set(sorted({mark.at for mark in self.statuses.values()})[-STATUS_SECONDS:])
            self.statuses = {name: other for name, other in self.statuses.items() if other.at in kept}
        if len(self.statuses) > _MOST_STATUSES:
            del self.statuses[in_order(self.statuses)[0]]

    def columns(self) -> tuple[Any, ...]:
        """Return the columns of Tasks, in their order."""
        clock, _ = self.news()
        entity_type, entity_id = latest(self.on)[1].says if self.on else (None, None)
        status, completed_at, reopened_at = self._closing()
        return (
            "deleted" if self.is_deleted else "completed" if status == _DONE else "open",
            said(self.texts),
            said(self.types),
            entity_type,
            entity_id,
            said(self.responsible),
            _time(said(self.deadlines)),
            said(self.results),
            _time(said(self.created)),
            _time(completed_at),
            _time(reopened_at),
            moment(clock[0]),
            entity_url(said(self.links), "task", ""),
            clock[2],
        )

    def _closing(self) -> tuple[int | None, int | None, int | None]:
        """Return the status now, since when the task is closed (None: it is open), and when it was last reopened."""
        status = completed_at = reopened_at = None
        for (at, _, _), now in sorted((mark.clock(name), mark.says[0]) for name, mark in self.statuses.items()):
            if now == _DONE and status != _DONE:
                completed_at = at
            elif now == _OPEN:
                completed_at = None
                if status == _DONE:
                    reopened_at = at
            status = now
        return status, completed_at, reopened_at


def _time(at: int | None) -> dt.datetime | None:
    return None if at is None else moment(at)


def _result(fields: Mapping[str, Any]) -> str | None:
    result = fields.get("result")
    return text(result.get("text"), _MAX_TEXT) if isinstance(result, dict) else None


class Tasks(Folding[State]):
    """Folds the events of a task into its row."""

    name = "tasks"
    version = 1
    key = (("account_id", "bigint"), ("task_id", "text"))
    columns = (
        "status",
        "text",
        "task_type",
        "entity_type",
        "entity_id",
        "responsible_user_id",
        "deadline",
        "result",
        "created_at",
        "completed_at",
        "reopened_at",
        "occurred_at",
        "url",
        "event_id",
    )
    state = State

    def folds(self, event: LoggedEvent) -> bool:
        """What happened to a task itself; a note on it changes nothing of it."""
        return event.entity_type == "task" and event.kind.name.startswith("kommo.task.")

    def key_of(self, event: LoggedEvent) -> Key:
        """The task."""
        return (event.account_id, event.entity_id)
