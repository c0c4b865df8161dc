"""The real way: simulated accounts, with all that goes wrong, to a gateway of its own process and into PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from itertools import islice
from pathlib import Path

import asyncpg

from gateway.tokens import Keyring, Token
from runtime.settings import Settings
from simulator.company import deliveries
from simulator.fleet import Fleet
from simulator.mischief import Mischief
from simulator.sender import Manner, Sender
from simulator.truth import Truth
from tests.support.programs import programs
from tests.support.truth.comparison import Comparison
from tests.support.truth.tables import shown
from tests.support.waiting import eventually

ACCOUNTS = (16700680, 16700681)
COUNT = 900
SPEED = 2000.0  # the latest delay is three seconds


async def test_the_views_show_what_the_accounts_did(settings: Settings, tmp_path: Path) -> None:
    truth, keys = Truth(), Keyring.from_settings(settings)
    mischief = Mischief(repeats=0.1, reorderings=0.1, delays=0.1, losses=0.02, garbage=0.05)
    with programs(settings, tmp_path / "logs") as started:
        for name in ("gateway", "ingest", "projector"):
            started.start(name)
        for program in started.all:
            await program.ready()
        door = started.all[0].url
        addresses = {account: f"{door}/webhooks/{keys.sign(Token(account, 1))}" for account in ACCOUNTS}
        fleet = Fleet({account: deliveries(account, account, pace=SPEED) for account in ACCOUNTS}, 1)
        sender = Sender(addresses, Manner(rate=100, speed=SPEED, mischief=mischief, seed=5), truth=truth)
        counts = await sender.run(islice(fleet, COUNT), asyncio.Event())
        assert counts.accepted > COUNT
        told = truth.to_json()["accounts"]
        compared: Counter[tuple[str, str]] = Counter()
        connection = await asyncpg.connect(settings.database_url.get_secret_value())
        try:
            for account in ACCOUNTS:

                async def agree(account: int = account) -> bool:
                    with contextlib.suppress(AssertionError):
                        Comparison(await shown(connection, account), told[str(account)])
                        return True
                    return False

                with contextlib.suppress(AssertionError):
                    await eventually(agree, 30)
                # Says what differs, where it does.
                compared += Comparison(await shown(connection, account), told[str(account)]).compared
        finally:
            await connection.close()
        assert not started.errors()
    assert compared["activity_log", "event_id"] > 0.8 * COUNT
    assert compared["recent_updates", "deleted"] > 200
    assert compared["tasks", "state"] > 30
    assert compared["calls", "recording_url"] > 15
