"""How bodies and requests of Kommo (until 2023: amoCRM) looked in other years, as captured ones show it.

What no capture shows is marked INFERRED.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simulator import names
from simulator.items import text_time
from simulator.wire import Item, account_block, encode
from simulator.world import Change


@dataclass(frozen=True, slots=True)
class Generation:
    """A format: the year it was seen in, and what differs from today's.

    `account_id`: the body names the account's id and link. `seconds`: items have created_at and updated_at in unix
    seconds, and tasks (INFERRED) complete_before. `quoted`: notes have literal quotes around texts, and no id.
    """

    year: int
    user_agent: str
    domain: str = "kommo.com"
    account_first: bool = True
    account_id: bool = True
    seconds: bool = True
    quoted: bool = False

    def body(self, change: Change, account_id: int) -> tuple[bytes, Item]:
        """Return the body of a change, and its item as it stands there."""
        item = change.item if self.year == NEWEST else self._item(change)
        account = account_block(account_id, names.SUBDOMAIN, self.domain)
        if change.stage_hook:
            account = {"id": account_id, "subdomain": names.SUBDOMAIN}
        elif not self.account_id:
            account = {"subdomain": names.SUBDOMAIN}
        told: Item = {change.entity: {change.action: [item]}}
        first = self.account_first and not change.stage_hook
        return encode({"account": account, **told} if first else {**told, "account": account}), item

    def _item(self, change: Change) -> Item:
        item = dict(change.item)
        if change.entity == "message":
            item.pop("message_type", None)
        if self.seconds or change.stage_hook:
            return item
        if change.action == "note":
            return item | {"note": self._note(item["note"])}
        if change.entity in ("leads", "contacts", "customers", "task") and change.action != "delete":
            for name in ("created_at", "updated_at", "complete_before"):
                item.pop(name, None)
        if change.entity == "leads":
            return self._lead(item, change.action)
        if change.entity == "contacts":
            item.pop("account_id", None)
        return item

    def _lead(self, item: Item, action: str) -> Item:
        if action == "delete" and self.year == 2017:
            return {"id": item["id"]}
        if self.year == 2016 and item.get("price") == 0:
            item["price"] = ""
        old = item.pop("old_status_id", None)
        return item if old is None else item | {"old_status_id": old}

    def _note(self, note: object) -> Item:
        assert isinstance(note, dict)  # noqa: S101 - simulator/items.py makes it
        old: Item = {}
        for name, value in note.items():
            if name == "element_id":
                old["group_id"] = note["group_id"]  # it stands before the id of the element, later behind it
            if name not in _NEW_IN_NOTES:
                old.setdefault(name, value)
        if not self.quoted:
            return old
        del old["id"]
        # These are UTC, later ones UTC+3.
        old |= {"date_create": text_time(note["created_at"]), "timestamp_x": text_time(note["updated_at"])}
        return old | {name: f"'{old[name]}'" for name in ("text", "attachement", "date_create", "timestamp_x")}


_NEW_IN_NOTES: Final = frozenset({"metadata", "catalog_id", "created_at", "updated_at"})
_CLIENT: Final = "amoCRM-WebHook-client/"
_WEBHOOKS: Final = "amoCRM-Webhooks/3.0"

GENERATIONS: Final = {
    generation.year: generation
    for generation in (
        Generation(2016, f"{_CLIENT}1.0", account_first=False, account_id=False, seconds=False),
        Generation(2017, f"{_CLIENT}2.0", account_first=False, account_id=False, seconds=False, quoted=True),
        Generation(2018, f"{_CLIENT}2.0", account_first=False, account_id=False, seconds=False),
        Generation(2020, f"{_CLIENT}2.0", domain="amocrm.ru", account_first=False),
        Generation(2023, _WEBHOOKS, domain="amocrm.com", account_first=False),
        Generation(2026, _WEBHOOKS),
    )
}
"""By year. Not known is whether there were hooks of tasks and chats in the first ones: they come in today's fields."""

NEWEST: Final = max(GENERATIONS)
