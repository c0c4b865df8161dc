"""The window never lets too many through; the address slows down, stops, and recovers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.kommo.limits import MOST_WAIT, REFUTED_SECONDS, Address, Window
from agents.kommo.problems import KommoError
from schemas.errors import ErrorClass


class Time:
    """A clock that only sleeping moves; a sleep may end early by a share of it."""

    def __init__(self, shares: list[float] | None = None) -> None:
        self.now = 1000.0
        self.slept = 0.0
        self._shares = shares or [1.0]
        self._count = 0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self._count += 1
        share = self._shares[self._count % len(self._shares)]
        self.now += max(seconds * share, 1e-6)
        self.slept += seconds * share
        await asyncio.sleep(0)


@given(
    limit=st.integers(1, 8),
    bursts=st.lists(st.tuples(st.floats(0, 1.5), st.integers(1, 12)), min_size=1, max_size=8),
    early=st.lists(st.floats(0.3, 1.0), min_size=1, max_size=4),
)
def test_never_more_than_the_limit_in_any_second(
    limit: int, bursts: list[tuple[float, int]], early: list[float]
) -> None:
    async def run() -> list[float]:
        time = Time(early)
        window = Window(limit, clock=time.clock, sleep=time.sleep)
        passed: list[float] = []

        async def one() -> None:
            await window.take()
            passed.append(time.now)

        for pause, count in bursts:
            time.now += pause
            await asyncio.gather(*(one() for _ in range(count)))
        return passed

    passed = asyncio.run(run())
    assert len(passed) == sum(count for _, count in bursts)
    assert passed == sorted(passed)
    for first, beyond in zip(passed, passed[limit:], strict=False):
        assert first + 1.0 - beyond <= 1e-9


async def test_a_window_wastes_no_time() -> None:
    time = Time()
    window = Window(7, clock=time.clock, sleep=time.sleep)
    for _ in range(7):
        await window.take()
    assert time.slept == 0
    for _ in range(14):
        await window.take()
    assert time.now - 1000 == pytest.approx(2.0)


async def test_they_go_in_the_order_they_came() -> None:
    time = Time()
    window = Window(1, clock=time.clock, sleep=time.sleep)
    order: list[int] = []

    async def one(number: int) -> None:
        await window.take()
        order.append(number)

    await asyncio.gather(*(one(number) for number in range(6)))
    assert order == [0, 1, 2, 3, 4, 5]


async def test_one_that_gives_up_waiting_takes_no_place() -> None:
    window = Window(1)
    await window.take()
    waiting = asyncio.create_task(window.take())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    began = asyncio.get_running_loop().time()
    await window.take()
    assert asyncio.get_running_loop().time() - began < 1.2


async def test_a_window_is_held_and_says_when_it_is_held_for_long() -> None:
    time = Time()
    window = Window(7, clock=time.clock, sleep=time.sleep)
    window.hold(3)
    await window.take()
    assert time.now == pytest.approx(1003)
    window.hold(300)
    with pytest.raises(KommoError) as caught:
        await window.take()
    assert (caught.value.error_class, caught.value.left) == (ErrorClass.RATE_LIMIT, False)
    assert caught.value.retry_after == pytest.approx(300)
    time.now += 300
    await window.take()


def address(chance: float = 0.999999) -> tuple[Address, Time]:
    time = Time()
    return Address(clock=time.clock, sleep=time.sleep, chance=lambda: chance), time


async def busy(given: Address, time: Time, count: int = 40) -> None:
    """Send some at once: the address's usual rate."""
    for _ in range(count):
        given.answered(1, await given.admit())


async def test_an_excess_of_one_account_slows_nobody() -> None:
    given, time = address()
    await busy(given, time)
    for _ in range(20):
        given.too_many(1)
        time.now += 1
    assert given.state.rate is None
    time.now += 10
    given.too_many(2)
    time.now += 11
    given.too_many(1)
    assert given.state.rate is None, "more than 10 s apart they have nothing to do with each other"


async def test_two_accounts_halve_the_rate_and_it_recovers() -> None:
    given, time = address()
    await busy(given, time, 40)
    given.too_many(1)
    given.too_many(2)
    assert given.state.rate == pytest.approx(20)
    given.too_many(1)
    given.too_many(2)
    assert given.state.rate == pytest.approx(20), "what was under way does not count again"
    began = time.now
    for _ in range(41):
        await given.admit()
    assert 1.9 < time.now - began < 2.1
    time.now += 30
    slowly = given.state.rate
    assert slowly is not None
    assert 25 < slowly < 35
    time.now += 30
    assert given.state.rate == pytest.approx(40, rel=0.1)
    time.now += 60
    assert given.state.rate is None


async def test_it_is_halved_again_but_never_to_nothing() -> None:
    given, time = address()
    await busy(given, time, 4)
    rates = []
    for _ in range(6):
        given.too_many(1)
        given.too_many(2)
        rates.append(given.state.rate)
        time.now += 3
    assert rates[0] == 2
    assert min(rate for rate in rates if rate is not None) == 1


async def test_who_would_wait_too_long_is_told() -> None:
    given, time = address()
    await busy(given, time, 2)
    given.too_many(1)
    given.too_many(2)
    slow: list[Any] = []

    async def still(_seconds: float) -> None:
        slow.append(_seconds)

    given._sleep = still  # nobody moves on

    async def many() -> None:
        for _ in range(20):
            await given.admit()

    with pytest.raises(KommoError) as caught:
        await many()
    assert (caught.value.error_class, caught.value.left, caught.value.blocked) == (ErrorClass.RATE_LIMIT, False, False)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > MOST_WAIT
    assert len(slow) <= 7


async def test_a_block_stops_all_accounts_then_one_probe_goes() -> None:
    given, time = address()
    given.blocked(1, await given.admit())
    waits = []
    for _ in range(8):
        with pytest.raises(KommoError) as caught:
            await given.admit()
        assert caught.value.blocked
        assert not caught.value.left
        waits.append(caught.value.retry_after)
        time.now += given.state.blocked_seconds
        era = await given.admit()
        with pytest.raises(KommoError):
            await given.admit()  # one probe
        given.blocked(2, era)
    assert [round(wait or 0) for wait in waits] == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    time.now += 3600
    era = await given.admit()
    given.unanswered(era)  # a probe that told nothing
    given.answered(1, await given.admit())
    assert given.state.blocked_seconds == 0
    await busy(given, time)


async def test_an_account_whose_blocks_others_refute_stops_nobody() -> None:
    given, time = address()
    given.blocked(1, await given.admit())
    time.now += 61
    given.answered(2, await given.admit())
    given.blocked(1, await given.admit())
    assert given.state.blocked_seconds == 0, "it was account 1's own"
    given.blocked(2, await given.admit())
    assert given.state.blocked_seconds > 0
    time.now += 61
    given.answered(1, await given.admit())
    time.now += REFUTED_SECONDS
    given.blocked(1, await given.admit())
    assert given.state.blocked_seconds > 0


async def test_an_account_does_not_refute_itself() -> None:
    given, time = address()
    for _ in range(2):
        given.blocked(1, await given.admit())
        assert given.state.blocked_seconds > 0
        time.now += 61
        given.answered(1, await given.admit())


async def test_a_block_that_two_accounts_saw_is_refuted_by_none() -> None:
    given, time = address()
    first, second = await given.admit(), await given.admit()
    given.blocked(1, first)
    given.blocked(2, second)
    time.now += 61
    given.answered(3, await given.admit())
    given.blocked(1, await given.admit())
    assert given.state.blocked_seconds > 0
