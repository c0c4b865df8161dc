"""What the accounts hold: their entities as Kommo's API shows them, made when first asked for.

An entity is its JSON object; what the API shows elsewhere (tags, ties to others) is kept in members that begin with an
underscore.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]

ENTITIES: Final = ("leads", "contacts", "companies")
SINGULAR: Final = {"leads": "lead", "contacts": "contact", "companies": "company", "tasks": "task", "notes": "note"}
PLURAL: Final = {singular: plural for plural, singular in SINGULAR.items()}

_IDS_FROM: Final = 1_735_689_600  # 2025-01-01


@dataclass(slots=True)
class Account:
    """One account: its entities by plural ("leads", "contacts", "companies", "tasks", "notes") and id."""

    id: int
    entities: dict[str, dict[int, Json]] = field(default_factory=lambda: {plural: {} for plural in SINGULAR})
    tags: dict[str, int] = field(default_factory=dict)

    def leads_of(self, kind: str, identifier: int) -> list[int]:
        """Return the leads that a contact or company is tied to."""
        leads = self.entities["leads"].values()
        if kind == "companies":
            return [lead["id"] for lead in leads if lead["_company"] == identifier]
        return [lead["id"] for lead in leads if any(tie["id"] == identifier for tie in lead["_contacts"])]

    def contacts_of(self, company: int) -> list[int]:
        """Return the contacts of a company."""
        return [one["id"] for one in self.entities["contacts"].values() if one["_company"] == company]


class Accounts:
    """The accounts by id. Entity ids are of all accounts together, as at Kommo: one is never another account's."""

    def __init__(self, states: Mapping[tuple[int, str, int], Json]) -> None:
        self._accounts: dict[int, Account] = {}
        # They grow with time, so that what another run made on the same account has none of these.
        first = 1_000_000_000 + 10 * max(0, int(time.time()) - _IDS_FROM)
        for (account, kind, identifier), entity in states.items():
            held = self.of(account)
            held.entities[PLURAL[kind]][identifier] = entity
            held.tags |= {tag["name"]: tag["id"] for tag in entity.get("_tags", ())}
            used = (identifier, entity.get("_result_id", 0), *(tag["id"] for tag in entity.get("_tags", ())))
            first = max(first, *used)
        self._ids = itertools.count(first + 1)

    def of(self, account: int) -> Account:
        """Return an account."""
        held = self._accounts.get(account)
        if held is None:
            held = self._accounts[account] = Account(account)
        return held

    def new_id(self) -> int:
        """Return an id that nothing has."""
        return next(self._ids)


def merged_fields(old: Iterable[Json] | None, new: Iterable[Json]) -> list[Json] | None:
    """Return custom fields after a change: all values of a field that is sent are replaced, by none it is gone."""
    kept = {one["field_id"]: one for one in old or ()}
    for one in new:
        if one["values"]:
            kept[one["field_id"]] = one
        else:
            kept.pop(one["field_id"], None)
    return list(kept.values()) or None
