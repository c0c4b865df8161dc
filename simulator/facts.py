"""What the company knows it did: for each body, the occurrences that it tells of.

These are written down where something happens, never read back from the body: so the truth made of them is
independent of the decoder. What it shares with the decoder is schemas.identity and the names of fields that the
catalogue says are an occurrence's identity, which are both promises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeAlias

from simulator.records import Record, Says
from simulator.wire import Texts

Identity: TypeAlias = Callable[[Texts], Any]
"""Takes the item's wire texts and returns those that name the occurrence."""

UNKNOWN: Final = "\0unknown"
"""What a column is said to hold where nobody knows what Kommo makes of it, or a receiver has words of its own."""

UNTITLED: Final[Says] = {"title": UNKNOWN}
"""What is said by that which has no name at Kommo."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that happened `at` (unix seconds) and that one body tells of.

    `timed`: the body says when. `identity` None: only the delivery names it. `says`: the columns that it tells.
    `creates`, `snapshot` and `deletes` as in the catalogue of events.
    """

    type: str
    subject: str
    at: int
    identity: Identity | None
    says: Says = field(default_factory=dict)
    timed: bool = True
    creates: bool = False
    snapshot: bool = False
    deletes: bool = False


def whole(texts: Texts) -> Any:
    """Name an occurrence by all fields of its item."""
    return texts


@cache
def picked(*names: str) -> Identity:
    """Name an occurrence by some fields of its item."""

    def pick(texts: Texts) -> Any:
        return {name: texts.get(name) for name in names}

    return pick


MOVED: Final = picked("old_status_id", "status_id", "pipeline_id", "last_modified")
HANDED_OVER: Final = picked("old_responsible_user_id", "responsible_user_id", "last_modified", "updated_at")


def told(record: Record, verb: str, identity: Identity = whole, **says: str | int | None) -> Fact:
    """Return that something happened to a record in the second it was last changed in, and how it is since."""
    return Fact(
        f"kommo.{record.kind}.{verb}",
        record.subject,
        record.updated_at,
        identity,
        record.says() | says,
        creates=verb == "added",
        snapshot=True,
    )


def ended(subject: str, at: int) -> Fact:
    """Return that something was deleted; its body has no time, and nothing tells a repeat from a second delete."""
    return Fact(f"kommo.{subject.partition('/')[0]}.deleted", subject, at, None, timed=False, deletes=True)
