"""How fast a credential may give commands."""

from __future__ import annotations

import contextlib

import pytest

from dashboard.giving import Pace
from runtime.problem import Problem


def test_a_pace_lets_a_burst_through_and_then_so_many_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("dashboard.giving.time.monotonic", lambda: now[0])
    pace = Pace(rate=2, burst=3, most=2)

    def passes(who: str) -> bool:
        with contextlib.suppress(Problem):
            pace.check(who)
            return True
        return False

    assert [passes("a") for _ in range(5)] == [True, True, True, False, False]
    assert passes("b")
    now[0] += 0.5
    assert [passes("a"), passes("a")] == [True, False]
    now[0] += 100
    assert [passes("a") for _ in range(4)] == [True, True, True, False]
    assert passes("c")  # and the one that was not heard of for longest is forgotten
    assert len(pace._left) == 2
