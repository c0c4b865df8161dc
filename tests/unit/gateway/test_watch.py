"""Bad answers counted as Kommo counts them: within the last 2 hours, by account, bounded, and said once."""

from __future__ import annotations

import random
from typing import Any

import httpx
import orjson
import pytest
import structlog

from gateway.door import Door
from gateway.intake import Intake
from gateway.process import gateway
from gateway.tokens import Keyring
from gateway.watch import AnswerWatch
from runtime.logs import logging_to
from schemas.delivery import Delivery
from streams.accounts import Accounts
from tests.support.gateway import ACCOUNT, client_of, opened, path, shown, without_kafka
from tests.support.waiting import running

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
        # Those that no count may hold any more are dropped: the list stays short.
        times = [*(time for time in times if time > clock.now - 2 * HOURS - 60), clock.now]
        least = sum(time > clock.now - 2 * HOURS for time in times)
        most = len(times)
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


async def test_a_fault_of_the_program_is_counted(clock: Clock) -> None:
    async def store(_delivery: Delivery) -> None:
        raise RuntimeError("a fault")

    settings, watch = without_kafka(), AnswerWatch(clock=clock)
    keys, intake = Keyring.from_settings(settings), Intake(store, ack_seconds=1)
    door = Door(keys, Accounts(), intake, watch, ready=lambda: True, body_seconds=1)
    transport = httpx.ASGITransport(door, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        assert (await client.post(path(settings), content=b"a=1")).status_code == 500
    assert watch.worst() == 1


async def test_a_gateway_that_has_not_seen_kafka_yet_says_when_it_becomes_dangerous(tmp_path: Any) -> None:
    settings = without_kafka(log_format="json")
    with (tmp_path / "log").open("w+") as stream, logging_to(settings, stream):
        async with running(lambda stop: gateway(settings, stop)):
            await opened(settings)
            async with client_of(settings) as client:
                for _ in range(120):
                    assert (await client.post(path(settings), content=b"a=1")).status_code == 503
                    assert (await client.post(path(settings, 8) + "x", content=b"a=1")).status_code == 404
            assert shown() == (1, 1, 120)
    lines = [orjson.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    told = [(line["level"], line["account_id"], line["bad_answers"]) for line in lines if "bad_answers" in line]
    assert told == [("warning", ACCOUNT, 50), ("error", ACCOUNT, 100)]
