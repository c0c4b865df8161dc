"""What goes wrong between Kommo and its receiver, on request: repeats, other orders, delays, losses, garbage.

The figures are probabilities for each delivery. What is late is late in seconds of Kommo's clock.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from simulator.company import SimulatedDelivery
from simulator.garbage import garbage

SWAPPED_SECONDS: Final = (1.0, 90.0)
DELAYED_SECONDS: Final = (300.0, 5700.0)
"""As late as Kommo's second attempt is at least, and its fifth at most."""

REPEATED_SECONDS: Final = (0.0, 300.0, 1200.0, 2100.0, 5700.0)
"""Where two subscriptions name one address the repeat comes at once, else when an attempt is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mischief:
    """How likely a delivery is sent again, changes places with those after it, comes late, is lost, or has garbage
    beside it.
    """

    repeats: float = 0.0
    reorderings: float = 0.0
    delays: float = 0.0
    losses: float = 0.0
    garbage: float = 0.0

    def moments(self, rng: random.Random) -> list[float]:
        """Return how many seconds late each copy of a delivery is sent: none where it is lost."""
        if rng.random() < self.losses:
            return []
        late = 0.0
        if rng.random() < self.reorderings:
            late = rng.uniform(*SWAPPED_SECONDS)
        if rng.random() < self.delays:
            late = rng.uniform(*DELAYED_SECONDS)
        found = [late]
        while rng.random() < self.repeats and len(found) < 5:
            found.append(late + rng.choice(REPEATED_SECONDS))
        return found

    def with_garbage(self, deliveries: Iterable[SimulatedDelivery], rng: random.Random) -> Iterator[SimulatedDelivery]:
        """Yield the deliveries, and bodies that are no webhook among them."""
        for delivery in deliveries:
            if rng.random() < self.garbage:
                yield garbage(rng, delivery)
            yield delivery


NO_MISCHIEF: Final = Mischief()


def arrivals(
    deliveries: Iterable[SimulatedDelivery], mischief: Mischief, seed: int
) -> Iterator[tuple[int | None, SimulatedDelivery]]:
    """Yield the deliveries as a receiver that takes everything gets them: (receipt in microseconds, delivery).

    In the order of receipt, by the clock of the deliveries. A lost one comes too, with None, for whoever keeps the
    truth. Ends with what was late, when the deliveries end.
    """
    rng = random.Random(seed)  # noqa: S311 a simulation, nothing secret
    under_way: list[tuple[int, int, SimulatedDelivery]] = []
    number = itertools.count()
    received = 0
    for delivery in mischief.with_garbage(deliveries, rng):
        now = delivery.at * 1_000_000
        while under_way and under_way[0][0] < now:
            due, _, late = heapq.heappop(under_way)
            received = max(due, received + 1)
            yield received, late
        moments = mischief.moments(rng)
        if not moments:
            yield None, delivery
        for seconds in moments:
            heapq.heappush(under_way, (now + int(seconds * 1_000_000), next(number), delivery))
    while under_way:
        due, _, late = heapq.heappop(under_way)
        received = max(due, received + 1)
        yield received, late
