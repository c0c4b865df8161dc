"""Positions in PostgreSQL: how far a projection has read each partition, and the identity of the log it read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from projections.projection import Projection, label


class ProjectionStopped(Exception):
    """A projection must not go on by itself; the message says what is wrong and what to do."""


class PositionMoved(Exception):
    """Another process wrote this partition meanwhile: the position must be read again."""


@dataclass(frozen=True, slots=True)
class Step:
    """One partition's way through a batch: from a position to the next, and what the last record read was."""

    start: int
    end: int
    last_event_id: str


@dataclass(frozen=True, slots=True)
class Position:
    """Where to go on, and the record before it, None at the log's beginning."""

    position: int
    last_event_id: str | None


_READ = """
SELECT partition, topic, cluster_id, position, last_event_id FROM kommo_projections.positions
WHERE projection = $1 AND version = $2 AND partition = ANY($3::int[])
"""
_BEGIN = """
INSERT INTO kommo_projections.positions (projection, version, partition, topic, cluster_id, position)
SELECT $1, $2, partition, $4, $5, 0 FROM unnest($3::int[]) AS partition
ON CONFLICT DO NOTHING
"""
# Compare and set. The rows are locked in one order, so that two writers never wait for each other.
_ADVANCE = """
WITH step AS (
    SELECT * FROM unnest($3::int[], $4::bigint[], $5::bigint[], $6::text[]) AS s (partition, start, stop, last_id)
), locked AS (
    SELECT p.partition FROM kommo_projections.positions AS p JOIN step USING (partition)
    WHERE p.projection = $1 AND p.version = $2 AND p.position = step.start
    ORDER BY p.partition FOR UPDATE OF p
)
UPDATE kommo_projections.positions AS p
SET position = step.stop, last_event_id = step.last_id, updated_at = now()
FROM step JOIN locked USING (partition)
WHERE p.projection = $1 AND p.version = $2 AND p.partition = step.partition AND p.position = step.start
RETURNING p.partition
"""


class Positions:
    """The positions of one version of one projection."""

    def __init__(self, projection: Projection, topic: str, cluster_id: str) -> None:
        self._projection = projection
        self._topic = topic
        self._cluster_id = cluster_id

    async def read(self, connection: Any, beginnings: Mapping[int, int]) -> dict[int, Position]:
        """Return the position of each partition, a new one at the log's beginning.

        `beginnings` has the first offset the log still holds of each partition. Raises ProjectionStopped where the
        log is another than the one read so far, or no longer has what is to be read.
        """
        found = await self._fetch(connection, beginnings)
        missing = [partition for partition in beginnings if partition not in found]
        if missing:
            for partition in missing:
                if beginnings[partition] > 0:
                    raise ProjectionStopped(
                        f"{self._topic}/{partition} begins at offset {beginnings[partition]}: its first events are "
                        f"gone, so {label(self._projection)} cannot be built from this log"
                    )
            await connection.execute(_BEGIN, *self._key, missing, self._topic, self._cluster_id)
            found = await self._fetch(connection, beginnings)
        for partition, position in found.items():
            if position.position < beginnings[partition] or (0 < position.position == beginnings[partition]):
                raise ProjectionStopped(
                    f"{label(self._projection)} stands at offset {position.position} of {self._topic}/{partition}, "
                    f"whose log now begins at {beginnings[partition]}: events that were not read are gone. Restore "
                    "the topic, or rebuild the projection from a log that has them"
                )
        return found

    async def advance(self, connection: Any, steps: Mapping[int, Step]) -> None:
        """Move the positions, inside the transaction that writes the rows. Raises PositionMoved."""
        partitions = sorted(steps)
        moved = await connection.fetch(
            _ADVANCE,
            *self._key,
            partitions,
            [steps[partition].start for partition in partitions],
            [steps[partition].end for partition in partitions],
            [steps[partition].last_event_id for partition in partitions],
        )
        if len(moved) != len(partitions):
            lost = sorted(set(partitions) - {row[0] for row in moved})
            raise PositionMoved(f"partitions {lost} were written by another process")

    @property
    def _key(self) -> tuple[str, int]:
        return self._projection.name, self._projection.version

    async def _fetch(self, connection: Any, partitions: Iterable[int]) -> dict[int, Position]:
        found = {}
        for row in await connection.fetch(_READ, *self._key, list(partitions)):
            if (row["topic"], row["cluster_id"]) != (self._topic, self._cluster_id):
                raise ProjectionStopped(
                    f"{label(self._projection)} was built from topic {row['topic']} of cluster {row['cluster_id']}, "
                    f"this is {self._topic} of cluster {self._cluster_id}: another log. Point the settings at the "
                    "log it was built from, or rebuild the projection"
                )
            found[row["partition"]] = Position(row["position"], row["last_event_id"])
        return found
