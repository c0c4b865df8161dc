"""Each switch does what it says, and nothing else."""

from __future__ import annotations

import random
from functools import cache
from itertools import islice, pairwise

import pytest

from schemas.delivery import MAX_BODY_BYTES
from simulator.company import SimulatedDelivery, deliveries
from simulator.garbage import garbage
from simulator.mischief import Mischief, arrivals

ACCOUNT = 16700680
START = 1_770_000_000


@cache
def some(count: int) -> list[SimulatedDelivery]:
    return list(islice(deliveries(1, ACCOUNT, START), count))


def moments(mischief: Mischief) -> list[list[float]]:
    rng = random.Random(1)
    return [mischief.moments(rng) for _ in range(200)]


def test_off_by_default() -> None:
    assert moments(Mischief()) == [[0.0]] * 200
    source = some(4000)[:300]
    received = list(arrivals(source, Mischief(), 1))
    assert [delivery for _, delivery in received] == source
    assert [at // 1_000_000 for at, _ in received if at is not None] == [delivery.at for delivery in source]


def test_what_is_lost_is_not_sent() -> None:
    assert moments(Mischief(losses=1.0)) == [[]] * 200


def test_what_changes_places_is_late_by_seconds() -> None:
    assert all(1 <= late <= 90 for (late,) in moments(Mischief(reorderings=1.0)))


def test_what_is_delayed_is_late_as_kommos_attempts_are() -> None:
    assert all(300 <= late <= 5700 for (late,) in moments(Mischief(delays=1.0)))


def test_what_is_repeated_comes_again_later_or_at_once() -> None:
    found = moments(Mischief(repeats=1.0))
    assert all(len(copies) == 5 and min(copies) == copies[0] == 0.0 for copies in found)
    assert {late for copies in found for late in copies} == {0.0, 300.0, 1200.0, 2100.0, 5700.0}


@pytest.mark.parametrize("name", ["repeats", "reorderings", "delays", "losses", "garbage"])
def test_a_probability_is_kept(name: str) -> None:
    source = some(4000)
    received = list(arrivals(source, Mischief(**{name: 0.25}), 1))
    lost = sum(at is None for at, _ in received)
    late = sum(at is not None and at // 1_000_000 > delivery.at for at, delivery in received)
    junk = sum(not delivery.entity for _, delivery in received)
    counts = {"repeats": len(received) - 4000 - junk, "losses": lost, "garbage": junk}
    counts |= {"reorderings": late, "delays": late}
    # Of what is repeated a quarter is repeated again.
    assert counts.pop(name) / 4000 == pytest.approx(1 / 3 if name == "repeats" else 0.25, abs=0.03)
    if name in ("losses", "garbage"):
        assert late == 0
    assert (lost > 0) == (name == "losses")
    assert (junk > 0) == (name == "garbage")


def test_receipts_never_share_a_microsecond() -> None:
    source = some(4000)[:2000]
    moments = [at for at, _ in arrivals(source, Mischief(repeats=0.5, delays=0.3), 1) if at is not None]
    assert all(before < after for before, after in pairwise(moments))


def test_the_same_seed_gives_the_same_arrivals() -> None:
    def run(seed: int) -> list[tuple[int | None, bytes]]:
        source = some(4000)[:500]
        mischief = Mischief(repeats=0.2, reorderings=0.2, delays=0.2, losses=0.2, garbage=0.2)
        return [(at, delivery.body) for at, delivery in arrivals(source, mischief, seed)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_garbage_is_small_enough_for_the_gateway_and_tells_of_nothing() -> None:
    rng, beside = random.Random(1), next(deliveries(1, ACCOUNT, START))
    found = [garbage(rng, beside) for _ in range(2000)]
    assert len({delivery.body for delivery in found}) > 500
    for delivery in found:
        assert len(delivery.body) < MAX_BODY_BYTES
        assert (delivery.entity, delivery.facts, delivery.account) == ("", (), ACCOUNT)
