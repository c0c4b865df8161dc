"""recent_updates, version 1: one row per lead, contact, company, customer, task, incoming lead, list element and chat.

Each group of columns moves by its own clock: what happened last comes from the newest event, what the entity is
called, who is responsible and where it is from the newest snapshot that says so: a partial body clears nothing. A
note, a call or a message is news of the lead, contact or company it is on.

The row must be the same whatever order events are read in, and a repeat read later can put an event earlier in its
second (of a repeat the smallest sequence counts). So a row's state keeps every event of the newest second, not only
the winner, and every delete that is not before the newest other event (deletes with nothing between them show as the
first).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from projections.columns import number, text
from projections.reading import LoggedEvent
from projections.summary import tell, title

ENTITIES = frozenset(
    {"lead", "contact", "company", "customer", "task", "unsorted", "catalog_element", "talk", "message"}
)
NO_NEWS = frozenset({"kommo.unrecognized", "kommo.digital_pipeline.triggered", "kommo.salesbot.requested"})
"""What is told of an entity and says nothing of it: a hook of a pipeline comes beside the webhook of the move."""

_MAX_TITLE = 300
_PATHS = {
    "lead": "leads/detail/{}",
    "contact": "contacts/detail/{}",
    "company": "companies/detail/{}",
    "customer": "customers/detail/{}",
    "task": "todo/list/",
}
"""Where Kommo shows an entity; of the others no address of their own is known."""

Clock = tuple[int, str, str]
"""Microseconds since 1970, sort key, event id: an event's place in its entity's order."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


@dataclass(slots=True)
class Mark:
    """One event as the state keeps it: its place, its reading, and what it says of the columns it moves."""

    at: int
    sort_key: str
    revision: int
    says: list[Any]

    def clock(self, event_id: str) -> Clock:
        """The place of the event with this id."""
        return (self.at, self.sort_key, event_id)

    def counts_more(self, other: Mark) -> bool:
        """Whether this reading of the same event is the one that counts."""
        # Two gateways may receive two hooks of one move in one microsecond: then what they say decides.
        mine = (-self.revision, self.sort_key, repr(self.says))
        return mine < (-other.revision, other.sort_key, repr(other.says))


Marks = dict[str, Mark]


@dataclass(slots=True)
class State:
    """What a row is worked out from.

    `events`: of the newest second, without deletes, saying [type, summary]. `deletes`: those of that time and later,
    likewise. `titles`, `responsible`, `links`: of the newest second with a snapshot that says the column, saying it.
    `alive`: of the newest second with a snapshot, whatever it says. `deleted`: the newest delete.
    """

    events: Marks = field(default_factory=dict)
    deletes: Marks = field(default_factory=dict)
    titles: Marks = field(default_factory=dict)
    responsible: Marks = field(default_factory=dict)
    links: Marks = field(default_factory=dict)
    alive: Marks = field(default_factory=dict)
    deleted: Clock | None = None

    def fold(self, event: LoggedEvent) -> None:
        """Take one event in."""
        at = (event.time - _EPOCH) // _MICROSECOND
        clock = (at, event.sort_key, event.event_id)

        def mark(*says: Any) -> Mark:
            return Mark(at, event.sort_key, event.revision, list(says))

        if event.kind.deletes:
            _keep(self.deletes, event.event_id, mark(event.kind.name, tell(event).summary))
            self.deleted = max(self.deleted, clock) if self.deleted else clock
        else:
            _keep_newest(self.events, event.event_id, mark(event.kind.name, tell(event).summary))
        if event.kind.snapshot:
            _keep_newest(self.alive, event.event_id, mark())
            name, responsible = title(event), _responsible(event)
            if name is not None:
                _keep_newest(self.titles, event.event_id, mark(text(name, _MAX_TITLE)))
            if responsible is not None:
                _keep_newest(self.responsible, event.event_id, mark(responsible))
        url = _url(event)
        if url is not None:
            _keep_newest(self.links, event.event_id, mark(url))
        if self.events and self.deletes:
            # Those of the very same time stay: a repeat with a smaller sequence can put the event before them.
            newest = next(iter(self.events.values())).at
            self.deletes = {name: kept for name, kept in self.deletes.items() if kept.at >= newest}

    def columns(self) -> tuple[Any, ...]:
        """Return title, event_type, summary, responsible_user_id, occurred_at, url, deleted, event_id."""
        name, responsible, url = (
            _latest(marks)[1].says[0] if marks else None for marks in (self.titles, self.responsible, self.links)
        )
        newest = _latest(self.events) if self.events else None
        after = ((kept.clock(name), kept) for name, kept in self.deletes.items())
        run = [pair for pair in after if newest is None or pair[0] > newest[0]]
        clock, mark = min(run) if run else newest or _latest(self.events)
        kind, summary = mark.says
        deleted = self.deleted is not None and (not self.alive or self.deleted > _latest(self.alive)[0])
        return (name, kind, summary, responsible, _EPOCH + clock[0] * _MICROSECOND, url, deleted, clock[2])

    def to_json(self) -> str:
        """Return the state for the column `state`."""
        written: dict[str, Any] = {}
        for name in _MARKS:
            kept: Marks = getattr(self, name)
            if kept:
                written[name] = {key: [mark.at, mark.sort_key, mark.revision, mark.says] for key, mark in kept.items()}
        if self.deleted:
            written["deleted"] = self.deleted
        return orjson.dumps(written).decode()

    @classmethod
    def from_json(cls, value: str) -> State:
        """Read the column `state`."""
        found = orjson.loads(value)
        state = cls()
        for name in _MARKS:
            setattr(state, name, {key: Mark(*mark) for key, mark in found.get(name, {}).items()})
        state.deleted = tuple(found["deleted"]) if "deleted" in found else None
        return state


