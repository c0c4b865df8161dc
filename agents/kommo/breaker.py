"""A circuit breaker as a value: what fails again and again is left in peace, then tried with one request.

closed -> open after `threshold` failures in a row -> half open after a cool-down, in which one request goes through as
a probe -> closed again, or open for twice as long. It knows no clock: every moment is given to it, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

State = Literal["closed", "open", "half_open"]

PROBE_SECONDS = 1.0  # how long to wait, as a guess, while another request is the probe


@dataclass(frozen=True, slots=True)
class Rule:
    """Failures in a row that open it, and the shortest and longest cool-down, in seconds."""

    threshold: int = 5
    first: float = 30.0
    most: float = 300.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """One state of the circuit; every change gives a new one.

    `era` grows whenever what was sent before no longer counts: a request carries the era it was admitted in, and its
    outcome is heard in that era only.
    """

    rule: Rule = Rule()
    failures: int = 0
    openings: int = 0
    until: float | None = None
    probing: bool = False
    era: int = 0

    def state(self, now: float) -> State:
        """Return its state at a moment."""
        if self.until is None:
            return "closed"
        return "half_open" if self.probing or now >= self.until else "open"

    def wait(self, now: float) -> float:
        """Return for how many seconds no request may go; 0 when one may."""
        if self.until is None:
            return 0.0
        return PROBE_SECONDS if self.probing else max(0.0, self.until - now)

    def admitted(self, now: float) -> Breaker:
        """Return the state once a request was let through, where wait() is 0; its era is the request's."""
        if self.until is None:
            return self
        if self.wait(now) > 0:
            raise ValueError("the circuit is open")
        return replace(self, probing=True, era=self.era + 1)

    def succeeded(self, era: int) -> Breaker:
        """Return the state after an answer: closed."""
        if era != self.era or (self.until is None and not self.failures):
            return self
        return Breaker(self.rule, era=self.era + (self.until is not None))

    def failed(self, era: int, now: float, chance: float) -> Breaker:
        """Return the state after a failure. `chance` in [0, 1) spreads the cool-downs of many circuits."""
        if era != self.era:
            return self
        failures = self.failures + 1
        if not self.probing and failures < self.rule.threshold:
            return replace(self, failures=failures)
        # 2.0 ** 60 is beyond every cap, and further openings must not overflow.
        span = min(self.rule.most, self.rule.first * 2.0 ** min(self.openings, 60))
        return replace(
            self,
            failures=failures,
            openings=self.openings + 1,
            until=now + span * (0.75 + 0.25 * chance),
            probing=False,
            era=self.era + 1,
        )

    def abandoned(self, era: int) -> Breaker:
        """Return the state after a request that told nothing: never sent, or broken off. The next may be the probe."""
        return replace(self, probing=False) if era == self.era and self.probing else self
