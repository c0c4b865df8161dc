"""Figures as medians with their spread, and the ratio to a reference measured in turn with them."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Measure = Callable[[], Awaitable[float]]


@dataclass(slots=True)
class Figure:
    """One line of the report; `aim` is what was set as the goal, and `reached` whether it was."""

    name: str
    value: str
    reference: str
    ratio: str
    aim: str
    reached: bool


@dataclass(slots=True)
class Report:
    """What a run measured."""

    figures: list[Figure] = field(default_factory=list)

    def add(self, figure: Figure) -> None:
        """Take a figure in and print it at once."""
        self.figures.append(figure)
        mark = "reached" if figure.reached else "MISSED"
        print(
            f"{figure.name}: {figure.value}; {figure.reference}; {figure.ratio} (aim {figure.aim}: {mark})", flush=True
        )

    def markdown(self) -> str:
        """Return the table for docs/benchmarks.md."""
        lines = ["| what | measured | reference, same run | ratio | aim | |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {f.name} | {f.value} | {f.reference} | {f.ratio} | {f.aim} | {'reached' if f.reached else 'missed'} |"
            for f in self.figures
        ]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Unit:
    """What is measured: its sign, its decimals, and whether less of it is better (then the ratio is turned over)."""

    sign: str
    decimals: int = 0
    less_is_better: bool = False


RATE = Unit("/s")
MICROSECONDS = Unit(" us", 1, less_is_better=True)


def spread(values: list[float], unit: Unit = RATE) -> str:
    """Return "median unit (lowest to highest)"."""
    middle, lowest, highest = (f"{v:,.{unit.decimals}f}" for v in (statistics.median(values), min(values), max(values)))
    return f"{middle}{unit.sign} ({lowest} to {highest})"


async def compare(
    report: Report,
    name: str,
    ours: Measure,
    reference: Measure,
    reference_name: str,
    aim: float,
    rounds: int,
    floor: float | None = None,
    *,
    unit: Unit = RATE,
    ceiling: float | None = None,
) -> None:
    """Measure both in turn, ours first in every other round, and report the median of the ratios pair by pair.

    A ratio says how many times better ours is. `floor` or `ceiling` bounds the median of ours, in `unit`.
    """
    mine: list[float] = []
    theirs: list[float] = []
    for number in range(rounds + 1):
        for measure, values in ((ours, mine), (reference, theirs))[:: 1 if number % 2 else -1]:
            value = await measure()
            if number:  # the first round warms up
                values.append(value)
    pairs = zip(theirs, mine, strict=True) if unit.less_is_better else zip(mine, theirs, strict=True)
    ratios = [a / b for a, b in pairs]
    ratio = statistics.median(ratios)
    median = statistics.median(mine)
    enough = (floor is None or median >= floor) and (ceiling is None or median <= ceiling)
    bounds = (f" and {floor:,.0f}{unit.sign}" if floor else "") + (f" and {ceiling:g}{unit.sign}" if ceiling else "")
    report.add(
        Figure(
            name,
            spread(mine, unit),
            f"{reference_name} {spread(theirs, unit)}",
            f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{aim:g}{bounds}",
            ratio >= aim and enough,
        )
    )
