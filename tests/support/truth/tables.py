"""The tables as people read them: events written by the projections themselves, and read through the views."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any

import asyncpg

from projections.names import PROJECTIONS
from projections.projection import Projection
from projections.projector import made
from projections.reading import LoggedEvent
from streams.topics import EVENTS
from tests.support.projections import write

SECOND = 1_000_000
LARGEST_BATCH = 5000  # rows, as the projector's are

Row = dict[str, Any]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Shown:
    """What the views show of one account; times are microseconds since 1970."""

    activity_log: list[Row]
    recent_updates: list[Row]
    tasks: list[Row]
    calls: list[Row]


async def shown(connection: Any, account: int) -> Shown:
    """Read the views. Of the activity log what the truth knows: to tell each line's changes takes minutes."""

    async def rows(view: str, columns: str = "*") -> list[Row]:
        found = await connection.fetch(f"SELECT {columns} FROM kommo.{view} WHERE account_id = $1", account)
        return [{name: _plain(value) for name, value in row.items()} for row in found]

    lines = await rows("activity_log", "event_id, event_type, entity_type, entity_id, occurred_at")
    return Shown(lines, await rows("recent_updates"), await rows("tasks"), await rows("calls"))


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return (value - _EPOCH) // dt.timedelta(microseconds=1)
    return value if value is None or isinstance(value, str | int) else str(value)


async def write_all(database: str, logs: Iterable[Sequence[LoggedEvent]], seed: int) -> None:
    """Write the events of several logs, in the order of receipt, into the tables of every projection.

    The tables must be there and empty. As in the projector each projection has a connection and batches of its own.
    """
    events = list(merge(*logs, key=lambda event: event.received_us))
    await asyncio.gather(
        *(
            _write(database, made(name), events, random.Random(f"{seed} {name}"))
            for name in PROJECTIONS
            if made(name).topic == EVENTS
        )
    )


async def _write(database: str, projection: Projection, events: Sequence[LoggedEvent], rng: random.Random) -> None:
    connection = await asyncpg.connect(database)
    try:
        for batch in _cut(events, rng):
            await write(connection, projection, batch)
    finally:
        await connection.close()


def _cut(events: Iterable[LoggedEvent], rng: random.Random) -> Iterator[list[LoggedEvent]]:
    left = iter(events)
    while batch := list(islice(left, rng.randint(1, LARGEST_BATCH))):
        yield batch
