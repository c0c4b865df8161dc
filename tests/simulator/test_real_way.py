"""The real way: simulated accounts, with all that goes wrong, to a gateway of its own process and into PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg

from gateway.tokens import Keyring, Token
from runtime.settings import Settings
from simulator.company import deliveries
from simulator.fleet import Fleet
from simulator.mischief import Mischief
from simulator.sender import Manner, Sender
from simulator.truth import Truth
from tests.acceptance.support import programs
from tests.conftest import eventually
from tests.simulator.tables import Comparison, Tables, microseconds

ACCOUNTS = (16700680, 16700681)
COUNT = 900
SPEED = 2000.0  # the latest delay is three seconds


async def shown(connection: Any, account: int) -> Tables:
    """What the views show of an account."""
    lines = await connection.fetch(
        "SELECT event_id::text, event_type, entity_type || '/' || entity_id AS subject, occurred_at "
        "FROM kommo.activity_log WHERE account_id = $1",
        account,
    )
    recent = await connection.fetch(
        "SELECT entity_type || '/' || entity_id AS subject, title, event_type, responsible_user_id, deleted, "
        "occurred_at FROM kommo.recent_updates WHERE account_id = $1",
        account,
    )
    return Tables(
        {row["event_id"]: (row["event_type"], row["subject"], microseconds(row["occurred_at"])) for row in lines},
        Counter((row["event_type"], row["subject"]) for row in lines),
        {row["subject"]: dict(row) | {"occurred_at": microseconds(row["occurred_at"])} for row in recent},
    )


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
        compared: Counter[str] = Counter()
        connection = await asyncpg.connect(settings.database_url.get_secret_value())
        try:
            for account in ACCOUNTS:

                async def agree(account: int = account) -> bool:
                    tables = await shown(connection, account)
                    with contextlib.suppress(AssertionError):
                        compared.update(Comparison(tables, told[str(account)]).compared)
                        return True
                    return False

                with contextlib.suppress(AssertionError):
                    await eventually(agree, 30)
                Comparison(await shown(connection, account), told[str(account)])  # says what differs, where it does
        finally:
            await connection.close()
        assert not started.errors()
    assert compared["event"] > 0.8 * COUNT
    assert compared["recent deleted"] > 200
