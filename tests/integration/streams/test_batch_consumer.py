"""What is waiting comes at once, a backlog in thousands, and no member of a group loses anything to another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from runtime.settings import Settings
from streams import consumer as consumer_module
from streams.consumer import IDLE_SECONDS, Batch, BatchConsumer
from streams.producer import Producer, Record
from streams.topics import EVENTS, WEBHOOKS, ensure_topics, physical
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def _quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member hears with a heartbeat that others join or leave."""
    real = consumer_module.AIOKafkaConsumer
    monkeypatch.setattr(
        consumer_module, "AIOKafkaConsumer", lambda **options: real(**{**options, "heartbeat_interval_ms": 100})
    )


@pytest.fixture
async def log(settings: Settings) -> Settings:
    await ensure_topics(settings)
    return settings


@pytest.fixture
async def producer(log: Settings) -> AsyncIterator[Producer]:
    async with Producer(log, "test") as opened:
        yield opened


def member(settings: Settings, **options: Any) -> BatchConsumer:
    return BatchConsumer(settings, **{"topic": EVENTS, "group": "group", "reader": "test", **options})


def numbered(start: int, end: int, keys: int = 200) -> list[Record]:
    return [Record(b"%d" % (number % keys), b"%d" % number) for number in range(start, end)]


def numbers(batch: Batch) -> list[int]:
    return [int(record.value) for record in batch.records]


async def read_one(reader: BatchConsumer) -> Batch:
    """The next batch that is not empty."""

    async def something() -> Batch | None:
        async with reader.busy:
            batch = await reader.read()
        return batch if batch.records else None

    found = await eventually(something)
    assert isinstance(found, Batch)
    return found


async def test_a_lone_record_comes_at_once(log: Settings, producer: Producer) -> None:
    patient = log.model_copy(update={"batch_seconds": 3.0})
    async with member(patient) as reader:
        await eventually(lambda: len(reader._next) == 4)  # before that a record may be taken for one of many
        await producer.send_all(EVENTS, numbered(0, 1))
        await read_one(reader)
        waits = []
        for number in range(1, 6):
            await producer.send_all(EVENTS, numbered(number, number + 1))
            start = time.monotonic()
            assert numbers(await read_one(reader)) == [number]
            waits.append(time.monotonic() - start)
    assert sorted(waits)[2] < 0.15  # nothing waits for batch_seconds; the median, for the machine has other work


async def test_an_empty_topic_gives_an_empty_batch(log: Settings) -> None:
    async with member(log) as reader:
        await eventually(reader.consumer.assignment)
        start = time.monotonic()
        assert len(await reader.read()) == 0
        assert time.monotonic() - start < IDLE_SECONDS + 2


async def test_a_backlog_comes_in_batches_of_batch_rows(log: Settings, producer: Producer) -> None:
    patient = log.model_copy(update={"batch_rows": 3000, "batch_seconds": 10.0})
    await producer.send_all(EVENTS, numbered(0, 8000))
    batches = []
    async with member(patient) as reader:
        while sum(map(len, batches)) < 8000:
            batches.append(await read_one(reader))
    assert [len(batch) for batch in batches] == [3000, 3000, 2000]
    for batch in batches:
        ends = {record.partition: record.offset + 1 for record in batch.records}
        assert {at.partition: position for at, position in batch.positions.items()} == ends
    read = [record for batch in batches for record in batch.records]
    for partition in range(4):
        offsets = [record.offset for record in read if record.partition == partition]
        assert offsets == list(range(len(offsets)))
    assert sorted(int(record.value) for record in read) == list(range(8000))


async def test_a_batch_is_filled_for_no_longer_than_batch_seconds(
    log: Settings, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchConsumer, "_more_waits", lambda _self: True)  # a backlog that is slow to come
    await producer.send_all(EVENTS, numbered(0, 1))
    async with member(log.model_copy(update={"batch_seconds": 0.4})) as reader:
        start = time.monotonic()
        assert numbers(await read_one(reader)) == [0]
        assert 0.4 <= time.monotonic() - start < 4


async def test_what_was_done_is_not_read_again_and_what_was_not_is(log: Settings, producer: Producer) -> None:
    await producer.send_all(EVENTS, numbered(0, 100))
    async with member(log) as reader:
        batch = await read_one(reader)
        assert len(batch) == 100
        await reader.done(batch)
        await producer.send_all(EVENTS, numbered(100, 200))
        assert len(await read_one(reader)) == 100  # and not done: the process ends here
    async with member(log) as reader:
        assert sorted(numbers(await read_one(reader))) == list(range(100, 200))


async def test_the_positions_of_whoever_was_asked_count(log: Settings, producer: Producer) -> None:
    await producer.send_all(EVENTS, numbered(0, 100))
    async with member(log) as reader:  # commits the end, a hint that must not be followed
        await reader.done(await read_one(reader))

    async def third(partitions: set[Any]) -> dict[Any, int]:
        await asyncio.sleep(0.3)  # time enough to read on from the hint
        return dict.fromkeys(partitions, 3)

    await producer.send_all(EVENTS, numbered(100, 200))
    async with member(log, assigned=third) as reader:
        batch = await read_one(reader)
        first = {}
        for record in batch.records:
            first.setdefault(record.partition, record.offset)
        assert set(first.values()) == {3}


