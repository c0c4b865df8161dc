"""A slice of the mutated bodies, and that the fuzzer finds what is wrong. The whole is `make fuzz`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from schemas import decoder
from tests.soak.schemas import fuzz

SEED = 20261124
COUNT = 1500


def test_a_slice_holds() -> None:
    found = fuzz.fuzz(SEED, range(COUNT))
    assert [why for _, _, why in found.failures] == []
    assert found.longest < 1
    # The bodies are neither all broken nor all tame.
    assert found.counts["events"] > COUNT / 2
    assert found.counts["rejections"] > COUNT / 4
    assert COUNT / 50 < found.counts["bodies rejected whole"] < COUNT / 2
    assert COUNT / 10 < found.counts["unrecognized"] < COUNT


def test_a_body_is_made_from_its_seed_and_number_alone() -> None:
    wanted = [fuzz.mutated(SEED, number) for number in range(200)]
    assert [fuzz.mutated(SEED, number) for number in reversed(range(200))][::-1] == wanted
    assert [fuzz.mutated(SEED + 1, number) for number in range(200)] != wanted
    assert len({delivery.body for delivery in wanted}) > 150


def _losing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that forgets each third item."""
    items = decoder._items

    def some(form: dict[str, Any]) -> Iterator[Any]:
        return islice(items(form), 2)

    monkeypatch.setattr(decoder, "_items", some)


def test_what_vanishes_is_found_written_and_can_be_repeated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _losing(monkeypatch)
    arguments = ["--seed", str(SEED), "--jobs", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(fuzz.main, [*arguments, "--count", "2000"])
    assert result.exit_code == 1
    [number, *_] = re.findall(r"--only (\d+)", result.output)
    body = fuzz.mutated(SEED, int(number)).body
    assert (tmp_path / f"{SEED}-{number}.body").read_bytes() == body
    assert f"--seed {SEED} --only {number}" in result.output
    again = CliRunner().invoke(fuzz.main, [*arguments, "--only", number])
    assert (again.exit_code, again.output.count("failed:")) == (1, 1)
    monkeypatch.undo()
    healed = CliRunner().invoke(fuzz.main, [*arguments, "--only", number])
    assert (healed.exit_code, healed.output.count("failed:")) == (0, 0)


def _other_price(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "price": "17"} if "price" in data else data


@pytest.mark.parametrize("what", ["a value", "a crash", "a hang"])
def test_what_is_wrong_is_found(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    as_model = decoder.readers.as_model

    def wrong(model: Any, wire: dict[str, Any]) -> dict[str, Any]:
        if what == "a crash" and "price" in wire:
            raise KeyError("price")
        if what == "a hang" and "price" in wire:
            raise TimeoutError  # as the alarm does
        return as_model(model, _other_price(wire))

    monkeypatch.setattr(decoder.readers, "as_model", wrong)
    assert fuzz.fuzz(SEED, range(300)).failures


def test_a_body_that_hangs_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def hangs(_: Any) -> Any:
        while True:
            pass

    monkeypatch.setattr(fuzz, "hold", hangs)
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    result = CliRunner().invoke(fuzz.main, ["--seed", "1", "--count", "1", "--jobs", "1", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "not decoded in 0.05 s" in result.output
