"""How fast: an exact window for each account, and the one outgoing address that all accounts of a process share.

Kommo allows 7 requests a second and, as one of its pages says, counts them by address
(https://developers.kommo.com/docs/limitations, https://developers.kommo.com/docs/http-codes). Excess gives 429,
repeated excess a block: 403 to everything from that address.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agents.kommo.breaker import Breaker, Rule
from agents.kommo.problems import KommoError
from runtime.logs import logger
from schemas.errors import ErrorClass

log = logger(__name__)

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[object]]
Chance = Callable[[], float]

MOST_WAIT = 5.0  # seconds a request waits for its turn; who must wait longer is told so and comes again later
TOGETHER_SECONDS = 10.0  # 429s of two accounts within this time are the address's, not the accounts'
SLOWEST = 1.0  # requests a second: the address is never slowed below
DOUBLING_SECONDS = 60.0  # a slowed rate doubles in this time
HALVING_SECONDS = 2.0  # at most one halving in this time: what was under way must not count again
REFUTED_SECONDS = 3600.0

BLOCK = Rule(threshold=1, first=60.0, most=3600.0)  # how long Kommo blocks an address is not documented


class Window:
    """Lets no more than `limit` requests through in any `seconds`, in the order they came."""

    def __init__(
        self, limit: int, seconds: float = 1.0, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._times: deque[float] = deque(maxlen=limit)
        self._held_until = float("-inf")
        self._turn = asyncio.Lock()

    async def take(self) -> None:
        """Wait for a place in the window and take it. Raises KommoError (rate_limit) where it is held for longer."""
        async with self._turn:
            # Again and again: a sleep may end early, and the window may be held meanwhile.
            while (wait := self._wait(self._clock())) > 0:
                if wait > MOST_WAIT:
                    raise _later("the account has sent too much", wait)
                await self._sleep(wait)
            self._times.append(self._clock())

    def hold(self, seconds: float) -> None:
        """Let nothing through for some seconds: Kommo said so."""
        self._held_until = max(self._held_until, self._clock() + seconds)

    def _wait(self, now: float) -> float:
        full = self._times[0] + self._seconds - now if len(self._times) == self._times.maxlen else 0.0
        return max(full, self._held_until - now)


@dataclass(frozen=True, slots=True)
class AddressState:
    """The outgoing address now: requests a second it is slowed to (None: not slowed), seconds it is blocked for yet."""

    rate: float | None
    blocked_seconds: float


class Address:
    """The outgoing address of this process, as Kommo treats it.

    429s of two accounts within 10 s halve its rate, which then doubles within a minute. A block stops it: for a
    minute, then one request goes as a probe; every block in a row doubles the time, up to an hour. Which account a
    sign came from counts: what another account's answer refutes was the account's own, and stops the address no more.
    """

    def __init__(
        self, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep, chance: Chance = random.random
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        self._sent: deque[float] = deque()
        self._excess: dict[int, float] = {}
        self._slowed: tuple[float, float] | None = None  # the rate, and since when
        self._usual = 0.0  # the rate before it was slowed
        self._next = float("-inf")
        self._block = Breaker(BLOCK)
        self._blamed: int | None = None
        self._refuted: dict[int, float] = {}

    @property
    def state(self) -> AddressState:
        """The state, for metrics."""
        now = self._clock()
        return AddressState(self._rate(now), self._block.wait(now))

    async def admit(self) -> int:
        """Wait until the address may send, and return the era that the outcome is told with.

        Raises KommoError (rate_limit, nothing sent) while it is blocked, or slowed so far that the wait is too long.
        """
        self._check()
        now = self._clock()
        if (rate := self._rate(now)) is not None:
            at = max(now, self._next)
            if at - now > MOST_WAIT:
                raise _later("the outgoing address is slowed down", at - now)
            self._next = at + 1.0 / rate
            if at > now:
                await self._sleep(at - now)
                self._check()
        now = self._clock()
        self._sent.append(now)
        while self._sent[0] <= now - 1.0:
            self._sent.popleft()
        self._block = self._block.admitted(now)
        return self._block.era

    def outcome(self, account_id: int, era: int, problem: KommoError | None) -> None:
        """An account got an answer (None: a good one), or none."""
        if problem is None or (problem.status is not None and not problem.blocked):
            self.answered(account_id, era)
        elif problem.blocked:
            self.blocked(account_id, era)
        else:
            self.unanswered(era)
        if problem is not None and problem.status == 429:
            self.too_many(account_id)

    def answered(self, account_id: int, era: int) -> None:
        """An account got an answer other than a block."""
        before = self._block
        self._block = before.succeeded(era)
        if before.until is not None and self._block.until is None:
            log.info("the outgoing address is not blocked any more")
            if self._blamed is not None and self._blamed != account_id:
                self._refuted[self._blamed] = self._clock() + REFUTED_SECONDS

    def too_many(self, account_id: int) -> None:
        """An account got a 429."""
        now = self._clock()
        self._excess = {who: at for who, at in self._excess.items() if now - at <= TOGETHER_SECONDS}
        self._excess[account_id] = now
        if len(self._excess) < 2 or (self._slowed is not None and now - self._slowed[1] < HALVING_SECONDS):
            return
        rate = self._rate(now)
        recent = float(sum(1 for at in self._sent if at > now - 1.0))
        if rate is None:
            self._usual = max(recent, SLOWEST)
        self._slowed = (max(SLOWEST, (recent if rate is None else min(rate, max(recent, SLOWEST))) / 2), now)
        self._excess.clear()
        log.warning("several accounts send too much: the outgoing address is slowed down", rate=self._slowed[0])

    def blocked(self, account_id: int, era: int) -> None:
        """An account got the 403 of a blocked address."""
        now = self._clock()
        if self._refuted.get(account_id, now) > now:
            self._block = self._block.abandoned(era)
            return
        before = self._block
        self._block = before.failed(era, now, self._chance())
        if before.until is None:
            self._blamed = account_id
        elif self._blamed != account_id:
            self._blamed = None  # two accounts saw it: it is the address's
        if self._block is not before:
            log.error("Kommo blocks the outgoing address", seconds=round(self._block.wait(now)))

    def unanswered(self, era: int) -> None:
        """A request got no answer, or was never sent: that says nothing of the address."""
        self._block = self._block.abandoned(era)

    def _check(self) -> None:
        if (wait := self._block.wait(self._clock())) > 0:
            raise _later("Kommo blocks the outgoing address", wait, blocked=True)

    def _rate(self, now: float) -> float | None:
        if self._slowed is None:
            return None
        rate, since = self._slowed
        rate *= math.pow(2.0, min((now - since) / DOUBLING_SECONDS, 60.0))
        if rate >= 2 * self._usual:
            self._slowed = None
            return None
        return rate


def _later(why: str, seconds: float, *, blocked: bool = False) -> KommoError:
    return KommoError(
        ErrorClass.RATE_LIMIT,
        f"not sent, for {seconds:.0f} s: {why}",
        title=why,
        retry_after=seconds,
        blocked=blocked,
    )
