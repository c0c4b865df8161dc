"""activity_log, version 2: every event once, at the time it happened; the view works out what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from projections.columns import jsonb
from projections.months import Months
from projections.reading import LoggedEvent, read_record
from projections.snapshot import snapshot
from projections.summary import tell
from streams.topics import EVENTS

COLUMNS = (
    "account_id",
    "occurred_at",
    "event_id",
    "entity_type",
    "entity_id",
    "event_type",
    "actor_id",
    "summary",
    "changes",
    "outcome",
    "duration_ms",
    "correlation_id",
    "log_partition",
    "log_offset",
    "sort_key",
    "time_source",
    "revision",
    "floats",
    "snapshot",
)

_KEY = ("account_id", "occurred_at", "event_id")

_BATCH = """
CREATE TEMPORARY TABLE IF NOT EXISTS activity_log_v2_batch
    (LIKE kommo_projections.activity_log_v2) ON COMMIT DELETE ROWS
"""

# Of two readings of one event the higher revision counts, then the earlier receipt, then the earlier record.
_COUNTS_MORE = "(-{a}.revision, {a}.sort_key, {a}.log_offset) < (-{b}.revision, {b}.sort_key, {b}.log_offset)"

# Types whose id does not contain their time may come again with another time, so under another primary key.
_DROP_WORSE_TWINS = f"""
DELETE FROM kommo_projections.activity_log_v2 AS old USING activity_log_v2_batch AS new
WHERE new.event_id = ANY($1::uuid[]) AND old.event_id = new.event_id AND old.account_id = new.account_id
  AND old.occurred_at <> new.occurred_at AND {_COUNTS_MORE.format(a="new", b="old")}
"""  # noqa: S608 no value is in it
_SKIP_IF_WORSE = """
DELETE FROM activity_log_v2_batch AS new USING kommo_projections.activity_log_v2 AS old
WHERE new.event_id = ANY($1::uuid[]) AND old.event_id = new.event_id AND old.account_id = new.account_id
  AND old.occurred_at <> new.occurred_at
"""

_ANY_FLOATS = "SELECT EXISTS (SELECT FROM kommo_projections.activity_log_v2 WHERE floats)"
_THERE = """
SELECT account_id, event_id::text FROM kommo_projections.activity_log_v2
WHERE event_id = ANY($1::uuid[])
"""
_FLOATING_THERE = f"{_THERE} AND floats"

# An event's key is in one partition, whose position is locked by now: what is not there yet stays so until commit.
_KNOWN = """
SELECT account_id, event_id::text
FROM unnest($1::bigint[], $2::timestamptz[], $3::uuid[]) AS new (account_id, occurred_at, event_id)
JOIN kommo_projections.activity_log_v2 USING (account_id, occurred_at, event_id)
"""

_MERGE = f"""
INSERT INTO kommo_projections.activity_log_v2 AS old ({", ".join(COLUMNS)})
SELECT {", ".join(COLUMNS)} FROM activity_log_v2_batch
ON CONFLICT (account_id, occurred_at, event_id) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in _KEY)}
WHERE {_COUNTS_MORE.format(a="excluded", b="old")}
"""  # noqa: S608 no value is in it


_Id = tuple[int, str]


class ActivityLog:
    """Writes new rows by COPY, and merges those that may be there already so that the reading that counts is kept."""

    name = "activity_log"
    version = 2
    topic = EVENTS
    read = staticmethod(read_record)

    def __init__(self) -> None:
        self._months = Months("activity_log_v2")
        self._prepared: Any = None  # the connection that has the temporary table

    def folds(self, event: LoggedEvent) -> bool:
        """Every event is a line."""
        return True

    async def prepare(self, connection: Any, events: Sequence[LoggedEvent]) -> None:
        """Attach the months these events fall into."""
        await self._months.attach(connection, (event.time for event in events))
        if connection is not self._prepared:
            await connection.execute(_BATCH)
            self._prepared = connection

    async def write(self, connection: Any, events: Sequence[LoggedEvent]) -> None:
        """Write the lines of these events."""
        chosen: dict[_Id, LoggedEvent] = {}
        for event in events:
            name = (event.account_id, event.event_id)
            other = chosen.get(name)
            if other is None or _rank(event) < _rank(other):
                chosen[name] = event
        # These look for keys in indexes; without statistics of a new table the planner would read it whole.
        await connection.execute("SET LOCAL enable_seqscan = off")
        floating = await self._floating(connection, chosen)
        known = {*await self._known(connection, list(chosen.values())), *floating}
        if len(known) < len(chosen):
            # A generator: the server writes the first rows while the next are told.
            new = (_row(event) for name, event in chosen.items() if name not in known)
            await connection.copy_records_to_table(
                "activity_log_v2", schema_name="kommo_projections", records=new, columns=COLUMNS
            )
        if known:
            await self._merge(connection, [_row(chosen[name]) for name in known], [event for _, event in floating])

    async def _floating(self, connection: Any, chosen: Mapping[_Id, LoggedEvent]) -> set[_Id]:
        """Return which of these are there already, perhaps at another time."""
        found: list[Any] = []
        ids = [event.event_id for event in chosen.values() if not _time_is_fixed(event)]
        if ids:
            found += await connection.fetch(_THERE, ids)
        if await connection.fetchval(_ANY_FLOATS):
            found += await connection.fetch(_FLOATING_THERE, [event_id for _, event_id in chosen])
        return {(row[0], row[1]) for row in found} & chosen.keys()

    async def _known(self, connection: Any, events: Sequence[LoggedEvent]) -> list[_Id]:
        found = await connection.fetch(
            _KNOWN,
            [event.account_id for event in events],
            [event.time for event in events],
            [event.event_id for event in events],
        )
        return [(row[0], row[1]) for row in found]

    async def _merge(self, connection: Any, rows: list[tuple[Any, ...]], floating: list[str]) -> None:
        await connection.copy_records_to_table("activity_log_v2_batch", records=rows, columns=COLUMNS)
        if floating:
            await connection.execute(_DROP_WORSE_TWINS, floating)
            await connection.execute(_SKIP_IF_WORSE, floating)
        await connection.execute(_MERGE)


def _rank(event: LoggedEvent) -> tuple[int, str, int]:
    return (-event.revision, event.sort_key, event.offset)


def _time_is_fixed(event: LoggedEvent) -> bool:
    """Whether every reading of this event has this time.

    Not so, beside the types that say it: what carries no time; a time ahead of the receipt, which an earlier receipt
    may not have believed (schemas/decoder.py); a corrected reading, which may correct the time.
    """
    if event.kind.by_delivery:
        return True
    believed = event.kommo_time and event.time.timestamp() * 1_000_000 <= event.received_us
    return event.kind.fixed_time and believed and event.revision == 1


def _floats(event: LoggedEvent) -> bool:
    """Whether another reading of this event may have to replace it, and will not look for it.

    Types whose id never contains their time look for their twins themselves; of the others next to none float.
    """
    return event.revision > 1 or not (event.kommo_time or event.kind.by_delivery or not event.kind.fixed_time)


def _row(event: LoggedEvent) -> tuple[Any, ...]:
    story = tell(event)
    return (
        event.account_id,
        event.time,
        event.event_id,
        event.entity_type,
        event.entity_id,
        event.kind.name,
        story.actor_id,
        story.summary,
        jsonb(changes) if isinstance(changes := event.data.get("changes"), dict) else None,
        story.outcome,
        story.duration_ms,
        event.correlation_id,
        event.partition,
        event.offset,
        event.sort_key,
        event.time_source,
        event.revision,
        _floats(event),
        snapshot(event),
    )
