"""The truth: what the tables must hold at the end, kept by the simulated company from what it did.

Occurrences are named by ids that are made through schemas.identity from the wire texts that were sent, not by (type,
subject, time, count): two occurrences of one type may share a second, a repeat and a second occurrence would then be
one and the same, and an id that changes by mistake would not be seen. Which texts name an occurrence is written down
in simulator/facts.py and where things happen, apart from the decoder.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from schemas.identity import event_id
from simulator.company import SimulatedDelivery
from simulator.expected import activity, calls, recent_updates, task
from simulator.telling import Telling
from simulator.wire import as_texts

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Told:
    """The occurrences that one delivery tells of."""

    tellings: Sequence[Telling]

    def arrived(self, first: int, last: int, *, certain: bool) -> None:
        """Take note that it arrived between two moments (microseconds since 1970), or that it may have."""
        for telling in self.tellings:
            telling.arrived(first, last, certain)


class _Account:
    def __init__(self) -> None:
        self.named: dict[str, Telling] = {}
        self.by_subject: defaultdict[str, list[Telling]] = defaultdict(list)
        self.deliveries: Counter[str] = Counter()


class Truth:
    """What the accounts of a simulation did, and what of it arrived."""

    def __init__(self) -> None:
        self._accounts: defaultdict[int, _Account] = defaultdict(_Account)
        self._disabled: set[int] = set()

    def tell(self, delivery: SimulatedDelivery) -> Told:
        """Take note of what a delivery tells of, whether it will arrive or not."""
        account = self._accounts[delivery.account]
        account.deliveries["webhook" if delivery.entity else "garbage"] += 1
        texts = as_texts(delivery.item) if any(fact.identity for fact in delivery.facts) else {}
        tellings = []
        for fact in delivery.facts:
            named = None
            if fact.identity is not None:
                named = event_id(delivery.account, fact.type, fact.subject, fact.identity(texts))
            telling = account.named.get(named) if named else None
            if telling is None:
                telling = Telling(fact, named)
                account.by_subject[fact.subject].append(telling)
                if named:
                    account.named[named] = telling
            tellings.append(telling)
        return Told(tellings)

    def disabled(self, account: int) -> None:
        """Take note that Kommo has stopped sending for an account."""
        self._disabled.add(account)

    def to_json(self) -> dict[str, Any]:
        """Return what the tables must hold, by account."""
        accounts = {str(number): self._account(number, kept) for number, kept in self._accounts.items()}
        return {"version": VERSION, "accounts": accounts}

    def _account(self, number: int, kept: _Account) -> dict[str, Any]:
        by_subject = kept.by_subject
        told_of_calls = (telling for told in by_subject.values() for telling in told if "call" in telling.fact.says)
        return {
            "deliveries": dict(kept.deliveries),
            "disabled": number in self._disabled,
            "recent_updates": recent_updates(by_subject),
            "activity_log": activity(by_subject),
            "tasks": [task(subject, told) for subject, told in by_subject.items() if subject.startswith("task/")],
            "calls": calls(told_of_calls),
        }


def write(path: Path, truth: Truth) -> None:
    """Write the truth as JSON; the file is there whole or not at all. Raises OSError."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(orjson.dumps(truth.to_json(), option=orjson.OPT_INDENT_2))
    os.replace(part, path)
