"""Run the simulated Kommo inside a program or a test: one `async with`, and its address and its ledger are there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.process import serving
from simulator.api.catalogue import FIRST_USER
from simulator.api.door import Door
from simulator.api.kommo import Kommo
from simulator.api.ledger import Ledger
from simulator.api.limits import Limits
from simulator.api.mischief import ApiMischief
from simulator.api.oauth import LONG_LIVED_SECONDS, Integration


@dataclass(frozen=True, slots=True)
class Running:
    """A simulated Kommo that answers at `base_url`, for every account (the token says which)."""

    kommo: Kommo
    base_url: str

    @property
    def ledger(self) -> Ledger:
        """Every effect made: `ledger.of(account, kind, verb)`."""
        return self.kommo.ledger

    @property
    def integration(self) -> Integration:
        """client_id, client_secret and redirect_uri that a client must present to get tokens."""
        return self.kommo.oauth.integration

    def token(self, account: int, user: int = FIRST_USER, seconds: float = LONG_LIVED_SECONDS) -> str:
        """Return a long-lived token."""
        return self.kommo.token(account, user, seconds)

    def code(self, account: int, user: int = FIRST_USER) -> str:
        """Return an authorization code."""
        return self.kommo.code(account, user)

    def mischief(self, mischief: ApiMischief, account: int | None = None) -> None:
        """Let go wrong what a mischief says, for an account or for all; NO_MISCHIEF ends it."""
        self.kommo.trouble.set(mischief, account)


@contextlib.asynccontextmanager
async def simulated_kommo(
    *,
    addresses: Mapping[int, str] | None = None,
    limits: Limits | None = None,
    mischief: ApiMischief | None = None,
    ledger: Path | None = None,
    seed: int = 0,
    speed: float = 1.0,
    integration: Integration | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[Running]:
    """Serve a simulated Kommo while the context lasts; port 0 takes a free one.

    Raises LedgerError for a ledger file that cannot be used, StartError where it cannot listen.
    """
    kommo = Kommo(
        addresses=addresses,
        limits=limits,
        mischief=mischief,
        ledger=ledger,
        seed=seed,
        speed=speed,
        integration=integration,
    )
    try:
        async with serving(Door(kommo), host, port, "--host, --port; KOMMO_STREAMS") as at:
            try:
                yield Running(kommo, f"http://{f'[{host}]' if ':' in host else host}:{at}")
            finally:
                kommo.closing.set()
    finally:
        await kommo.close()
