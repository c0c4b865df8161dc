"""The batch consumer that ingest and the projections share: what is waiting comes at once, a backlog in thousands."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
)

from runtime.logs import logger
from runtime.metrics import BATCH_ROWS, LAG, MISPLACED_KEYS
from runtime.settings import Settings
from streams.connection import connection, started, stopped
from streams.partitions import Partitioner
from streams.topics import MIB, physical

log = logger(__name__)

IDLE_SECONDS = 0.25
SESSION_SECONDS = 6.0
COMMIT_SECONDS = 0.5
BATCH_BYTES = 16 * MIB
_ASKED_RECORDS = 50  # a body compresses to nothing and comes back as a mebibyte: bytes are counted in small steps

_COMMIT_LIMIT = 20.0  # seconds

Assigned = Callable[[set[TopicPartition]], Awaitable[Mapping[TopicPartition, int] | None]]


@dataclass(slots=True)
class Batch:
    """Records in the order of their offsets within each partition, and the position after them."""

    records: list[Any] = field(default_factory=list)
    positions: dict[TopicPartition, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)


class BatchConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads a topic as one member of a consumer group, in batches bounded by rows and by time.

    An async context manager. `assigned`, if given, is asked for the positions of newly assigned partitions; else the
    group's committed offsets count, and without one the log's beginning. Partitions are given away only between
    batches: `busy` is held by whoever works on one, and `drain` is awaited for what goes on behind it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        topic: str,
        group: str,
        reader: str,
        assigned: Assigned | None = None,
        drain: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._settings = settings
        self._topic = physical(settings, topic)
        self._logical = topic
        self._reader = reader
        self._assigned = assigned
        self._drain = drain
        self._partitioner: Partitioner | None = None
        self._next: dict[TopicPartition, int] = {}
        self._to_commit: dict[TopicPartition, int] = {}
        self._committed_at = 0.0
        self.busy = asyncio.Lock()
        self.failure: BaseException | None = None
        self.consumer = AIOKafkaConsumer(
            **connection(settings, reader),
            group_id=f"{settings.kafka_prefix}{group}",
            enable_auto_commit=False,
            auto_offset_reset="earliest" if assigned is None else "none",
            session_timeout_ms=int(SESSION_SECONDS * 1000),
            heartbeat_interval_ms=1500,
            max_poll_interval_ms=120_000,
            rebalance_timeout_ms=20_000,
            fetch_max_bytes=16 * MIB,
            max_partition_fetch_bytes=1 * MIB,
            # A fetch leaves out partitions whose records are not taken yet, and the broker holds it this long: with
            # Kafka's 500 ms one delivery in a hundred waited a third of a second.
            fetch_max_wait_ms=100,
            request_timeout_ms=15_000,
            retry_backoff_ms=50,
        )

    async def __aenter__(self) -> Self:
        self.consumer.subscribe([self._topic], listener=self)
        await started(self.consumer)
        return self

    async def __aexit__(self, *_: object) -> None:
        left = False
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(3):
                await self.commit()
                left = True
        if not await stopped(self.consumer) or not left:
            log.warning("the consumer did not leave its group in time: Kafka is away", reader=self._reader)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Wait until the batch under way is done, then let the partitions go (aiokafka calls this)."""
        async with self.busy:
            if self._drain is not None and revoked:
                await self._keep(self._drain())
            await self._keep(self.commit())
            for partition in revoked:
                self._next.pop(partition, None)
                LAG.remove(self._reader, str(partition.partition))

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Take the partitions over at the right positions (aiokafka calls this)."""
        log.info("assigned", reader=self._reader, partitions=sorted(item.partition for item in assigned))
        for partition in assigned:
            LAG.labels(self._reader, str(partition.partition)).set(0)
        await self._keep(self._seek(self._assigned, assigned) if self._assigned else self._find_next(assigned))

    async def _seek(self, find: Assigned, assigned: set[TopicPartition]) -> None:
        # aiokafka reads from the committed offsets meanwhile, which are only a hint here: nothing of that is returned.
        self.consumer.pause(*assigned)
        try:
            for partition, position in (await find(assigned) or {}).items():
                self.consumer.seek(partition, position)
                self._next[partition] = position
        finally:
            self.consumer.resume(*assigned)

    async def _find_next(self, assigned: set[TopicPartition]) -> None:
        starts = await self.consumer.beginning_offsets(list(assigned))
        for partition in assigned:
            self._next[partition] = max(await self.consumer.committed(partition) or 0, starts[partition])

    async def _keep(self, work: Awaitable[object]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 aiokafka would swallow it here; read() raises it
            self.failure = error

    async def read(self) -> Batch:
        """Return the next batch; empty if nothing came for IDLE_SECONDS.

        What is there is returned at once. While more is known to wait, the batch is filled up to `batch_rows`, for at
        most `batch_seconds`, and to about BATCH_BYTES. Raises KafkaError, and whatever `assigned` raised.
        """
        batch = Batch()
        size, start = 0, 0.0
        limit = self._settings.batch_rows
        patience = IDLE_SECONDS
        while True:
            if self.failure is not None:
                raise self.failure
            fetched = await self._fetch(patience, min(_ASKED_RECORDS, limit - len(batch)))
            for partition, records in fetched.items():
                batch.records += records
                size += sum(len(record.value or b"") for record in records)
                batch.positions[partition] = self._next[partition] = records[-1].offset + 1
            if not batch.records:
                self._measure_lag()
                if self._to_commit:
                    await self.commit()
                return batch
            start = start or time.monotonic()
            patience = start + self._settings.batch_seconds - time.monotonic()
            if len(batch) >= limit or size >= BATCH_BYTES or patience <= 0 or not self._more_waits():
                break
        self._measure_lag()
        self._observe(batch)
        return batch

    async def _fetch(self, seconds: float, limit: int) -> dict[TopicPartition, list[Any]]:
        try:
            # While the group shares its partitions out anew, aiokafka waits for its end, whatever timeout it was given.
            async with asyncio.timeout(seconds + IDLE_SECONDS):
                fetched: dict[TopicPartition, list[Any]] = await self.consumer.getmany(
                    timeout_ms=int(seconds * 1000), max_records=limit
                )
        except TimeoutError:
            return {}
        except NoOffsetForPartitionError:
            # aiokafka looks for a position while `assigned` is still finding it; the seek that follows counts.
            if self._assigned is None:
                raise
            return {}
        return fetched

    def _more_waits(self) -> bool:
        assignment = self.consumer.assignment()
        return any(
            partition in assignment and (self.consumer.highwater(partition) or 0) > position
            for partition, position in self._next.items()
        )

    def _measure_lag(self) -> None:
        assignment = self.consumer.assignment()
        for partition, position in self._next.items():
            high = self.consumer.highwater(partition) if partition in assignment else None
            if high is not None:
                LAG.labels(self._reader, str(partition.partition)).set(max(0, high - position))

    def _observe(self, batch: Batch) -> None:
        BATCH_ROWS.labels(self._reader).observe(len(batch))
        if self._partitioner is None:
            self._partitioner = Partitioner(len(self.consumer.partitions_for_topic(self._topic) or ()))
        where = self._partitioner.partition
        wrong = sum(record.key is not None and where(record.key) != record.partition for record in batch.records)
        if wrong:
            MISPLACED_KEYS.labels(self._logical).inc(wrong)
            log.error(
                "records lie in another partition than their key's: a producer hashes otherwise (murmur2 is the "
                "contract), and the order of these entities is not kept",
                topic=self._topic,
                records=wrong,
            )

    async def done(self, batch: Batch) -> None:
        """Say that a batch is durable: it is committed within COMMIT_SECONDS, and before its partitions go elsewhere.

        A commit for each batch would cost a lone record more than all the rest of its way. Raises KafkaError.
        """
        self._to_commit.update(batch.positions)
        if time.monotonic() - self._committed_at >= COMMIT_SECONDS:
            await self.commit()

    async def commit(self) -> None:
        """Commit what is done; what has moved to another member meanwhile is repeated there. Raises KafkaError."""
        assignment = self.consumer.assignment()
        positions = {partition: at for partition, at in self._to_commit.items() if partition in assignment}
        self._to_commit.clear()
        self._committed_at = time.monotonic()
        if not positions:
            return
        try:
            # aiokafka tries for ever, and has been seen to wait for nothing after an outage: a new member is better.
            async with asyncio.timeout(_COMMIT_LIMIT):
                await self.consumer.commit(positions)
        except TimeoutError:
            raise KafkaTimeoutError(f"a commit did not end within {_COMMIT_LIMIT:g} s") from None
        except (CommitFailedError, IllegalStateError) as error:
            log.warning("not committed: the partitions moved, their new reader repeats some", error=str(error))

    def move(self, partition: TopicPartition, offset: int) -> None:
        """Read on elsewhere in a partition that is assigned here."""
        self._next.pop(partition, None)
        self.consumer.seek(partition, offset)
