"""Posts the webhooks that changes cause, by Kommo's rules: 2 seconds for an answer, up to five attempts, disabling.

The rules are those of simulator/postal.py. Where `simulate` asks for its deliveries one by one, these come when they
come; so they have a sender of their own.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from simulator.company import SimulatedDelivery
from simulator.counts import Counts
from simulator.postal import NO_ANSWER, TIMEOUT_SECONDS, Standing, accepted, wait_before_next
from simulator.poster import Poster

_MOST_IN_FLIGHT: Final = 64


@dataclass(frozen=True, slots=True)
class _Letter:
    delivery: SimulatedDelivery
    attempt: int = 1


class Postman:
    """Posts deliveries to the addresses of their accounts; an account without one is told of nothing.

    `speed`: Kommo's seconds a second, for the waits between attempts. Addresses are secrets and never logged. Use it
    in one event loop: `post` may be called from anywhere in it, `close` ends it with what waits unsent.
    """

    def __init__(self, addresses: Mapping[int, str], speed: float = 1.0) -> None:
        self.counts = Counts()
        self._addresses = addresses
        self._speed = speed
        self._standing: defaultdict[int, Standing] = defaultdict(Standing)
        self._queue: deque[_Letter] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._waiting: dict[asyncio.TimerHandle, int] = {}  # for another attempt, of which account
        self._poster = Poster(TIMEOUT_SECONDS) if addresses else None

    @property
    def idle(self) -> bool:
        """Whether everything was answered, and nothing waits for another attempt."""
        return not (self._queue or self._under_way or self._waiting)

    def disabled(self, account: int) -> bool:
        """Return whether Kommo has disabled an account's webhook after too many failures."""
        return self._standing[account].disabled

    def post(self, delivery: SimulatedDelivery) -> None:
        """Post a delivery as soon as there is room."""
        if delivery.account in self._addresses:
            self._put(_Letter(delivery))

    async def close(self) -> None:
        """Stop: what is under way is broken off."""
        for handle in self._waiting:
            handle.cancel()
        self.counts.waiting += len(self._waiting) + len(self._queue)
        self._waiting.clear()
        self._queue.clear()
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        if self._poster is not None:
            await self._poster.close()

    def _put(self, letter: _Letter) -> None:
        self._queue.append(letter)
        self._send_some()

    def _send_some(self) -> None:
        while self._queue and len(self._under_way) < _MOST_IN_FLIGHT:
            letter = self._queue.popleft()
            if self._standing[letter.delivery.account].disabled:
                continue
            self.counts.sent += 1
            self.counts.attempts_again += letter.attempt > 1
            task = asyncio.create_task(self._post(letter))
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._send_some()

    async def _post(self, letter: _Letter) -> None:
        assert self._poster is not None  # noqa: S101 there is an address
        delivery, status = letter.delivery, NO_ANSWER
        try:
            status = await self._poster.post(self._addresses[delivery.account], delivery.body, delivery.headers)
        except TimeoutError:
            self.counts.timed_out += 1
        except httpx.HTTPError as error:
            self.counts.failed[type(error).__name__] += 1
        except asyncio.CancelledError:
            self.counts.abandoned += 1
            raise
        else:
            self.counts.answers[status] += 1
        self._answered(letter, status)

    def _answered(self, letter: _Letter, status: int) -> None:
        loop, account = asyncio.get_running_loop(), letter.delivery.account
        standing = self._standing[account]
        standing.answered(status, loop.time() * self._speed)
        if standing.disabled:
            for handle in [waiting for waiting, whose in self._waiting.items() if whose == account]:
                handle.cancel()
                del self._waiting[handle]
            return
        wait = wait_before_next(letter.attempt, status)
        if wait is None:
            self.counts.given_up += not accepted(status)
            return

        def again() -> None:
            del self._waiting[handle]
            self._put(_Letter(letter.delivery, letter.attempt + 1))

        handle = loop.call_later(wait / self._speed, again)
        self._waiting[handle] = account
