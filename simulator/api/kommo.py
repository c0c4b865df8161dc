"""The simulated Kommo behind its HTTP door: its accounts, tokens, limits, mischief, ledger and webhooks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simulator.api.asking import Asking
from simulator.api.catalogue import FIRST_USER
from simulator.api.clock import ApiClock
from simulator.api.hooks import delivery
from simulator.api.ledger import Effect, Ledger
from simulator.api.limits import Gatekeeper, Limits
from simulator.api.mischief import ApiMischief, Troublemaker
from simulator.api.oauth import LONG_LIVED_SECONDS, Integration, OAuth
from simulator.api.postman import Postman
from simulator.api.routes import handle
from simulator.api.state import Accounts

STATUS_OF: Final[Mapping[str, int | None]] = {
    "server_errors_after": 500,
    "gateway_timeouts_after": 504,
    "answers_lost": None,
    "hung_after": None,
}
"""The status that what strikes a request after its change makes of its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it came in: `at` unix seconds of the simulator's clock, `query` nested, `body` decoded JSON."""

    account: int
    user: int
    method: str
    path: str
    query: dict[str, Any]
    body: Any
    at: float
    href: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request came to: the body of its answer (None: 204), and its number in the ledger, if it has one."""

    body: Any
    request: int | None


class Kommo:
    """Many accounts in one process, each made when it is first asked for. Close it in the loop it was used in.

    `addresses`: where webhooks go, by account. `ledger`: a file that what was done is kept in. `seed`: of tokens and
    of what goes wrong. `speed`: Kommo's seconds a second, for second attempts of webhooks. Raises LedgerError.
    """

    def __init__(
        self,
        *,
        addresses: Mapping[int, str] | None = None,
        limits: Limits | None = None,
        mischief: ApiMischief | None = None,
        ledger: Path | None = None,
        seed: int = 0,
        speed: float = 1.0,
        integration: Integration | None = None,
    ) -> None:
        self.addresses = addresses or {}
        self.clock = ApiClock()
        self.ledger = Ledger(ledger)
        self.oauth = OAuth(seed, self.clock, integration or Integration(), self.ledger.journal)
        for entry in self.ledger.oauth:
            self.oauth.restore(entry)
        self.accounts = Accounts(self.ledger.states)
        self.ledger.states.clear()
        self.gate = Gatekeeper(limits or Limits())
        self.trouble = Troublemaker(seed)
        if mischief is not None:
            self.trouble.set(mischief)
        self.postman = Postman(self.addresses, speed)
        self.answers: Counter[str] = Counter()
        """Requests by what they were answered: the status, "reset" or "hung"."""
        self.closing = asyncio.Event()

    def token(self, account: int, user: int = FIRST_USER, seconds: float = LONG_LIVED_SECONDS) -> str:
        """Return a long-lived token of an account's user (the first one is its admin)."""
        return self.oauth.long_lived(account, user, seconds)

    def code(self, account: int, user: int = FIRST_USER) -> str:
        """Return an authorization code: 20 minutes, for one use."""
        return self.oauth.code(account, user)

    def carry_out(self, asked: Asked, strike: str | None) -> Outcome:
        """Do what a request asks for, all of it or nothing, and write it into the ledger. Raises Refused."""
        address = self.addresses.get(asked.account)
        asking = Asking(
            accounts=self.accounts,
            account=self.accounts.of(asked.account),
            user=asked.user,
            method=asked.method,
            path=asked.path,
            query=asked.query,
            body=asked.body,
            at=asked.at,
            href=asked.href,
            addresses=(address,) if address is not None else (),
        )
        body = handle(asking)
        if not asking.changed:
            return Outcome(body, None)
        request = self._record(asked, asking, STATUS_OF.get(strike, 200) if strike else 200)
        if address is not None:
            for change in asking.hooks:
                self.postman.post(delivery(change, asked.account))
        return Outcome(body, request)

    def _record(self, asked: Asked, asking: Asking, status: int | None) -> int:
        request, first = self.ledger.next_request(), len(self.ledger.effects) + 1
        effects = [
            Effect(
                number=first + place,
                request=request,
                account=asked.account,
                user=asked.user,
                method=asked.method,
                path=f"/api/v4/{asked.path}",
                kind=changed.kind,
                verb=changed.verb,
                id=changed.state["id"],
                request_id=changed.request_id,
                item=changed.item,
                received_at=round(asked.at, 3),
                status=status,
            )
            for place, changed in enumerate(asking.changed)
        ]
        states = {
            (asked.account, "note" if changed.kind == "call" else changed.kind, changed.state["id"]): changed.state
            for changed in asking.changed
        }
        self.ledger.record(effects, states)
        return request

    async def close(self) -> None:
        """Stop posting webhooks, and close the ledger's file."""
        self.closing.set()
        await self.postman.close()
        self.ledger.close()
