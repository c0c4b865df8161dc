"""What time it is in the simulated company: the wall clock's, or one of its own that runs ahead by itself."""

from __future__ import annotations

import datetime as dt
import random
import time
from typing import Protocol

MEAN_GAP_SECONDS = 20.0


class Clock(Protocol):
    """A clock that something happens by; it never goes back."""

    def tick(self) -> int:
        """Return the time of the next happening in unix seconds."""
        ...


class WallClock:
    """The time it is now: for a company that is simulated live."""

    def __init__(self) -> None:
        self._now = 0

    def tick(self) -> int:
        """Return the present second, or the last one given if the machine's clock was set back."""
        self._now = max(self._now, int(time.time()))
        return self._now


class OwnClock:
    """A clock that starts where it is told and moves on by gaps of MEAN_GAP_SECONDS on average."""

    def __init__(self, start: int, rng: random.Random) -> None:
        self._now = start
        self._rng = rng

    def tick(self) -> int:
        """Move on by a gap and return the time; a tenth of the happenings share their second with the one before."""
        if self._rng.random() >= 0.1:
            self._now += round(self._rng.expovariate(1 / MEAN_GAP_SECONDS))
        return self._now


def unix_seconds(start: dt.datetime | int) -> int:
    """Return a start as unix seconds. Raises ValueError for a datetime without a zone."""
    if isinstance(start, int):
        return start
    if start.tzinfo is None:
        raise ValueError("a start without a zone: give it one, for example datetime.UTC")
    return int(start.timestamp())
