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


def spread(values: list[float], unit: str = "/s") -> str:
    """Return "median unit (lowest to highest)"."""
    return f"{statistics.median(values):,.0f}{unit} ({min(values):,.0f} to {max(values):,.0f})"


async def compare(
    report: Report,
    name: str,
    ours: Measure,
    reference: Measure,
    reference_name: str,
    aim: float,
    rounds: int,
    floor: float | None = None,
) -> None:
    """Measure both in turn, ours first in every other round, and report the median of the ratios pair by pair."""
    mine: list[float] = []
    theirs: list[float] = []
    for number in range(rounds + 1):
        for measure, values in ((ours, mine), (reference, theirs))[:: 1 if number % 2 else -1]:
            value = await measure()
            if number:  # the first round warms up
                values.append(value)
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
    ratio = statistics.median(ratios)
    enough = floor is None or statistics.median(mine) >= floor
    report.add(
        Figure(
            name,
            spread(mine),
            f"{reference_name} {spread(theirs)}",
            f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{aim:g}" + (f" and {floor:,.0f}/s" if floor else ""),
            ratio >= aim and enough,
        )
    )
