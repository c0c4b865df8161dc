"""A Kommo that answers: API v4 and OAuth for many accounts, a ledger of what it did, and mischief on request.

In a test:

    from simulator.api import ApiMischief, Limits, simulated_kommo

    async with simulated_kommo(limits=Limits(rate=None)) as kommo:
        kommo.base_url                      # http://127.0.0.1:PORT, the same for every account
        kommo.token(16700680)               # a long-lived token: it says which account
        kommo.code(16700680)                # an authorization code; kommo.integration has client_id and the rest
        kommo.mischief(ApiMischief(answers_lost=0.2, methods=("POST", "PATCH")), account=16700680)
        kommo.ledger.of(16700680, "lead", "created")   # every effect that was really made: each exactly once?
        kommo.kommo.clock.advance(86_400)   # a day later

`addresses={account: url}` lets it post the webhooks that changes cause, `ledger=Path(...)` keeps what it did over its
own end. As a process: `kommo-streams simulate-api`, whose ledger and mischief are at /_simulator/.

The way of a request: `door` (ASGI), `oauth` (whose), `mischief` and `limits` (whether), `routes`, then `people`,
`tasks`, `notes` for writes and `reads` for the rest, over `state`; `ledger` and `hooks` are told what changed. What an
account is set up with is in `catalogue`. Kommo's pages are named where their facts are used; where none says how it
is, the comment says INFERRED.
"""

from simulator.api.ledger import Effect, Ledger, LedgerError
from simulator.api.limits import Limits
from simulator.api.mischief import NO_MISCHIEF, ApiMischief, MischiefError
from simulator.api.oauth import Integration
from simulator.api.running import Running, simulated_kommo

__all__ = [
    "NO_MISCHIEF",
    "ApiMischief",
    "Effect",
    "Integration",
    "Ledger",
    "LedgerError",
    "Limits",
    "MischiefError",
    "Running",
    "simulated_kommo",
]
