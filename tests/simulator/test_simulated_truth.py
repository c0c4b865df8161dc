"""What the decoder and the folds make of the deliveries is what the company did: 100,000 deliveries and more."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from simulator.company import deliveries
from simulator.generations import GENERATIONS
from simulator.mischief import Mischief
from tests.simulator.tables import Comparison, Receiver, simulated

ACCOUNT = 16700680
START = 1_770_000_000
COUNT = 2500
"""Deliveries of one company. Many young companies meet more than one old one: what is deleted is soon restored."""

SEEDS = range(5)
ALL_YEARS = tuple(GENERATIONS)

CASES = {
    "nothing goes wrong": (Mischief(), (2026,)),
    "repeats": (Mischief(repeats=0.3), (2026,)),
    "reorderings": (Mischief(reorderings=0.5), (2026,)),
    "delays": (Mischief(delays=0.3), (2026,)),
    "losses": (Mischief(losses=0.1), (2026,)),
    "garbage": (Mischief(garbage=0.2), (2026,)),
    "formats": (Mischief(), ALL_YEARS),
    "everything": (
        Mischief(repeats=0.15, reorderings=0.2, delays=0.15, losses=0.03, garbage=0.05),
        ALL_YEARS,
    ),
}


def run(mischief: Mischief, years: tuple[int, ...], seed: int) -> tuple[Receiver, Counter[str]]:
    source = islice(deliveries(seed, ACCOUNT, START, years=years), COUNT)
    receiver, truth = simulated(source, mischief, seed, ACCOUNT)
    return receiver, Comparison(receiver.tables(), truth).compared


@pytest.mark.parametrize("case", CASES)
def test_the_tables_hold_what_the_company_did(case: str) -> None:
    mischief, years = CASES[case]
    total: Counter[str] = Counter()
    for seed in SEEDS:
        receiver, compared = run(mischief, years, seed)
        total += compared
        assert (receiver.rejections > 0) == (mischief.garbage > 0)
    decided = sum(count for what, count in total.items() if "open" not in what)
    # Conversations and incoming leads have no name at Kommo.
    unnamed = total.pop("recent open title") if not mischief.losses else 0
    undecided = {what: count for what, count in total.items() if "open" in what}
    assert decided > 25_000
    assert unnamed < 0.05 * decided
    # What is open is the exception, and only what the guarantees call undecidable.
    assert sum(undecided.values()) < (0.1 if mischief.losses else 0.03) * decided
    if not mischief.losses:
        assert set(undecided) <= {
            "recent open event_type",  # two events of one second
            "recent open occurred_at",
            "recent open deleted",  # a delete that came after what was after it
            "task open deleted",
            "task open result",  # a task that was reopened
            "nameless open",  # a repeated hook of the digital pipeline, a delete repeated after a restore
        }


def test_at_least_100_000_deliveries_are_compared() -> None:
    assert len(CASES) * len(SEEDS) * COUNT >= 100_000
