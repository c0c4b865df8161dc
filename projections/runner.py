"""Runs one version of one projection: batches of kommo.events in, rows and positions out, in one transaction each."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from projections.positions import PositionMoved, Positions, ProjectionStopped, Step
from projections.projection import Projection, group, label
from projections.reading import record_ids
from runtime.classify import describe
from runtime.failures import log_failure
from runtime.health import Health
from runtime.logs import logger
from runtime.metrics import BATCH_SECONDS, END_TO_END_SECONDS, PROJECTION_STOPPED, WRITE_SECONDS
from runtime.postgres import AWAY, connect, refused
from runtime.settings import Settings
from runtime.waiting import pause
from schemas.deadletter import DeadLetter
from schemas.errors import ErrorClass
from schemas.event import EventError, NewerEventError
from streams.consumer import Batch, BatchConsumer
from streams.producer import Producer
from streams.topics import DEADLETTERS, physical

log = logger(__name__)

MOST_FAULTS = 50
"""Events that may be set aside one after the other, with none written between, before the projection stops."""

_JOINED_SECONDS = 10
_SLICE = 250  # records read before the event loop gets its turn: about 3 ms


_ELSEWHERE = (*AWAY, KafkaError, MemoryError, ProjectionStopped, PositionMoved, NewerEventError)
"""What may come out of a projection's code without being a fault of it: servers, the machine, and reasons to stop."""


@dataclass(slots=True)
class _Read:
    """A record and the event it holds; without one, why it is none, and of which class that is."""

    record: Any
    event: Any
    fault: str = ""
    error_class: ErrorClass = ErrorClass.VALIDATION


class _FoldFailed(Exception):
    """A projection's own code raised what nobody foresaw, which is the cause of this."""


@contextlib.contextmanager
def _folding() -> Iterator[None]:
    """Around a projection's own code: raise _FoldFailed for its faults, and pass on what other parts raise in it."""
    try:
        yield
    except _ELSEWHERE:
        raise
    except Exception as error:
        raise _FoldFailed from error


