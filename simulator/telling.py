"""What was told of one occurrence, and when that may have reached the receiver.

A receiver's table cannot know more than what arrived, and this side cannot always know what did: an attempt that was
not answered may have been stored all the same. So each telling keeps what is certain apart from what is possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from simulator.facts import UNKNOWN, Fact
from simulator.records import Said

MICROSECONDS: Final = 1_000_000


@dataclass(slots=True, eq=False)
class Telling:
    """One occurrence and its arrivals, in microseconds since 1970.

    `id` None: nothing in the body names it, each arrival is an event of its own. `first` and `last`: the span that
    all possible arrivals lie in. `latest`: the latest moment after which one certainly arrived. `certain` and
    `possible` count arrivals; a delivery that was never sent, or only refused, leaves both at none.
    """

    fact: Fact
    id: str | None
    first: int | None = None
    last: int | None = None
    latest: int | None = None
    certain: int = 0
    possible: int = 0

    def arrived(self, first: int, last: int, certain: bool) -> None:
        """Take note of an arrival between two moments."""
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)
        self.possible += 1
        if certain:
            self.certain += 1
            self.latest = first if self.latest is None else max(self.latest, first)

    @property
    def at(self) -> int:
        """When it happened."""
        return self.fact.at * MICROSECONDS

    @property
    def not_before(self) -> int:
        """The time it has in a table at least, where it is certain to be there."""
        return self.at if self.fact.timed or self.latest is None else self.latest

    @property
    def not_after(self) -> int:
        """The time it has in a table at most."""
        return self.at if self.fact.timed or self.last is None else self.last


def newest(tellings: Sequence[Telling]) -> list[Telling]:
    """Return those of which each may be the newest in a table; none where it is not certain that any is there."""
    certain = [telling.not_before for telling in tellings if telling.certain]
    if not certain:
        return []
    found = [telling for telling in tellings if telling.not_after >= max(certain)]
    # An add comes before all else of its second.
    later = [telling for telling in found if not telling.fact.creates]
    return later if any(telling.certain for telling in later) else found


def column(tellings: Sequence[Telling], name: str) -> tuple[Said, bool]:
    """Return what the company says a column holds, and whether a table must agree."""
    saying = [telling for telling in tellings if name in telling.fact.says]
    if not saying:
        return None, True
    latest = max(saying, key=lambda telling: telling.at).fact.says[name]
    possible = {telling.fact.says[name] for telling in newest(saying)}
    if latest == UNKNOWN:
        return None, False
    return latest, possible == {latest}


def deleted(tellings: Sequence[Telling]) -> tuple[bool, bool]:
    """Return whether the company has deleted the entity, and whether a table must agree.

    A delete has the time of its receipt. So one that came late seems to have been after what it was before.
    """
    deletes = [telling for telling in tellings if telling.fact.deletes]
    alive = [telling for telling in tellings if telling.fact.snapshot]
    if not deletes:
        return False, True
    if max((*deletes, *alive), key=lambda telling: telling.at).fact.deletes:
        return True, _latest(deletes) > max((telling.not_after for telling in alive), default=0)
    return False, _latest(alive) > max(telling.not_after for telling in deletes)


def _latest(tellings: Sequence[Telling]) -> int:
    return max((telling.not_before for telling in tellings if telling.certain), default=0)


def deletes_shown(tellings: Sequence[Telling]) -> int | None:
    """Return how many deletes the activity log must show; None: that cannot be decided.

    It shows deletes as one while nothing of the entity with a later time of Kommo's lies between them.
    """
    deletes = sorted((telling for telling in tellings if telling.fact.deletes), key=lambda telling: telling.at)
    others = [telling for telling in tellings if telling.fact.timed]
    for number, telling in enumerate(deletes):
        if not telling.certain or telling.first is None or telling.last is None:
            return None
        # A repeat after something else: a second delete looks the same.
        if any(telling.first <= other.at <= telling.last for other in others):
            return None
        following = deletes[number + 1].first if number + 1 < len(deletes) else None
        if following is not None and not any(other.certain and telling.last < other.at < following for other in others):
            return None
    return len(deletes)
