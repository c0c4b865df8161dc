"""Ingest on a real Kafka: every delivery ends as events or as a dead letter, whatever happens to it or the broker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError

import agents.ingest
from agents.ingest import GROUP, READER, handle, ingest
from runtime.settings import Settings
from schemas import deadletter
from schemas.decoder import Decoded, decode
from schemas.delivery import MAX_BODY_BYTES, Delivery
from schemas.event import Event
from schemas.identity import new_delivery_id
from streams.consumer import BatchConsumer
from streams.producer import Producer, Record
from streams.topics import DEADLETTERS, EVENTS, WEBHOOKS, ensure_topics, physical
from tests.support.servers import OwnServers
from tests.support.topics import amount, everything
from tests.support.waiting import eventually, running
from tests.support.webhooks import bodies

ACCOUNT = 16700680
RECEIVED = 1_764_000_000_000_000


def delivery(body: bytes, number: int = 0) -> Delivery:
    return Delivery(ACCOUNT, new_delivery_id(), RECEIVED + number, body)


def lead(identifier: int, name: str = "x", at: int = 1_763_000_000) -> bytes:
    return f"leads[add][0][id]={identifier}&leads[add][0][name]={name}&leads[add][0][last_modified]={at}".encode()


async def put(settings: Settings, *deliveries: Delivery) -> None:
    async with Producer(settings, "test") as producer:
        await producer.send_all(WEBHOOKS, [Record(item.key, item.body, item.headers()) for item in deliveries])


async def events(settings: Settings) -> list[Event]:
    return [Event.from_json(item.value) for item in await everything(settings, EVENTS)]


def count(settings: Settings, topic: str, wanted: int) -> Callable[[], Awaitable[bool]]:
    async def enough() -> bool:
        return await amount(settings, topic) >= wanted

    return enough


async def test_deliveries_become_events_and_what_cannot_is_set_aside_whole(settings: Settings) -> None:
    foreign = b"account[id]=7&" + lead(5)
    two_items = (
        lead(1)
        + b"&leads[add][1][last_modified]=1763000000&leads[add][2][id]=3&leads[add][2][last_modified]=1763000000"
    )
    bodies = [two_items, b"\x00\x01garbage", foreign, b"", b'{"json": true}', lead(9)]
    await ensure_topics(settings)
    async with running(lambda stop: ingest(settings, stop)):
        await put(settings, *(delivery(body, number) for number, body in enumerate(bodies)))
        await eventually(count(settings, DEADLETTERS, 4))
        await eventually(count(settings, EVENTS, 4))
    found = await events(settings)
    assert sorted(event.subject for event in found if event.type == "kommo.lead.added") == [
        "lead/1",
        "lead/3",
        "lead/9",
    ]
    unknown = [event for event in found if event.type != "kommo.lead.added"]
    assert [(event.type, event.data) for event in unknown] == [
        ("kommo.unrecognized", {"fields": {"json": {"json": True}}})
    ]
    raw = {(item.partition, item.offset): item for item in await everything(settings, WEBHOOKS)}
    letters = await everything(settings, DEADLETTERS)
    told = {}
    for letter in letters:
        facts = deadletter.read_headers(letter.headers)
        original = raw[int(facts["partition"]), int(facts["offset"])]
        assert facts["topic"] == physical(settings, WEBHOOKS)
        assert (letter.key, letter.value) == (original.key, original.value)
        assert set(original.headers) <= set(letter.headers)
        assert facts["correlation_id"] == dict(original.headers)["delivery_id"].decode()
        assert facts["reader"] == "ingest"
        told[letter.value] = (facts["error_class"], facts["item"], facts["reason"])
    assert told[two_items][:2] == ("validation", "leads[add][1]")
    assert told[foreign][0] == "authorization"
    assert "7" in told[foreign][2]
    assert told[b"\x00\x01garbage"][:2] == ("validation", "")
    assert told[b""][0] == "validation"


async def test_a_mebibyte_of_control_characters_ends_whole_in_the_dead_letters(settings: Settings) -> None:
    body = bytes(range(1, 32)) * (MAX_BODY_BYTES // 31 + 1)
    body = body[:MAX_BODY_BYTES]
    await ensure_topics(settings)
    async with running(lambda stop: ingest(settings, stop)):
        await put(settings, delivery(body), delivery(os.urandom(MAX_BODY_BYTES)), delivery(lead(1)))
        await eventually(count(settings, DEADLETTERS, 2))
        await eventually(count(settings, EVENTS, 1))
    assert body in [item.value for item in await everything(settings, DEADLETTERS)]


async def test_events_of_an_entity_keep_the_order_of_their_deliveries(settings: Settings) -> None:
    await ensure_topics(settings)
    bodies = [lead(number % 7 + 1, f"n{number}", 1_763_000_000 + number) for number in range(3000)]
    await put(settings, *(delivery(body, number) for number, body in enumerate(bodies)))
    async with running(lambda stop: ingest(settings, stop)):
        await eventually(count(settings, EVENTS, 3000), 40)
    found = await events(settings)
    for identifier in range(1, 8):
        mine = [event.sequence for event in found if event.subject == f"lead/{identifier}"]
        assert mine == sorted(mine)


async def test_a_batch_repeated_after_a_crash_has_the_same_ids(settings: Settings) -> None:
    await ensure_topics(settings)
    corpus = bodies()
    await put(settings, *(delivery(path.read_bytes(), number) for number, path in enumerate(corpus)))
    async with (
        Producer(settings, "test") as producer,
        BatchConsumer(settings, topic=WEBHOOKS, group=GROUP, reader=READER) as consumer,
    ):
        await handle(await _whole_batch(consumer, len(corpus)), producer)  # acknowledged, and then: no commit
    first = [(event.id, event.subject, event.data) for event in await events(settings)]
    assert len(first) == len(corpus) - 1  # one body names another account
    async with running(lambda stop: ingest(settings, stop)):
        await eventually(count(settings, EVENTS, 2 * len(first)))
    both = [(event.id, event.subject, event.data) for event in await events(settings)]
    for found in first:
        assert both.count(found) == 2
    assert len(both) == 2 * len(first)


async def _whole_batch(consumer: BatchConsumer, size: int) -> Any:
    batch = await consumer.read()
    while len(batch) < size:
        more = await consumer.read()
        batch.records += more.records
        batch.positions.update(more.positions)
    return batch


async def test_a_fault_in_the_decoder_sets_the_delivery_aside_and_the_rest_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(item: Delivery) -> Decoded:
        if b"bad" in item.body:
            raise ZeroDivisionError
        return decode(item)

    monkeypatch.setattr(agents.ingest, "decode", faulty)
    await ensure_topics(settings)
    async with running(lambda stop: ingest(settings, stop)):
        await put(settings, delivery(lead(1)), delivery(lead(2, "bad")), delivery(lead(3)))
        await eventually(count(settings, DEADLETTERS, 1))
        await eventually(count(settings, EVENTS, 2))
    letter = (await everything(settings, DEADLETTERS))[0]
    assert letter.value == lead(2, "bad")
    assert deadletter.read_headers(letter.headers)["error_class"] == "internal"


async def test_a_record_that_is_no_delivery_is_set_aside(settings: Settings) -> None:
    await ensure_topics(settings)
    async with running(lambda stop: ingest(settings, stop)):
        async with Producer(settings, "test") as producer:
            await producer.send_all(WEBHOOKS, [Record(b"not an account", b"a=1"), Record(b"5", b"a=1")])
        await eventually(count(settings, DEADLETTERS, 2))
    reasons = [deadletter.read_headers(item.headers)["reason"] for item in await everything(settings, DEADLETTERS)]
    assert any("not an account id" in reason for reason in reasons)
    assert any("received_us" in reason for reason in reasons)


@pytest.mark.kills_servers
async def test_while_the_broker_is_away_it_waits_and_loses_nothing(
    mortal_servers: OwnServers, settings: Settings
) -> None:
    await ensure_topics(settings)
    bodies = [lead(number + 1) for number in range(400)]
    await put(settings, *(delivery(body, number) for number, body in enumerate(bodies[:200])))
    async with running(lambda stop: ingest(settings, stop)):
        await eventually(count(settings, EVENTS, 1))
        mortal_servers.embedded.kafka.kill()
        mortal_servers.embedded.kafka.start()
        await put(settings, *(delivery(body, number) for number, body in enumerate(bodies[200:])))

        async def all_there() -> bool:
            return {event.subject for event in await events(settings)} == {f"lead/{n + 1}" for n in range(400)}

        await eventually(all_there, 60)
    assert len({event.id for event in await events(settings)}) == 400


async def test_offsets_are_not_committed_before_the_events_are_acknowledged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_all, failures = Producer.send_all, []
    monkeypatch.setattr(agents.ingest, "_PART", 3)  # what fails is not the last of its batch

    async def fails_at_first(self: Producer, topic: str, records: Any) -> None:
        if topic == EVENTS and not failures:
            failures.append(topic)
            raise KafkaTimeoutError
        await send_all(self, topic, records)

    await ensure_topics(settings)
    await put(settings, *(delivery(lead(number), number) for number in range(1, 11)))
    monkeypatch.setattr(Producer, "send_all", fails_at_first)
    async with running(lambda stop: ingest(settings, stop)):
        await eventually(count(settings, EVENTS, 10))
    assert failures
    assert {event.subject for event in await events(settings)} == {f"lead/{number}" for number in range(1, 11)}


async def test_offsets_are_not_committed_before_dead_letters_are_acknowledged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_letter, failures = Producer._send_letter, []

    async def fails_at_first(self: Producer, letter: Any) -> asyncio.Future[Any]:
        if failures:
            return await send_letter(self, letter)
        failures.append(letter)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(KafkaTimeoutError())
        return future

    await ensure_topics(settings)
    await put(settings, delivery(b"\x01"))
    monkeypatch.setattr(Producer, "_send_letter", fails_at_first)
    async with running(lambda stop: ingest(settings, stop)):
        await eventually(count(settings, DEADLETTERS, 1))
    assert len(failures) == 1


async def test_bodies_that_grow_are_read_in_bounded_batches(settings: Settings) -> None:
    await ensure_topics(settings)
    await put(settings, *(delivery(b"a" * MAX_BODY_BYTES, number) for number in range(100)))
    async with BatchConsumer(settings, topic=WEBHOOKS, group=GROUP, reader=READER) as consumer:
        sizes = []
        while sum(sizes) < 100:
            sizes.append(len((await consumer.read()).records))
    assert max(sizes) <= 70  # 16 MiB and what one fetch brings