class Runner:
    """One projection in this process: a member of its consumer group and a connection to PostgreSQL."""

    def __init__(
        self, settings: Settings, projection: Projection, cluster_id: str, letters: Producer, health: Health
    ) -> None:
        self._settings = settings
        self._projection = projection
        self._label = label(projection)
        self._positions = Positions(projection, physical(settings, projection.topic), cluster_id)
        self._letters = letters
        self._health = health
        self._connection: Any = None
        self._at: dict[int, int] = {}
        self._to_verify: dict[int, tuple[int, str]] = {}
        self._writing: asyncio.Task[None] | None = None
        self._faults = 0  # in a row
        self._set_aside_already: set[tuple[int, int]] = set()  # of batches that are not durable yet

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. A server that is away is waited for; what needs a person ends this projection."""
        PROJECTION_STOPPED.labels(self._label).set(0)
        self._health.not_ready(self._label, "starting")
        while not stop.is_set():
            try:
                await self._follow(stop)
            except (ProjectionStopped, NewerEventError) as error:
                PROJECTION_STOPPED.labels(self._label).set(1)
                self._health.not_ready(self._label, f"stopped: {error}")
                log.error("stopped", projection=self._label, reason=str(error))
                return
            except (KafkaError, *AWAY) as error:
                self._health.not_ready(self._label, describe(error))
                log_failure(log, "a server is away, trying again", error, projection=self._label)
                await pause(stop, 0.5)
            except Exception as error:
                # A fault of ours that no one event makes: loud, and tried again, for the log and the rows are as they
                # were. What a fold raises over an event is set aside in _write.
                self._health.not_ready(self._label, f"internal: {type(error).__name__}: {error}")
                log.exception("a projection failed, trying again", projection=self._label)
                await pause(stop, 5)
            finally:
                if self._connection is not None:
                    self._connection.terminate()
                    self._connection = None

    async def _follow(self, stop: asyncio.Event) -> None:
        self._connection = await connect(self._settings, application=self._label)
        consumer = BatchConsumer(
            self._settings,
            topic=self._projection.topic,
            group=group(self._projection),
            reader=self._label,
            assigned=lambda partitions: self._take_over(consumer, partitions),
            drain=lambda: self._written(consumer),
        )
        began = time.monotonic()
        try:
            async with consumer:
                while not stop.is_set():
                    async with consumer.busy:
                        await self._step(consumer)
                    # One member more than there are partitions has none: it is ready to take over, too.
                    if consumer.consumer.assignment() or time.monotonic() - began > _JOINED_SECONDS:
                        self._health.ready(self._label)
                await self._written(consumer)
        finally:
            if self._writing is not None:
                self._writing.cancel()
                self._writing = None

    async def _step(self, consumer: BatchConsumer) -> None:
        """Read the next batch while the one before is being written, then begin to write it."""
        try:
            batch = await consumer.read()
        except OffsetOutOfRangeError as error:
            raise ProjectionStopped(_out_of_range(self._label, error)) from None
        reads = await self._read(batch)
        if await self._written(consumer) and batch.records:
            self._writing = asyncio.create_task(self._handle(consumer, batch, reads))

    async def _written(self, consumer: BatchConsumer) -> bool:
        """Wait for the batch being written; False where its partitions had been written by another process."""
        writing, self._writing = self._writing, None
        try:
            if writing is not None:
                await writing
        except PositionMoved as moved:
            log.warning("another process wrote here, reading the position again", detail=str(moved))
            mine = consumer.consumer.assignment()
            for partition, position in (await self._take_over(consumer, set(mine))).items():
                consumer.move(partition, position)
            return False
        return True

    async def _take_over(self, consumer: BatchConsumer, assigned: set[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return where to read on in partitions that now are ours: one record back, to see that it is the same log."""
        self._at.clear()
        self._to_verify.clear()
        if not assigned:
            return {}
        beginnings = await consumer.consumer.beginning_offsets(list(assigned))
        ends = await consumer.consumer.end_offsets(list(assigned))
        found = await self._positions.read(
            self._connection, {partition.partition: offset for partition, offset in beginnings.items()}
        )
        seek = {}
        for partition in assigned:
            position = found[partition.partition]
            if position.position > ends[partition]:
                raise ProjectionStopped(
                    f"{self._label} stands at offset {position.position} of {partition.topic}/{partition.partition}, "
                    f"which ends at {ends[partition]}: the topic was recreated or cut. Restore it, or rebuild the "
                    "projection"
                )
            self._at[partition.partition] = position.position
            seek[partition] = position.position
            if position.last_event_id is not None:
                seek[partition] -= 1
                self._to_verify[partition.partition] = (seek[partition], position.last_event_id)
        return seek

    async def _handle(self, consumer: BatchConsumer, batch: Batch, reads: list[_Read]) -> None:
        start = time.monotonic()
        for read in reads:
            if read.fault:
                await self._set_aside(read, read.fault, read.error_class)
        if reads:
            await self._write(reads)
        BATCH_SECONDS.labels(self._label).observe(time.monotonic() - start)
        # A hint for tools that show lag; the positions that count are in PostgreSQL.
        await consumer.done(batch)

    async def _read(self, batch: Batch) -> list[_Read]:
        reads: list[_Read] = []
        for number, record in enumerate(batch.records):
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            event, fault, error_class = None, "", ErrorClass.VALIDATION
            try:
                event = self._projection.read(record)
            except NewerEventError:
                if record.partition not in self._to_verify:
                    raise
            except EventError as error:
                fault = str(error)
            except _ELSEWHERE:
                raise
            except Exception as error:
                log.exception("an event could not be read", projection=self._label, offset=record.offset)
                fault, error_class = _internal(error, "reading the event"), ErrorClass.INTERNAL
            if not self._verified(record):
                reads.append(_Read(record, event, fault, error_class))
        return reads

    def _verified(self, record: Any) -> bool:
        """Return whether this is the record before the position, read again; raise if it is not the one read then."""
        if not self._to_verify:
            return False
        expected = self._to_verify.pop(record.partition, None)
        if expected is None:
            return False
        offset, name = expected
        if record.offset != offset or name not in record_ids(record.value):
            raise ProjectionStopped(
                f"{record.topic}/{record.partition} is another log than the one {self._label} has read: at offset "
                f"{offset} it held event {name}, now {record_ids(record.value)[0]} is at {record.offset}. Was the "
                "topic recreated or copied? Restore it, or rebuild the projection"
            )
        return True

    async def _write(self, reads: Sequence[_Read]) -> None:
        """Write a batch; one that cannot be written for an event's sake is halved until that event is found.

        It is set aside, and the position moves past it: as `validation` what PostgreSQL refuses to store, as `internal`
        what the projection's code raises over. Everything else is raised: it says nothing about the events.
        """
        try:
            await self._transact(reads)
        except _FoldFailed as failed:
            if self._connection.is_closed():  # then whatever was raised says nothing about the events
                raise
            if len(reads) > 1:
                await self._halve(reads)
                return
            error = failed.__cause__
            log.error("a fold failed", projection=self._label, **_place(reads[0]), exc_info=error)
            await self._past(reads[0], _internal(error, f"folding into {self._label}"), ErrorClass.INTERNAL)
        except AWAY as error:
            if not refused(error):
                raise
            if len(reads) > 1:
                await self._halve(reads)
                return
            error_class = log_failure(log, "a row was refused", error, projection=self._label, **_place(reads[0]))
            await self._past(reads[0], describe(error), error_class)

    async def _halve(self, reads: Sequence[_Read]) -> None:
        middle = len(reads) // 2
        await self._write(reads[:middle])
        await self._write(reads[middle:])

    async def _past(self, read: _Read, reason: str, error_class: ErrorClass) -> None:
        """Set a record aside, then move the position past it: in this order, so that it is never in neither place.

        Raises ProjectionStopped after MOST_FAULTS in a row: then the fault is not the events'.
        """
        self._faults += 1
        if self._faults > MOST_FAULTS:
            raise ProjectionStopped(
                f"{MOST_FAULTS} events in a row could not be written, so the fault is the program's: mend it, rebuild "
                f"{self._label}, and look at `kommo-streams deadletters list --reader {self._label}`"
            )
        await self._set_aside(read, reason, error_class)
        await self._transact([_Read(read.record, None)])

    async def _transact(self, reads: Sequence[_Read]) -> None:
        with _folding():
            events = [read.event for read in reads if read.event is not None and self._projection.folds(read.event)]
        steps = self._steps(reads)
        if events:
            with _folding():
                await self._projection.prepare(self._connection, events)
        start = time.monotonic()
        async with self._connection.transaction():
            await self._positions.advance(self._connection, steps)
            if events:
                with _folding():
                    await self._projection.write(self._connection, events)
        WRITE_SECONDS.labels(self._label).observe(time.monotonic() - start)
        if events:
            self._faults = 0
        for partition, step in steps.items():
            self._at[partition] = step.end
        self._set_aside_already = {place for place in self._set_aside_already if place[1] >= self._at.get(place[0], 0)}
        self._observe(events)

    def _steps(self, reads: Sequence[_Read]) -> dict[int, Step]:
        last = {read.record.partition: read for read in reads}
        return {
            partition: Step(self._at[partition], read.record.offset + 1, record_ids(read.record.value)[0])
            for partition, read in last.items()
        }

    def _observe(self, events: Sequence[Any]) -> None:
        now = time.time_ns() // 1000
        histogram = END_TO_END_SECONDS.labels(self._label)
        for event in events[:100]:
            histogram.observe(max(0, now - event.received_us) / 1e6)

    async def _set_aside(self, read: _Read, reason: str, error_class: ErrorClass) -> None:
        place = (read.record.partition, read.record.offset)
        if place in self._set_aside_already:  # its transaction failed since, and is tried again
            return
        if self._projection.topic == DEADLETTERS:  # a letter about it would come back here
            log.error("a dead letter cannot be shown", reason=reason, error_class=error_class.value, **_place(read))
            return
        letter = DeadLetter.of(
            read.record,
            reader=self._label,
            reason=reason,
            error_class=error_class,
            correlation_id=read.event.correlation_id if read.event is not None else "",
        )
        await self._letters.set_aside([letter])
        self._set_aside_already.add(place)


def _place(read: _Read) -> dict[str, str]:
    """Return what a log line says of a record: where it lies, and what it belongs to."""
    at = read.record
    event = read.event
    return {
        "original": f"{at.topic}/{at.partition}/{at.offset}",
        "event_id": event.event_id if event is not None else "",
        "correlation_id": event.correlation_id if event is not None else "",
    }


def _internal(error: BaseException | None, doing: str) -> str:
    """Return what a dead letter says of an error nobody foresaw: its type and place, never its message.

    The message may quote what the event holds; the log has it, with the way there.
    """
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    where = f" in {frames[-1].name} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__} while {doing}{where}"


def _out_of_range(reader: str, error: OffsetOutOfRangeError) -> str:
    where = ", ".join(f"offset {offset} of {at.topic}/{at.partition}" for at, offset in error.args[0].items())
    return (
        f"{reader} stands at {where}, which the log does not have: the topic was recreated or cut. Restore it, or "
        "rebuild the projection"
    )