_MARKS = ("events", "deletes", "titles", "responsible", "links", "alive")


def _keep(marks: Marks, event_id: str, mark: Mark) -> None:
    known = marks.get(event_id)
    if known is None or mark.counts_more(known):
        marks[event_id] = mark


def _keep_newest(marks: Marks, event_id: str, mark: Mark) -> None:
    at = next(iter(marks.values())).at if marks else mark.at
    if mark.at > at:
        marks.clear()
    if mark.at >= at:
        _keep(marks, event_id, mark)


def _latest(marks: Marks) -> tuple[Clock, Mark]:
    if len(marks) == 1:
        ((event_id, mark),) = marks.items()
        return mark.clock(event_id), mark
    return max((mark.clock(event_id), mark) for event_id, mark in marks.items())


def _responsible(event: LoggedEvent) -> int | None:
    fields = event.data.get(event.entity_type)
    return number(fields.get("responsible_user_id")) if isinstance(fields, dict) else None


def _url(event: LoggedEvent) -> str | None:
    account = event.data.get("account")
    link = account.get("link") if isinstance(account, dict) else None
    path = _PATHS.get(event.entity_type)
    return f"{link}/{path.format(event.entity_id)}" if path and isinstance(link, str) else None


Key = tuple[int, str, str]

_COLUMNS = (
    "account_id",
    "entity_type",
    "entity_id",
    "title",
    "event_type",
    "summary",
    "responsible_user_id",
    "occurred_at",
    "url",
    "deleted",
    "event_id",
    "state",
)

_BATCH = """
CREATE TEMPORARY TABLE IF NOT EXISTS recent_updates_v1_batch
    (LIKE kommo_projections.recent_updates_v1) ON COMMIT DELETE ROWS
"""
_READ = """
SELECT account_id, entity_type, entity_id, state
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS wanted (account_id, entity_type, entity_id)
JOIN kommo_projections.recent_updates_v1 USING (account_id, entity_type, entity_id)
"""
_UPDATE = f"""
UPDATE kommo_projections.recent_updates_v1 AS old SET {", ".join(f"{name} = new.{name}" for name in _COLUMNS[3:])}
FROM recent_updates_v1_batch AS new
WHERE old.account_id = new.account_id AND old.entity_type = new.entity_type AND old.entity_id = new.entity_id
"""  # noqa: S608 no value is in it


class RecentUpdates:
    """Reads the rows a batch touches, folds its events into them, and writes them back.

    All events of an entity are in one partition, and the position of that partition is locked by now: nobody else
    writes these rows.
    """

    name = "recent_updates"
    version = 1

    def __init__(self) -> None:
        self._prepared: Any = None  # the connection that has the temporary table

    def folds(self, event: LoggedEvent) -> bool:
        """What happened to an entity, also through its notes, calls and messages."""
        return event.entity_type in ENTITIES and event.kind.name not in NO_NEWS

    async def prepare(self, connection: Any, events: Sequence[LoggedEvent]) -> None:
        """Make the temporary table."""
        if connection is not self._prepared:
            await connection.execute(_BATCH)
            self._prepared = connection

    async def write(self, connection: Any, events: Sequence[LoggedEvent]) -> None:
        """Fold these events into their rows."""
        touched: dict[Key, list[LoggedEvent]] = {}
        for event in events:
            touched.setdefault((event.account_id, event.entity_type, event.entity_id), []).append(event)
        states = await self._states(connection, list(touched))
        new: list[tuple[Any, ...]] = []
        changed: list[tuple[Any, ...]] = []
        for key, news in touched.items():
            known = states.get(key)
            state = known or State()
            before = state.to_json() if known else None
            for event in news:
                state.fold(event)
            after = state.to_json()
            if after != before:
                (changed if known else new).append((*key, *state.columns(), after))
        if new:
            await connection.copy_records_to_table(
                "recent_updates_v1", schema_name="kommo_projections", records=new, columns=_COLUMNS
            )
        if changed:
            await connection.copy_records_to_table("recent_updates_v1_batch", records=changed, columns=_COLUMNS)
            await connection.execute(_UPDATE)

    async def _states(self, connection: Any, keys: list[Key]) -> dict[Key, State]:
        found = await connection.fetch(_READ, *(list(part) for part in zip(*keys, strict=True)))
        return {(row[0], row[1], row[2]): State.from_json(row[3]) for row in found}
