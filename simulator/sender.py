"""Sends deliveries to webhook addresses: at a rate, by Kommo's rules, and with what goes wrong on request."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import httpx

from simulator.company import SimulatedDelivery
from simulator.counts import Counts
from simulator.mischief import NO_MISCHIEF, Mischief
from simulator.postal import NO_ANSWER, TIMEOUT_SECONDS, Standing, accepted, wait_before_next
from simulator.poster import Poster
from simulator.truth import Told, Truth

MOST_IN_FLIGHT: Final = 64
_DRAIN_SECONDS: Final = 0.7
_MOST_BEHIND_SECONDS: Final = 1.0
_STORED_LATE_US: Final = 10_000_000  # what was not answered may be stored up to so much later


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How deliveries are sent. `rate`: new ones a second. `speed`: Kommo's seconds a second, for all that waits.

    `seed`: of what goes wrong. `timeout`: seconds for an answer. `in_flight`: requests under way at once; when so
    many are, it waits, so a slow gateway lowers the rate.
    """

    rate: float
    speed: float = 1.0
    mischief: Mischief = NO_MISCHIEF
    seed: int = 0
    in_flight: int = MOST_IN_FLIGHT
    timeout: float = TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class _Letter:
    """A delivery on its way. `repeat`: it is sent once more on request. `attempt` is counted from 1."""

    delivery: SimulatedDelivery
    told: Told
    repeat: bool = False
    attempt: int = 1


