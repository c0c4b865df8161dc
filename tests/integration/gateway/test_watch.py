"""Bad answers counted as Kommo counts them: within the last 2 hours, by account, bounded, and said once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
import structlog
from prometheus_client import REGISTRY

from gateway.door import Door
from gateway.intake import Intake
from gateway.process import gateway
from gateway.tokens import Keyring
from gateway.watch import AnswerWatch
from runtime.logs import logging_to
from runtime.settings import Settings
from schemas.delivery import MAX_BODY_BYTES, Delivery
from streams.accounts import Accounts, AccountSettings, write_account
from tests.integration.gateway.support import ACCOUNT, NO_KAFKA, opened, path
from tests.support.servers import OwnServers
from tests.support.waiting import eventually, running

HOURS = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is said, whatever an earlier test has set up for the logs."""
    capture = structlog.testing.LogCapture()
    monkeypatch.setattr("gateway.watch.log", structlog.wrap_logger(None, processors=[capture]))
    return capture.entries


def bad(watch: AnswerWatch, times: int, account: int = ACCOUNT) -> None:
    for _ in range(times):
        watch.bad(account, 503, 1.5)


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"kommo_streams_gateway_{name}", labels)


def shown() -> tuple[float | None, ...]:
    near = "accounts_near_disabling"
    return metric(near, threshold="50"), metric(near, threshold="100"), metric("worst_account_bad_answers")


def test_it_is_said_once_at_50_and_once_at_100(clock: Clock, lines: list[Any]) -> None:
    watch = AnswerWatch(clock=clock)
    bad(watch, 49)
    assert lines == []
    bad(watch, 1)
    assert [(line["log_level"], line["bad_answers"], line["account_id"]) for line in lines] == [
        ("warning", 50, ACCOUNT)
    ]
    bad(watch, 49)
    assert len(lines) == 1
    bad(watch, 200)
    assert [(line["log_level"], line["bad_answers"]) for line in lines] == [("warning", 50), ("error", 100)]
    assert lines[1]["last_status"] == 503
    assert lines[1]["last_seconds"] == 1.5
    assert "Web hooks" in lines[1]["what_to_do"]


def test_it_is_said_again_only_after_the_count_fell_below(clock: Clock, lines: list[Any]) -> None:
    watch = AnswerWatch(clock=clock)
    bad(watch, 30)
    clock.now += HOURS
    bad(watch, 30)  # 60 now
    assert len(lines) == 1
    clock.now += 1.1 * HOURS  # 30 left
    bad(watch, 19)
    assert len(lines) == 1
    bad(watch, 1)
    assert [line["bad_answers"] for line in lines] == [50, 50]


def test_an_answer_counts_for_two_hours_and_less_than_two_minutes_more(clock: Clock) -> None:
    watch = AnswerWatch(clock=clock)
    for offset in range(0, 240, 7):
        clock.now = 2_000_000.0 + offset * HOURS
        bad(watch, 3)
        clock.now += 2 * HOURS - 0.001
        assert watch.worst() == 3
        clock.now += 62
        assert watch.worst() == 0


def test_the_count_is_that_of_a_plain_list_of_times(clock: Clock, lines: list[Any]) -> None:
    watch, times, chance, highest = AnswerWatch(clock=clock), [], random.Random(7), 0
    for _ in range(3000):
        clock.now += chance.choice([1, 30, 59, 61, 600, 3000, 9000]) if chance.random() < 0.1 else 0
        bad(watch, 1)
        highest = max(highest, watch.worst())
        times.append(clock.now)
        least = sum(time > clock.now - 2 * HOURS for time in times)
        most = sum(time > clock.now - 2 * HOURS - 60 for time in times)
        assert least <= watch.worst() <= most
    assert highest > 100
    assert {line["bad_answers"] for line in lines} == {50, 100}


def test_the_metrics_fall_by_themselves_and_name_no_account(clock: Clock, lines: list[Any]) -> None:
    watch = AnswerWatch(clock=clock)
    watch.show()
    assert shown() == (0, 0, 0)
    bad(watch, 49, 1)
    assert shown() == (0, 0, 49)
    bad(watch, 1, 1)
    clock.now += HOURS
    bad(watch, 120, 2)
    assert shown() == (2, 1, 120)
    clock.now += 1.1 * HOURS
    assert shown() == (1, 1, 120)
    clock.now += HOURS
    assert shown() == (0, 0, 0)


def test_a_bounded_number_of_accounts_is_kept_the_oldest_last_answer_goes(clock: Clock, lines: list[Any]) -> None:
    watch = AnswerWatch(clock=clock, max_accounts=3)
    for account, times in ((1, 60), (2, 60), (3, 60), (1, 1)):
        bad(watch, times, account)
    assert watch.near(50) == 3
    bad(watch, 1, 4)  # 2 goes
    assert watch.near(50) == 2
    bad(watch, 1, 1)
    assert watch.worst() == 62
    bad(watch, 1, 2)  # comes again from nothing; 3 goes
    assert watch.near(50) == 1


