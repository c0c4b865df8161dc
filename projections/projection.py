"""What a projection is: a name, a version, its tables, and how a batch of events becomes rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Projection(Protocol):
    """Folds events into tables of its own.

    `write` is called inside a transaction that also moves the position; events come in any order, any batching and
    with repeats, and the tables must be the same whichever it was. Each version is a consumer group of its own.
    """

    name: str
    version: int
    topic: str
    """What it reads, by its logical name."""

    def read(self, record: Any) -> Any:
        """Return what a record of the topic holds, for the other methods; it has `received_us`.

        Raises EventError for what is none, NewerEventError for what only a newer program can read.
        """
        ...

    def folds(self, event: Any) -> bool:
        """Whether this event makes or changes a row; others are skipped."""
        ...

    async def prepare(self, connection: Any, events: Sequence[Any]) -> None:
        """Make ready, outside the transaction, what these events' rows need (partitions, temporary tables)."""
        ...

    async def write(self, connection: Any, events: Sequence[Any]) -> None:
        """Write the rows of these events (an asyncpg connection, in a transaction). Raises asyncpg.PostgresError."""
        ...


def label(projection: Projection) -> str:
    """Return the name under which metrics and logs speak of a projection's version: activity_log.v1."""
    return f"{projection.name}.v{projection.version}"


def group(projection: Projection) -> str:
    """Return the consumer group of a projection's version."""
    return f"kommo-streams.projection.{label(projection)}"
