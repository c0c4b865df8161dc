"""Kommo's rules of delivery: when a delivery is sent again, and when a webhook is disabled.

Facts of https://developers.kommo.com/docs/webhooks-general; times are seconds of Kommo's clock. What the page does not
say is taken so: a request that got no answer in time, or could not be made, has the code 0.
"""

from __future__ import annotations

from collections import deque
from typing import Final

TIMEOUT_SECONDS: Final = 2.0
"""How long Kommo waits for an answer."""

NO_ANSWER: Final = 0

_WAITS: Final = (300.0, 900.0, 900.0, 3600.0)  # before the second, third, fourth and fifth attempt
_ON_ANY_FAILURE: Final = 3  # attempts; the later ones are made only after a server's error
_MOST_INVALID: Final = 100
_WINDOW_SECONDS: Final = 7200.0


def accepted(status: int) -> bool:
    """Return whether Kommo takes an answer as success."""
    return 100 <= status < 300


def wait_before_next(attempt: int, status: int) -> float | None:
    """Return how long Kommo waits after an attempt (counted from 1) that was answered so; None: it sends no more."""
    if accepted(status) or attempt > len(_WAITS):
        return None
    if attempt >= _ON_ANY_FAILURE and not (status == 499 or 500 <= status <= 599):
        return None
    return _WAITS[attempt - 1]


class Standing:
    """How a webhook stands: it is disabled after more than 100 invalid answers in two hours of which one is the last.

    Disabled it stays until somebody saves it again by hand.
    """

    def __init__(self) -> None:
        self.disabled = False
        self._invalid: deque[float] = deque()

    def answered(self, status: int, now: float) -> None:
        """Take note of an answer; `now` never goes back."""
        while self._invalid and self._invalid[0] <= now - _WINDOW_SECONDS:
            self._invalid.popleft()
        if not accepted(status):
            self._invalid.append(now)
            self.disabled = self.disabled or len(self._invalid) > _MOST_INVALID