def test_accounts_without_bad_answers_are_forgotten(clock: Clock) -> None:
    watch = AnswerWatch(clock=clock)
    for account in range(1, 1001):
        bad(watch, 1, account)
    clock.now += 3 * HOURS
    bad(watch, 1, 1)
    assert watch.worst() == 1
    assert len(watch._windows) == 1


async def test_every_kind_of_bad_answer_is_counted_and_no_other(client: httpx.AsyncClient, settings: Settings) -> None:
    await write_account(settings, 7, AccountSettings(closed=True))

    async def closed() -> bool:
        return (await client.post(path(settings, 7), content=b"")).status_code == 404

    await eventually(closed)
    address = path(settings)
    for good in (
        client.post(address, content=b"a=1"),
        client.get(address),
        client.post(address + "x"),
        client.get("/"),
    ):
        await good
    for _ in range(3):
        await client.post(path(settings, 7), content=b"a=1")
    assert shown() == (0, 0, 0)
    assert (await client.post(address, content=b"\x01" * (MAX_BODY_BYTES + 1))).status_code == 413
    assert shown()[2] == 1
    assert (await client.post(address, content=slowly(2.1))).status_code == 200
    assert shown()[2] == 2  # 200, and too late
    assert (await client.post(address, content=slowly(1.0))).status_code == 200
    assert shown()[2] == 2
    _reader, writer = await asyncio.open_connection("127.0.0.1", settings.gateway_port)
    writer.write(f"POST {address} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc".encode())
    await writer.drain()
    writer.close()
    await eventually(lambda: shown()[2] == 3)
    text = (await client.get("/metrics")).text
    assert "kommo_streams_gateway_worst_account_bad_answers 3.0" in text
    assert 'kommo_streams_gateway_accounts_near_disabling{threshold="50"} 0.0' in text
    assert str(ACCOUNT) not in text


async def slowly(seconds: float) -> AsyncIterator[bytes]:
    yield b"a="
    await asyncio.sleep(seconds)
    yield b"1"


async def test_a_body_that_stalls_is_counted(settings: Settings) -> None:
    settings = settings.model_copy(update={"gateway_body_seconds": 0.3})
    async with running(lambda stop: gateway(settings, stop)):
        await opened(settings)
        reader, writer = await asyncio.open_connection("127.0.0.1", settings.gateway_port)
        writer.write(f"POST {path(settings)} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc".encode())
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408 ")
        writer.close()
        await eventually(lambda: shown()[2] == 1)


async def test_a_fault_of_the_program_is_counted(settings: Settings, clock: Clock) -> None:
    async def store(_delivery: Delivery) -> None:
        raise RuntimeError("a fault")

    watch = AnswerWatch(clock=clock)
    keys, intake = Keyring.from_settings(settings), Intake(store, ack_seconds=1)
    door = Door(keys, Accounts(), intake, watch, ready=lambda: True, body_seconds=1)
    transport = httpx.ASGITransport(door, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        assert (await client.post(path(settings), content=b"a=1")).status_code == 500
    assert watch.worst() == 1


@pytest.mark.kills_servers
async def test_without_an_acknowledgement_each_account_counts_its_own(
    mortal_servers: OwnServers, client: httpx.AsyncClient, settings: Settings
) -> None:
    mortal_servers.embedded.kafka.kill()
    try:
        posts = [client.post(path(settings, account), content=b"lost=1") for account in (1, 1, 1, 2)]
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {503}
        assert shown()[2] == 3
    finally:
        mortal_servers.embedded.kafka.start()


async def test_a_gateway_that_has_not_seen_kafka_yet_says_when_it_becomes_dangerous(
    settings: Settings, tmp_path: Any
) -> None:
    settings = settings.model_copy(update={"kafka_bootstrap_servers": NO_KAFKA, "log_format": "json"})
    with (tmp_path / "log").open("w+") as stream, logging_to(settings, stream):
        async with running(lambda stop: gateway(settings, stop)):
            await opened(settings)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.gateway_port}") as client:
                for _ in range(120):
                    assert (await client.post(path(settings), content=b"a=1")).status_code == 503
                    assert (await client.post(path(settings, 8) + "x", content=b"a=1")).status_code == 404
            assert shown() == (1, 1, 120)
    lines = [orjson.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    told = [(line["level"], line["account_id"], line["bad_answers"]) for line in lines if "bad_answers" in line]
    assert told == [("warning", ACCOUNT, 50), ("error", ACCOUNT, 100)]