class Sender:
    """Sends deliveries to the addresses of their accounts, and counts what becomes of them.

    The addresses are secrets and never logged. `truth` is told what was sent and what of it arrived. `on_disabled`
    is called once for an account whose webhook Kommo's rules disable: nothing more is sent for it.
    """

    def __init__(
        self,
        addresses: Mapping[int, str],
        manner: Manner,
        *,
        truth: Truth | None = None,
        on_disabled: Callable[[int], None] = lambda account: None,
    ) -> None:
        self.counts = Counts()
        self._addresses = addresses
        self._manner = manner
        self._truth = truth
        self._on_disabled = on_disabled
        self._rng = random.Random(manner.seed)  # noqa: S311 a simulation, nothing secret
        self._standing: defaultdict[int, Standing] = defaultdict(Standing)
        self._under_way: set[asyncio.Task[None]] = set()
        self._later: list[tuple[float, int, _Letter]] = []
        self._number = itertools.count()
        self._poster = Poster(manner.timeout)
        self._news = asyncio.Event()

    async def run(self, deliveries: Iterable[SimulatedDelivery], stop: asyncio.Event) -> Counts:
        """Send until the deliveries end, the late and the repeated ones too, or `stop` is set; return the counts.

        The deliveries are asked for one by one, each when its turn has come. After `stop` those under way have less
        than a second to be answered. Where nothing was accepted it does not wait for second attempts.
        """
        stopping = asyncio.create_task(self._wake_at(stop))
        source = self._manner.mischief.with_garbage(deliveries, self._rng)
        try:
            await self._send_all(source, stop)
        finally:
            stopping.cancel()
            await self._drain(stop)
            await self._poster.close()
        self.counts.waiting = len(self._later)
        return self.counts

    def waiting(self) -> tuple[int, float]:
        """Return how many deliveries wait to be sent, and in how many seconds the next is due (while it runs)."""
        if not self._later:
            return 0, 0.0
        return len(self._later), max(0.0, self._later[0][0] - asyncio.get_running_loop().time())

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._news.set()

    async def _send_all(self, source: Iterator[SimulatedDelivery], stop: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        due: float | None = clock()  # of the next new delivery; None: they have ended
        steps = 0
        while not stop.is_set():
            now = clock()
            if len(self._under_way) >= self._manner.in_flight:
                await self._rest(None)
            elif self._later and self._later[0][0] <= now:
                self._send(heapq.heappop(self._later)[2])
            elif due is not None and due <= now:
                delivery = next(source, None)
                if delivery is None:
                    due = None
                    continue
                self._take(delivery, now)
                due = max(due + 1 / self._manner.rate, now - _MOST_BEHIND_SECONDS)
            elif due is None and not self._under_way and (not self._later or self._hopeless()):
                return
            else:
                moments = [moment for moment in (due, self._later[0][0] if self._later else None) if moment is not None]
                await self._rest(min(moments) - now if moments else None)
            steps += 1
            if steps % 16 == 0:
                await asyncio.sleep(0)  # behind the rate: let the answers be read all the same

    def _hopeless(self) -> bool:
        """Whether nothing was accepted, and only second and later attempts are left."""
        return not self.counts.accepted and all(letter.attempt > 1 for _, _, letter in self._later)

    async def _rest(self, seconds: float | None) -> None:
        """Wait until a request has ended, it is stopped, or so many seconds have passed."""
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def _take(self, delivery: SimulatedDelivery, now: float) -> None:
        told = self._truth.tell(delivery) if self._truth else Told(())
        moments = self._manner.mischief.moments(self._rng)
        self.counts.lost += not moments and delivery.entity != ""
        for number, late in enumerate(moments):
            letter = _Letter(delivery, told, repeat=number > 0)
            if late:
                self._send_later(now + late / self._manner.speed, letter)
            else:
                self._send(letter)

    def _send_later(self, due: float, letter: _Letter) -> None:
        heapq.heappush(self._later, (due, next(self._number), letter))

    def _send(self, letter: _Letter) -> None:
        if self._standing[letter.delivery.account].disabled:
            return
        self.counts.sent += 1
        if letter.attempt > 1:
            self.counts.attempts_again += 1
        elif letter.repeat:
            self.counts.repeats += 1
        elif not letter.delivery.entity:
            self.counts.garbage += 1
        task = asyncio.create_task(self._post(letter))
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._news.set()

    async def _drain(self, stop: asyncio.Event) -> None:
        if not self._under_way:
            return
        under_way = list(self._under_way)
        patience = _DRAIN_SECONDS if stop.is_set() else self._manner.timeout + 1
        _, late = await asyncio.wait(under_way, timeout=patience)
        for task in late:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _post(self, letter: _Letter) -> None:
        delivery, counts, began = letter.delivery, self.counts, time.time_ns() // 1000
        status, late = NO_ANSWER, _STORED_LATE_US
        try:
            status = await self._poster.post(self._addresses[delivery.account], delivery.body, delivery.headers)
        except TimeoutError:
            counts.timed_out += 1
        except asyncio.CancelledError:
            counts.abandoned += 1
            letter.told.arrived(began, time.time_ns() // 1000 + late, certain=False)
            raise
        except httpx.HTTPError as error:
            counts.failed[type(error).__name__] += 1
            if isinstance(error, httpx.ConnectError):
                late = -1  # it never left
        else:
            counts.answers[status] += 1
            late = 0 if accepted(status) else late
        if late >= 0:
            letter.told.arrived(began, time.time_ns() // 1000 + late, certain=accepted(status))
        self._answered(letter, status)

    def _answered(self, letter: _Letter, status: int) -> None:
        now, account = asyncio.get_running_loop().time(), letter.delivery.account
        standing = self._standing[account]
        was_disabled = standing.disabled
        standing.answered(status, now * self._manner.speed)
        if standing.disabled:
            if not was_disabled:
                self._later = [entry for entry in self._later if entry[2].delivery.account != account]
                heapq.heapify(self._later)
                if self._truth:
                    self._truth.disabled(account)
                self._on_disabled(account)
            return
        wait = wait_before_next(letter.attempt, status)
        if wait is not None:
            self._send_later(now + wait / self._manner.speed, replace(letter, attempt=letter.attempt + 1))
        elif not accepted(status):
            self.counts.given_up += 1
