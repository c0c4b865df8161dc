"""What the client holds itself to, and how it divides what is written."""

from __future__ import annotations

from agents.kommo import client as client_module
from agents.kommo.client import batches
from runtime.settings import Settings


def test_batches() -> None:
    assert [len(batch) for batch in batches(list(range(120)))] == [50, 50, 20]
    assert [list(batch) for batch in batches([1, 2, 3], 2)] == [[1, 2], [3]]
    assert list(batches([])) == []


def test_kommos_limits_are_those_it_says() -> None:
    assert (client_module.PAGE, client_module.BATCH, client_module.ATTEMPTS) == (250, 50, 3)
    assert Settings().kommo_rate == 7
