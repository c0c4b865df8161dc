"""One request to the API as its handlers see it, and the changes they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from simulator.api.checks import Check
from simulator.api.errors import Issue, invalid, limit_exceeded, wrong_body
from simulator.api.ledger import Verb
from simulator.api.state import Account, Accounts, Json
from simulator.world import Change

MOST_ITEMS: Final = 250


@dataclass(frozen=True, slots=True)
class Changed:
    """An entity that a request made or changed: `kind` as in the ledger, `state` is the entity since."""

    kind: str
    verb: Verb
    state: Json
    request_id: str | None
    item: Any


@dataclass(slots=True, kw_only=True)
class Asking:
    """A request: whose, by which user, what, when (unix seconds), and what came of it.

    `query` is nested as PHP nests it ({"filter": {"id": {"0": "1"}}}); `href` is the address of the API with its host.
    """

    accounts: Accounts
    account: Account
    user: int
    method: str
    path: str
    query: Json
    body: Any
    at: float
    href: str
    addresses: Sequence[str] = ()
    changed: list[Changed] = field(default_factory=list)
    hooks: list[Change] = field(default_factory=list)

    @property
    def now(self) -> int:
        """The second it is."""
        return int(self.at)

    def change(self, kind: str, verb: Verb, state: Json, request_id: str | None, item: Any) -> None:
        """Take note that an entity was made or changed."""
        self.changed.append(Changed(kind, verb, state, request_id, item))

    def items(self) -> list[tuple[str, Json]]:
        """Return the items of a body that is an array, each with its request id: its own, else its place."""
        if not isinstance(self.body, list):
            raise wrong_body("Request body must be an array" if self.body else "Request data can not be empty")
        if not self.body:
            raise wrong_body("Request data can not be empty")
        if len(self.body) > MOST_ITEMS:
            raise limit_exceeded(MOST_ITEMS)
        if not all(isinstance(item, dict) for item in self.body):
            raise wrong_body("Request body must be an array of objects")
        return [(str(item.get("request_id", number)), item) for number, item in enumerate(self.body)]

    def item(self) -> Json:
        """Return a body that is an object."""
        if not isinstance(self.body, dict):
            raise wrong_body("Request body must be an object" if self.body else "Request data can not be empty")
        if not self.body:
            raise wrong_body("Request data can not be empty")
        return self.body


def settle(checks: Sequence[tuple[str, Check]]) -> None:
    """Raise Refused (400) where any item is wrong: then none of the request is carried out."""
    wrong: dict[str, Sequence[Issue]] = {name: check.issues for name, check in checks if check.issues}
    if wrong:
        raise invalid(wrong)
