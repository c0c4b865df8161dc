"""docs/how-to/simulate-kommo.md describes the truth that is written, key by key."""

from __future__ import annotations

import re
from functools import cache
from itertools import islice
from typing import Any

import pytest

from simulator.company import deliveries
from simulator.generations import GENERATIONS
from simulator.mischief import Mischief
from tests.support import ROOT
from tests.support.truth.comparison import COLUMNS
from tests.support.truth.received import received

ACCOUNT = 16700680
PAGE = (ROOT / "docs" / "how-to" / "simulate-kommo.md").read_text()
VIEWS = (ROOT / "docs" / "how-to" / "read-from-sql.md").read_text()


def described(text: str, heading: str) -> list[str]:
    """The keys that the tables below a heading describe."""
    section = text.partition(f"\n{heading}\n")[2]
    return re.findall(r"^\| `(\w+)` \|", re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0], re.MULTILINE)


@cache
def truth() -> dict[str, Any]:
    """Of an account with which all that can go wrong goes wrong."""
    source = islice(deliveries(3, ACCOUNT, 1_770_000_000, years=tuple(GENERATIONS)), 1500)
    mischief = Mischief(repeats=0.15, reorderings=0.2, delays=0.15, losses=0.05, garbage=0.05)
    return received(source, mischief, 3, ACCOUNT).truth


def keys(rows: list[dict[str, Any]]) -> set[str]:
    return {name for row in rows for name in row}


def test_the_keys_of_an_account_are_those_described() -> None:
    assert sorted(described(PAGE, "## The format of the truth")) == sorted(truth())


@pytest.mark.parametrize("view", COLUMNS)
def test_the_keys_of_rows_are_those_described_and_columns_of_the_view(view: str) -> None:
    told = described(PAGE, f"### {view}")
    assert sorted(told) == sorted(keys(truth()[view]))
    assert set(told) - set(described(VIEWS, f"## kommo.{view}")) <= {"received_between", "open"}
    assert set(COLUMNS[view]) <= set(told)


def test_the_keys_of_lines_are_those_described() -> None:
    log = truth()["activity_log"]
    section = PAGE.partition("\n### activity_log\n")[2]
    events, nameless = section.split("\n`nameless`:")
    assert described(f"\n{events}", "`events`: lines whose id is known, each of which is there exactly once.") == list(
        log["events"][0]
    )
    assert described(f"\n### x\n{nameless}", "### x") == list(log["nameless"][0])


def test_the_words_of_a_state_are_those_described() -> None:
    assert {row["state"] for row in truth()["tasks"]} == {"open", "completed", "deleted"}
    assert "| `state` | open, completed or deleted |" in PAGE
    assert "| `state` | text | open, completed or deleted |" in VIEWS


def test_what_is_open_by_itself_is_described() -> None:
    """Whatever is open where nothing is lost has a line of its own."""
    source = islice(deliveries(3, ACCOUNT, 1_770_000_000), 1500)
    found = received(source, Mischief(repeats=0.2, delays=0.2), 3, ACCOUNT).truth
    lines = [line for line in PAGE.partition("\n## What is left open, and why\n")[2].splitlines() if line[:2] == "| "]
    for view in COLUMNS:
        said = {name for line in lines if view in line.split("|")[1] for name in re.findall(r"`(\w+)`", line)}
        assert {name for row in found[view] for name in row["open"]} <= said, view
