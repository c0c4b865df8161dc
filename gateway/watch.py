"""The gateway's answers, counted as Kommo counts them: too many invalid ones, and it disables the webhook.

Kommo calls an answer invalid whose status is outside 100..299 or that comes later than 2 s, and disables a webhook
with more than 100 of them within the last 2 hours, if the last one is invalid too; it stays so until a person saves
it again (https://developers.kommo.com/docs/webhooks-general).
"""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from runtime.logs import logger
from runtime.metrics import NEAR_DISABLING, WORST_ACCOUNT

log = logger(__name__)

SLOW_SECONDS = 2.0
"""Longest Kommo waits for an answer."""

WARNED = 50
DISABLED = 100
"""Bad answers of an account within the window at which it is said, as a warning and as an error (Kommo acts above)."""

MAX_ACCOUNTS = 10_000
"""Accounts counted at a time, less than 1 KB each; past it the one whose last bad answer is oldest is forgotten."""

_MINUTE_SECONDS = 60
_WINDOW_MINUTES = 120
# The present minute has only begun, so one more than the window has: an answer counts for 120 to 121 minutes, never
# for less time than at Kommo.
_BUCKETS = _WINDOW_MINUTES + 1

_WHAT_TO_DO = (
    "find what fails in kommo_streams_gateway_answers_total and on /readyz, and mend it (503: Kafka; 413: a body over "
    "the limit; 408, 499: the network before the gateway; 500: a fault of this program; 200 but slow: Kafka or too few "
    "gateways). If Kommo has disabled the webhook by then, save it again there: Settings, Integrations, Web hooks"
)


class _Window:
    """The bad answers of one account: a ring of the last minutes, and their sum."""

    __slots__ = ("_buckets", "_minute", "count")

    def __init__(self, minute: int) -> None:
        self._buckets = array("I", bytes(array("I").itemsize * _BUCKETS))
        self._minute = minute
        self.count = 0

    def add(self) -> None:
        self._buckets[self._minute % _BUCKETS] += 1
        self.count += 1

    def advance(self, minute: int) -> int:
        """Drop what is older than the window, and return what is left."""
        for passed in range(self._minute + 1, min(minute, self._minute + _BUCKETS) + 1):
            self.count -= self._buckets[passed % _BUCKETS]
            self._buckets[passed % _BUCKETS] = 0
        self._minute = max(minute, self._minute)
        return self.count


class AnswerWatch:
    """Counts the bad answers of each account within the last 2 hours, and says when Kommo is about to act.

    It sees the answers of its own process only, and those of all webhooks of an account together, so of one process
    it shows rather more than Kommo counts for one webhook. `clock` gives seconds that never go back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, max_accounts: int = MAX_ACCOUNTS) -> None:
        self._clock = clock
        self._max_accounts = max_accounts
        self._windows: OrderedDict[int, _Window] = OrderedDict()  # the oldest last bad answer first

    def bad(self, account_id: int, status: int, seconds: float) -> None:
        """Take note of one bad answer: its status (499: the client left) and how long it took."""
        minute = self._minute()
        window = self._windows.get(account_id)
        if window is None:
            window = self._windows[account_id] = _Window(minute)
            if len(self._windows) > self._max_accounts:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(account_id)
            window.advance(minute)
        window.add()
        # Counts grow by one and fall with time alone: one is met again only after it was fallen below.
        if window.count in (WARNED, DISABLED):
            say = log.error if window.count == DISABLED else log.warning
            say(
                "Kommo disables a webhook of this account after more than 100 bad answers in 2 hours",
                account_id=account_id,
                bad_answers=window.count,
                last_status=status,
                last_seconds=round(seconds, 3),
                what_to_do=_WHAT_TO_DO,
            )

    def near(self, threshold: int) -> int:
        """Return how many accounts have that many bad answers, or more, now."""
        return sum(count >= threshold for count in self._counts())

    def worst(self) -> int:
        """Return the bad answers of the account that has most of them now."""
        return max(self._counts(), default=0)

    def show(self) -> None:
        """Let the metrics ask this watch, at each scrape: so they fall by themselves as time passes."""
        for threshold in (WARNED, DISABLED):
            NEAR_DISABLING.labels(str(threshold)).set_function(partial(self.near, threshold))
        WORST_ACCOUNT.set_function(self.worst)

    def _minute(self) -> int:
        return int(self._clock() // _MINUTE_SECONDS)

    def _counts(self) -> list[int]:
        minute = self._minute()
        counts = [window.advance(minute) for window in self._windows.values()]
        while self._windows and not next(iter(self._windows.values())).count:
            self._windows.popitem(last=False)
        return counts
