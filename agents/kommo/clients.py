"""The clients of all accounts of a process: one HTTP client, one outgoing address, a `Kommo` for each account."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Any, Self

from agents.kommo.answers import API, Answer, answer_of
from agents.kommo.breaker import State
from agents.kommo.circuits import Kind
from agents.kommo.client import Kommo
from agents.kommo.credentials import Credentials, CredentialStore
from agents.kommo.limits import Address
from agents.kommo.oauth import OAuth
from agents.kommo.problems import KommoError
from agents.kommo.vault import Vault
from agents.kommo.wire import Call, exchange, open_http
from runtime.settings import Settings


class KommoClients:
    """Gives the client of an account, always the same one: its limits and circuits live in it.

    `pool` is an asyncpg pool. Raises StartError where the token keys are missing.
    """

    def __init__(self, settings: Settings, pool: Any, *, tls: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self.store = CredentialStore(pool, Vault.from_settings(settings))
        self.address = Address()
        self._http = open_http(settings, tls)
        self.oauth = OAuth(self._http, settings, self.address)
        self._clients: dict[int, Kommo] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def of(self, account_id: int) -> Kommo:
        """Return the client of an account. Raises KommoError (authentication) where it cannot speak for it."""
        client = self._clients.get(account_id)
        if client is None:
            # Kept even if it cannot speak: else its circuits would forget that its Kommo is down.
            client = self._clients[account_id] = self.client(account_id)
        await client.credentials()
        return client

    def known(self, account_id: int) -> Kommo | None:
        """Return the client of an account if there is one already."""
        return self._clients.get(account_id)

    def client(self, account_id: int) -> Kommo:
        """Return a new client of an account; whether it is connected shows at the first request."""
        return Kommo(
            account_id,
            http=self._http,
            store=self.store,
            oauth=self.oauth,
            address=self.address,
            settings=self._settings,
        )

    async def account(self, credentials: Credentials) -> Answer:
        """Ask once for the account that credentials speak for, whether they are stored or not. Raises KommoError."""
        what = "GET /account"
        call = Call(0, "GET", what, f"{credentials.base_url}{API}/account", token=credentials.pair.access)
        reply = await exchange(self._http, call, seconds=self._settings.kommo_timeout_seconds)
        if isinstance(reply, KommoError):
            raise reply
        if reply.status != 200:
            raise KommoError.of_answer(what, reply.status, reply.headers, reply.content)
        return answer_of(what, reply)

    def circuits(self) -> dict[tuple[Kind, State], int]:
        """Return how many circuits of each kind are in each state, for metrics."""
        counts: dict[tuple[Kind, State], int] = {}
        for client in self._clients.values():
            for kind, state in client.circuits.states().items():
                counts[kind, state] = counts.get((kind, state), 0) + 1
        return counts