async def test_what_the_asked_raises_is_raised_by_read(log: Settings) -> None:
    async def fails(_partitions: set[Any]) -> None:
        raise LookupError("not there")

    async with member(log, assigned=fails) as reader:
        await eventually(lambda: reader.failure)
        with pytest.raises(LookupError):
            await reader.read()


async def test_a_member_that_joins_and_one_that_leaves_lose_nothing(log: Settings, producer: Producer) -> None:
    few = log.model_copy(update={"batch_rows": 100})
    seen: Counter[int] = Counter()
    by: dict[str, set[int]] = {"a": set(), "b": set()}

    async def work(name: str, stop: asyncio.Event) -> None:
        async with member(few, reader=name) as reader:
            while not stop.is_set():
                async with reader.busy:
                    batch = await reader.read()
                    await asyncio.sleep(0)
                    seen.update(numbers(batch))
                    by[name].update(record.partition for record in batch.records)
                    await reader.done(batch)

    async def send(counter: itertools.count[int], stop: asyncio.Event) -> None:
        while not stop.is_set():
            start = 50 * next(counter)
            await producer.send_all(EVENTS, numbered(start, start + 50))
            await asyncio.sleep(0.01)

    counter: itertools.count[int] = itertools.count()
    stops = {name: asyncio.Event() for name in ("a", "b", "send")}
    sending = asyncio.create_task(send(counter, stops["send"]))
    first = asyncio.create_task(work("a", stops["a"]))
    await eventually(lambda: by["a"] == {0, 1, 2, 3})
    second = asyncio.create_task(work("b", stops["b"]))
    await eventually(lambda: len(by["b"]) == 2, 30)
    by["a"].clear()
    await eventually(lambda: len(by["a"]) == 2, 30)
    stops["a"].set()
    await first
    await eventually(lambda: by["b"] == {0, 1, 2, 3}, 30)
    stops["send"].set()
    await sending
    total = 50 * next(counter)
    await eventually(lambda: len(seen) == total, 30)
    stops["b"].set()
    await second
    # Each gave its partitions away with everything it had done committed: nothing is read twice either.
    assert sorted(seen) == list(range(total))
    assert max(seen.values()) == 1


async def test_partitions_are_not_given_away_while_a_batch_is_under_way(log: Settings, producer: Producer) -> None:
    drained: list[str] = []
    order: list[str] = []

    async def drain() -> None:
        drained.append("what goes on behind")

    async with member(log, drain=drain) as first:
        await producer.send_all(EVENTS, numbered(0, 50))
        await first.busy.acquire()
        batch = await first.read()
        while not batch.records:
            batch = await first.read()
        second = asyncio.create_task(_join(log, order))
        await asyncio.sleep(0.7)  # the second asks to join meanwhile
        order.append("still at work")
        assert drained == []
        await first.done(batch)
        first.busy.release()
        working = asyncio.create_task(_read_on(first))
        assert await second == []  # nothing of the batch is read again
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
    assert order == ["still at work", "joined"]
    assert drained == ["what goes on behind"]


async def _join(log: Settings, order: list[str]) -> list[int]:
    async with member(log, reader="second") as second:
        await eventually(second.consumer.assignment)
        order.append("joined")
        return numbers(await second.read())


async def _read_on(reader: BatchConsumer) -> None:
    while True:
        async with reader.busy:
            await reader.read()


async def test_a_record_that_comes_while_partitions_are_given_away_does_not_hold_them(
    log: Settings, producer: Producer
) -> None:
    """aiokafka waits for the end of a rebalance in the middle of a read, and the rebalance for the end of the read."""
    async with member(log) as first:
        await eventually(first.consumer.assignment)
        revoke = first.on_partitions_revoked

        async def revoke_late(revoked: set[Any]) -> None:
            await producer.send_all(EVENTS, numbered(0, 50))
            await asyncio.sleep(0.05)  # the reader, who holds `busy`, is woken
            await revoke(revoked)

        first.on_partitions_revoked = revoke_late  # type: ignore[method-assign]
        working = asyncio.create_task(_read_on(first))
        async with member(log, reader="second") as second:

            async def joined() -> bool:
                async with second.busy:
                    await second.read()
                return len(second.consumer.assignment()) == 2

            await eventually(joined, 20)
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


async def test_keys_in_another_partition_than_theirs_are_counted_and_said(
    log: Settings, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, Any]] = []

    class Lines:
        def error(self, _text: str, **facts: Any) -> None:
            said.append(facts)

        def info(self, *_: Any, **__: Any) -> None: ...

    def misplaced() -> float:
        return REGISTRY.get_sample_value("kommo_streams_misplaced_keys_total", {"topic": WEBHOOKS}) or 0

    monkeypatch.setattr(consumer_module, "log", Lines())
    before = misplaced()
    right = await producer.partition(WEBHOOKS, b"1")
    name = physical(log, WEBHOOKS)
    await producer._producer.send_and_wait(name, b"right", key=b"1", partition=right)
    await producer._producer.send_and_wait(name, b"wrong", key=b"1", partition=1 - right)
    await producer._producer.send_and_wait(name, b"wrong", key=b"1", partition=1 - right)
    await producer._producer.send_and_wait(name, b"no key", partition=1 - right)
    count = 0
    async with member(log, topic=WEBHOOKS) as reader:
        while count < 4:
            count += len(await read_one(reader))
    assert misplaced() - before == 2
    assert sum(facts["records"] for facts in said) == 2
    assert {facts["topic"] for facts in said} == {name}
