"""The simulator's clock: the machine's, moved on by request, so that a token of 24 hours can expire in a test."""

from __future__ import annotations

import time


class ApiClock:
    """Unix seconds with a fraction."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        """Return the time."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move on by some seconds."""
        self._ahead += seconds
