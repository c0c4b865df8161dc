"""Kommo's limit of requests, and what comes of not keeping it.

https://developers.kommo.com/docs/limitations: no more than 7 requests a second; more are answered 429, and whoever
goes on is blocked by address: 403 to everything. How often, and for how long, no page says: both are settings.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Final

from simulator.api.errors import blocked, too_many

KOMMOS_RATE: Final = 7.0

_JITTER_SECONDS: Final = 0.1
"""A client that spaces its requests exactly must not be refused for what the network does to the spaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`rate`: requests a second of one account, None without limits. `retry_after`: seconds, as a 429 says.

    An address that is answered 429 more than `block_after` times within `block_window` seconds is blocked for
    `block_seconds`.
    """

    rate: float | None = KOMMOS_RATE
    retry_after: int = 1
    json_429: bool = True
    block_after: int = 50
    block_window: float = 60.0
    block_seconds: float = 60.0


class Gatekeeper:
    """Counts requests by account and excess by address; times are monotonic seconds."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._recent: defaultdict[int, deque[float]] = defaultdict(deque)
        self._excess: defaultdict[str, deque[float]] = defaultdict(deque)
        self._blocked_until: dict[str, float] = {}

    def admit_address(self, address: str, now: float) -> None:
        """Raise Refused (403) where an address is blocked."""
        until = self._blocked_until.get(address)
        if until is not None:
            if now < until:
                raise blocked()
            del self._blocked_until[address]

    def admit(self, account: int, address: str, now: float) -> None:
        """Count a request. Raises Refused (429) where it is one too many."""
        rate = self.limits.rate
        if rate is None:
            return
        # A rate below one is one request in 1 / rate seconds.
        window, most = (1.0, int(rate)) if rate >= 1 else (1 / rate, 1)
        recent = self._recent[account]
        while recent and recent[0] <= now - window + _JITTER_SECONDS:
            recent.popleft()
        if len(recent) < most:
            recent.append(now)
            return
        self.exceeded(address, now)
        raise too_many(self.limits.retry_after, self.limits.json_429)

    def exceeded(self, address: str, now: float) -> None:
        """Take note of a 429; too many of them block the address."""
        excess = self._excess[address]
        while excess and excess[0] <= now - self.limits.block_window:
            excess.popleft()
        excess.append(now)
        if len(excess) > self.limits.block_after:
            self._blocked_until[address] = now + self.limits.block_seconds
            excess.clear()

    def block(self, address: str, now: float, seconds: float) -> None:
        """Block an address on request."""
        self._blocked_until[address] = now + seconds

    def unblock(self) -> None:
        """Let every address in again."""
        self._blocked_until.clear()
        self._excess.clear()
