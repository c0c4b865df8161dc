"""Rows that are folded from their events: what a row's state keeps, and how the rows of a batch are read and written.

A row must be the same whatever order its events are read in, and a repeat read later can put an event earlier in its
second (of a repeat the smallest sequence counts). So a state keeps, for each column or group of columns, every event
of the newest second that says it, not only the winner: a partial body clears nothing, and an older one overwrites
nothing. Of a second with more than MOST_MARKS events the last ones are kept.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

import orjson

from projections.columns import text
from projections.reading import LoggedEvent, read_record
from streams.topics import EVENTS

Clock = tuple[int, str, str]
"""Microseconds since 1970, sort key, event id: an event's place in its entity's order."""

Key = tuple[Any, ...]
"""A row's primary key, the account first."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_MAX_LINK = 500
_PATHS = {
    "lead": "leads/detail/{}",
    "contact": "contacts/detail/{}",
    "company": "companies/detail/{}",
    "customer": "customers/detail/{}",
    "task": "todo/list/",
}
"""Where Kommo shows an entity; of the others no address of their own is known."""


def microseconds(time: dt.datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def moment(at: int) -> dt.datetime:
    """Return microseconds since 1970 as a time in UTC."""
    return _EPOCH + at * _MICROSECOND


@dataclass(slots=True)
class Mark:
    """One event as a state keeps it: its place, its reading, and what it says of the columns it moves."""

    at: int
    sort_key: str
    revision: int
    says: list[Any]

    @classmethod
    def of(cls, event: LoggedEvent) -> Self:
        """Return the mark of an event that says nothing."""
        return cls(microseconds(event.time), event.sort_key, event.revision, [])

    def saying(self, *says: Any) -> Mark:
        """Return a mark of the same event that says this."""
        return Mark(self.at, self.sort_key, self.revision, list(says))

    def clock(self, event_id: str) -> Clock:
        """The place of the event with this id."""
        return (self.at, self.sort_key, event_id)

    def counts_more(self, other: Mark) -> bool:
        """Whether this reading of the same event is the one that counts."""
        # Two gateways may receive two hooks of one move in one microsecond: then what they say decides.
        mine = (-self.revision, self.sort_key, repr(self.says))
        return mine < (-other.revision, other.sort_key, repr(other.says))


Marks = dict[str, Mark]
"""Marks by the id of their event."""

MOST_MARKS = 64
"""Events that one second's marks hold: a person makes a few, and a row must stay small whatever is sent."""


def keep(marks: Marks, event_id: str, mark: Mark) -> None:
    """Keep a mark, of two readings of one event the one that counts."""
    known = marks.get(event_id)
    if known is None or mark.counts_more(known):
        marks[event_id] = mark


def keep_newest(marks: Marks, event_id: str, mark: Mark) -> None:
    """Keep a mark where it is of the newest second, and no mark of an older one."""
    at = next(iter(marks.values())).at if marks else mark.at
    if mark.at > at:
        marks.clear()
    if mark.at >= at:
        keep(marks, event_id, mark)
    if len(marks) > MOST_MARKS:
        del marks[in_order(marks)[0]]


def keep_oldest(marks: Marks, event_id: str, mark: Mark) -> None:
    """Keep a mark where it is of the oldest second, and no mark of a newer one."""
    at = next(iter(marks.values())).at if marks else mark.at
    if mark.at < at:
        marks.clear()
    if mark.at <= at:
        keep(marks, event_id, mark)
    if len(marks) > MOST_MARKS:
        del marks[in_order(marks)[-1]]


def in_order(marks: Marks) -> list[str]:
    """Return the events of these marks in their entity's order."""
    return sorted(marks, key=lambda event_id: marks[event_id].clock(event_id))


def latest(marks: Marks) -> tuple[Clock, Mark]:
    """Return the last of these marks in their entity's order; there must be one."""
    if len(marks) == 1:
        ((event_id, mark),) = marks.items()
        return mark.clock(event_id), mark
    return max((mark.clock(event_id), mark) for event_id, mark in marks.items())


def earliest(marks: Marks) -> tuple[Clock, Mark]:
    """Return the first of these marks in their entity's order; there must be one."""
    return min((mark.clock(event_id), mark) for event_id, mark in marks.items())


def said(marks: Marks) -> Any:
    """Return what the last of these marks says of a single column, None where there is none."""
    return latest(marks)[1].says[0] if marks else None


@dataclass(slots=True)
class State:
    """What a row is worked out from. Its fields are Marks, and clocks; a field that is empty is not written."""

    def fold(self, event: LoggedEvent) -> None:
        """Take one event in; the result must not depend on the order of the calls, nor on repeats."""
        raise NotImplementedError

    def columns(self) -> tuple[Any, ...]:
        """Return the row's columns: those of its projection, without key and state."""
        raise NotImplementedError

    def to_json(self) -> str:
        """Return the state for the column `state`."""
        written: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            kept = getattr(self, name)
            if kept and type(kept) is dict:
                kept = {key: [mark.at, mark.sort_key, mark.revision, mark.says] for key, mark in kept.items()}
            if kept:
                written[name] = kept
        return orjson.dumps(written).decode()

    @classmethod
    def from_json(cls, value: str) -> Self:
        """Read the column `state`."""
        state = cls()
        for name, kept in orjson.loads(value).items():
            is_clock = type(kept) is list
            setattr(state, name, tuple(kept) if is_clock else {key: Mark(*mark) for key, mark in kept.items()})
        return state


@dataclass(slots=True)
class Life(State):
    """The part of a state that says what happened to an entity last, and whether it is there.

    `events`: of the newest second, without deletes. `deletes`: those that are not before it: deletes with nothing
    between them show as the first. `alive`: of the newest second with a snapshot, whatever it says. `deleted`: the
    newest delete.
    """

    events: Marks = field(default_factory=dict)
    deletes: Marks = field(default_factory=dict)
    alive: Marks = field(default_factory=dict)
    deleted: Clock | None = None

    def live(self, event: LoggedEvent, plain: Mark, *says: Any) -> None:
        """Take one event in, whose mark this is, as news that says this."""
        mark = plain.saying(*says)
        if event.kind.deletes:
            keep(self.deletes, event.event_id, mark)
            if len(self.deletes) > MOST_MARKS:  # the first ones show, the last ones may after a later event
                del self.deletes[in_order(self.deletes)[MOST_MARKS // 2]]
            clock = mark.clock(event.event_id)
            self.deleted = max(self.deleted, clock) if self.deleted else clock
        else:
            keep_newest(self.events, event.event_id, mark)
        if event.kind.snapshot:
            keep_newest(self.alive, event.event_id, plain)
        if self.events and self.deletes:
            # Those of the very same time stay: a repeat with a smaller sequence can put the event before them.
            newest = next(iter(self.events.values())).at
            self.deletes = {name: kept for name, kept in self.deletes.items() if kept.at >= newest}

    def news(self) -> tuple[Clock, Mark]:
        """Return the newest event, of deletes with nothing between them the first; live() must have been called."""
        newest = latest(self.events) if self.events else None
        after = ((kept.clock(name), kept) for name, kept in self.deletes.items())
        run = [pair for pair in after if newest is None or pair[0] > newest[0]]
        return min(run) if run else newest or latest(self.events)

    @property
    def is_deleted(self) -> bool:
        """Whether no snapshot is newer than the newest delete."""
        return self.deleted is not None and (not self.alive or self.deleted > latest(self.alive)[0])


def account_link(event: LoggedEvent) -> str | None:
    """Return the address of the event's account, https://SUBDOMAIN.kommo.com; None where the event does not say it."""
    account = event.data.get("account")
    link = account.get("link") if isinstance(account, dict) else None
    return link if text(link, _MAX_LINK) == link else None


def entity_url(link: str | None, entity_type: str, entity_id: str) -> str | None:
    """Return the address of an entity in Kommo, None where it is not known; tasks have only that of their list."""
    path = _PATHS.get(entity_type)
    return f"{link}/{path.format(entity_id)}" if path and link else None


S = TypeVar("S", bound=State)


class Folding(Generic[S]):
    """A projection that reads the rows a batch touches, folds its events into them, and writes them back.

    Nobody else may write these rows meanwhile. That is so where a row's events are all of one entity: they are in one
    partition, whose position is locked by now. Where they are of several, `lock` must see to it.

    The table is kommo_projections.NAME_vVERSION. `key` has the columns of its primary key and their types, `columns`
    the others as the state gives them; beside them is `state`, jsonb.
    """

    name: str
    version: int
    key: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    state: type[S]
    topic = EVENTS
    read = staticmethod(read_record)

    def __init__(self) -> None:
        self._prepared: Any = None  # the connection that has the temporary table
        table = f"{self.name}_v{self.version}"
        keys = ", ".join(name for name, _ in self.key)
        arrays = ", ".join(f"${number}::{kind}[]" for number, (_, kind) in enumerate(self.key, 1))
        moved = ", ".join(f"{name} = new.{name}" for name in (*self.columns, "state"))
        same = " AND ".join(f"old.{name} = new.{name}" for name, _ in self.key)
        self._table, self._batch = table, f"{table}_batch"
        # All of these texts are made of the names above.
        self._make = (
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {self._batch} (LIKE kommo_projections.{table}) ON COMMIT DELETE ROWS"
        )
        self._read = (
            f"SELECT {keys}, state FROM unnest({arrays}) AS wanted ({keys}) "  # noqa: S608
            f"JOIN kommo_projections.{table} USING ({keys})"
        )
        self._update = f"UPDATE kommo_projections.{table} AS old SET {moved} FROM {self._batch} AS new WHERE {same}"  # noqa: S608

    def folds(self, event: LoggedEvent) -> bool:
        """Whether this event makes or changes a row."""
        raise NotImplementedError

    def key_of(self, event: LoggedEvent) -> Key:
        """Return the key of the row that the event makes or changes."""
        raise NotImplementedError

    async def lock(self, connection: Any, keys: Sequence[Key]) -> None:
        """Keep others from writing these rows until the transaction ends."""

    async def prepare(self, connection: Any, events: Sequence[LoggedEvent]) -> None:
        """Make the temporary table."""
        if connection is not self._prepared:
            await connection.execute(self._make)
            self._prepared = connection

    async def write(self, connection: Any, events: Sequence[LoggedEvent]) -> None:
        """Fold these events into their rows."""
        touched: dict[Key, list[LoggedEvent]] = {}
        for event in events:
            touched.setdefault(self.key_of(event), []).append(event)
        await self.lock(connection, list(touched))
        states = await self._states(connection, list(touched))
        new: list[tuple[Any, ...]] = []
        changed: list[tuple[Any, ...]] = []
        for key, news in touched.items():
            known = states.get(key)
            state = known or self.state()
            before = state.to_json() if known else None
            for event in news:
                state.fold(event)
            after = state.to_json()
            if after != before:
                (changed if known else new).append((*key, *state.columns(), after))
        columns = (*(name for name, _ in self.key), *self.columns, "state")
        if new:
            await connection.copy_records_to_table(
                self._table, schema_name="kommo_projections", records=new, columns=columns
            )
        if changed:
            await connection.copy_records_to_table(self._batch, records=changed, columns=columns)
            await connection.execute(self._update)

    async def _states(self, connection: Any, keys: list[Key]) -> dict[Key, S]:
        found = await connection.fetch(self._read, *(list(part) for part in zip(*keys, strict=True)))
        return {tuple(row)[:-1]: self.state.from_json(row["state"]) for row in found}
