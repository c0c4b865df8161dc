"""Several accounts at work at once: one stream of deliveries, in which larger accounts speak more often."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from simulator.company import SimulatedDelivery


class Fleet:
    """Asks the account whose turn it is for its next delivery; ends when all accounts have left.

    The first account is the largest, the n-th sends 1/n of what it does, as sizes of accounts are spread.
    """

    def __init__(self, streams: Mapping[int, Iterator[SimulatedDelivery]], seed: int) -> None:
        self._streams = dict(streams)
        self._shares = {account: 1 / (number + 1) for number, account in enumerate(self._streams)}
        self._rng = random.Random(seed)  # noqa: S311 a simulation, nothing secret

    def leave(self, account: int) -> None:
        """Let an account send nothing more."""
        self._streams.pop(account, None)

    def __iter__(self) -> Iterator[SimulatedDelivery]:
        while self._streams:
            there = list(self._streams)
            weights = [self._shares[account] for account in there]
            yield next(self._streams[self._rng.choices(there, weights)[0]])
