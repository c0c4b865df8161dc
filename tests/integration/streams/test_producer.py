"""What the producer promises: everything in order, acknowledged, or an error; and dead letters always have a place."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from runtime.settings import Settings
from schemas.deadletter import DeadLetter, read_headers
from schemas.errors import ErrorClass
from streams.producer import Producer, Record
from streams.topics import ACCOUNTS, DEADLETTERS, EVENTS, MIB, WEBHOOKS, ensure_topics
from tests.integration.streams.support import lies_in

_RANDOM = random.Random(7)


def noise(size: int) -> bytes:
    """Bytes that no compression makes smaller."""
    return _RANDOM.randbytes(size)


@pytest.fixture
async def log(settings: Settings) -> Settings:
    wide = settings.model_copy(update={"events_partitions": 32})
    await ensure_topics(wide)
    return wide


async def send(log: Settings, topic: str, records: Iterable[Record]) -> None:
    async with Producer(log, "test") as producer:
        await producer.send_all(topic, records)


async def test_the_order_within_each_partition_is_kept(log: Settings) -> None:
    # 2,000 records, some so large that a partition's part takes several batches
    records = [
        Record(f"1/lead/{number % 97}".encode(), b"%d " % number + (noise(60_000) if number % 50 == 0 else b""))
        for number in range(2000)
    ]
    async with Producer(log, "test") as producer:
        await producer.send_all(EVENTS, records)
        where = [await producer.partition(EVENTS, record.key) for record in records]
    found = await lies_in(log, EVENTS, 32)
    assert len(set(where)) > 25
    for partition, read in found.items():
        expected = [record for record, place in zip(records, where, strict=True) if place == partition]
        assert [(record.key, record.value) for record in read] == [(record.key, record.value) for record in expected]


async def test_the_largest_records_pass(log: Settings) -> None:
    event = noise(8 * MIB - 64 * 1024)
    body = noise(MIB)
    headers = [(f"header_{number}", b"x" * 1024) for number in range(6)]
    await send(log, EVENTS, [Record(b"a", b"before"), Record(b"a", event), Record(b"a", b"after")])
    await send(log, WEBHOOKS, [Record(b"1", body, headers)])
    values = [record.value for records in (await lies_in(log, EVENTS, 32)).values() for record in records]
    assert values == [b"before", event, b"after"]
    ((delivery,),) = [records for records in (await lies_in(log, WEBHOOKS, 2)).values() if records]
    assert (delivery.value, list(delivery.headers)) == (body, headers)


async def test_what_a_topic_does_not_take_raises_and_the_producer_goes_on(log: Settings) -> None:
    async with Producer(log, "test") as producer:
        await producer.send_all(EVENTS, [Record(b"a", b"first")])
        for size in (8 * MIB, 9 * MIB, 12 * MIB):
            with pytest.raises(MessageSizeTooLargeError):
                await producer.send_all(EVENTS, [Record(b"a", noise(size))])
            with pytest.raises(MessageSizeTooLargeError):
                await (await producer.send(EVENTS, Record(b"a", noise(size))))
        with pytest.raises(MessageSizeTooLargeError):
            await (await producer.send(ACCOUNTS, Record(b"a", noise(MIB))))
        await producer.send_all(EVENTS, [Record(b"a", b"last")])
    values = [record.value for records in (await lies_in(log, EVENTS, 32)).values() for record in records]
    assert values == [b"first", b"last"]


def is_refused(producer: Producer, value: bytes, headers: list[tuple[str, bytes]]) -> bool:
    try:
        producer._check(EVENTS, Record(b"a", value, headers))
    except MessageSizeTooLargeError:
        return True
    return False


@pytest.mark.parametrize("headers", [[], [("h", b"x" * 1024)] * 100], ids=["bare", "with headers"])
async def test_what_is_just_taken_is_what_the_broker_takes(log: Settings, headers: list[tuple[str, bytes]]) -> None:
    async with Producer(log, "test", compress=False) as producer:
        refused = bisect(range(8 * MIB + 1), False, key=lambda size: is_refused(producer, b"x" * size, headers))
        size = refused - 1  # the largest that is not refused here
        assert size > 8 * MIB - 110 * 1024
        await producer.send_all(EVENTS, [Record(b"a", noise(size), headers)])


async def test_one_record_too_large_and_nothing_of_its_batch_is_written(log: Settings) -> None:
    small = [Record(f"{number}".encode(), b"small") for number in range(40)]
    with pytest.raises(MessageSizeTooLargeError):
        await send(log, EVENTS, [*small, Record(b"large", noise(9 * MIB))])
    assert not [records for records in (await lies_in(log, EVENTS, 32)).values() if records]


def letter(value: bytes | None, **changes: Any) -> DeadLetter:
    told = {"reason": "Because", "error_class": ErrorClass.VALIDATION, "reader": "test", "topic": "t", "partition": 3}
    return DeadLetter(**{**told, "offset": 9, "key": b"k", "value": value, **changes})


async def test_dead_letters_are_the_original_with_the_reason_in_headers(log: Settings) -> None:
    original = ((("delivery_id", b"d"), ("dead_letter_reason", b"an older one")),)
    async with Producer(log, "test") as producer:
        await producer.set_aside(
            [letter(b"\xff body", original_headers=original[0], item="leads[add][0]", correlation_id="d")]
        )
    ((found,),) = [records for records in (await lies_in(log, DEADLETTERS, 4)).values() if records]
    told = read_headers(found.headers)
    assert (found.key, found.value, dict(found.headers)["delivery_id"]) == (b"k", b"\xff body", b"d")
    at_us = told.pop("at_us")
    assert at_us.isdecimal()
    assert told == {
        "attempts": "1",
        "first_at_us": at_us,
        "reason": "Because",
        "error_class": "validation",
        "reader": "test",
        "topic": "t",
        "partition": "3",
        "offset": "9",
        "item": "leads[add][0]",
        "correlation_id": "d",
    }


@pytest.mark.parametrize("size", [10 * MIB + 1000, 12 * MIB], ids=["for the topic", "for any"])
async def test_a_dead_letter_too_large_goes_with_its_coordinates_and_no_value(log: Settings, size: int) -> None:
    async with Producer(log, "test") as producer:
        await producer.set_aside([letter(b"first"), letter(noise(size)), letter(b"last", key=None), letter(None)])
    records = [record for records in (await lies_in(log, DEADLETTERS, 4)).values() for record in records]
    large = [record for record in records if "value" in read_headers(record.headers)]
    assert [(record.key, record.value, read_headers(record.headers)["value"]) for record in large] == [
        (b"k", b"", "too large")
    ]
    assert read_headers(large[0].headers)["offset"] == "9"
    assert sorted(record.value or b"" for record in records) == [b"", b"", b"first", b"last"]


async def test_a_dead_letter_keeps_headers_that_are_null(log: Settings) -> None:
    headers: Any = (("nothing", None), ("key_\u00e9", b"\xff"))
    async with Producer(log, "test") as producer:
        await producer.set_aside([letter(b"v", original_headers=headers)])
    ((found,),) = [records for records in (await lies_in(log, DEADLETTERS, 4)).values() if records]
    assert found.headers[:2] == headers
