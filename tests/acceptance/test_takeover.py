"""A worker that is killed: within 30 s another takes its accounts over, and looks for what it had begun."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from agents.kommo.credentials import Credentials, CredentialStore, Pair
from agents.kommo.vault import Vault
from runtime.postgres import connect
from runtime.settings import Settings
from schemas.actions import CreateLead
from schemas.command import Command
from streams.producer import Producer, Record
from streams.topics import COMMANDS
from tests.support.programs import programs
from tests.support.simulated_kommo import SimulatedKommo
from tests.support.waiting import eventually

ACCOUNT = 16_700_680


@pytest.mark.timeout(240)
async def test_what_a_killed_worker_had_begun_is_found_by_another_within_30_seconds(
    settings: Settings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"kommo_rate": 1000, "kommo_timeout_seconds": 60.0})
    kommo = SimulatedKommo(tmp_path)
    await kommo.start()
    try:
        with programs(settings, tmp_path / "logs") as started:
            first = started.start("worker")
            await first.ready()
            connection = await connect(settings, application="test")
            store = CredentialStore(connection, Vault.from_settings(settings))
            await store.put(Credentials(ACCOUNT, kommo.url, Pair(SecretStr(await kommo.token(ACCOUNT)), None)))
            # Kommo makes the lead at once and does not answer: the worker waits, and is killed while it does.
            await kommo.mischief(hung_after=1.0, hang_seconds=600, methods=["POST"], most=1)
            begun = Command.make(CreateLead(name="begun"), account_id=ACCOUNT)
            async with Producer(settings, "test") as producer:
                await producer.send_all(COMMANDS, [Record(begun.key, begun.to_json())])
                await eventually(kommo.effects, 60, "the lead is made")
                second = started.start("worker")
                await second.ready()
                first.kill()
                killed = time.monotonic()
                later = Command.make(CreateLead(name="later"), account_id=ACCOUNT)
                await producer.send_all(COMMANDS, [Record(later.key, later.to_json())])

            async def ended() -> bool:
                query = "SELECT count(*) FROM kommo_agents.commands WHERE state = 'succeeded'"
                return bool(await connection.fetchval(query) == 2)

            await eventually(ended, 60, "both commands have succeeded")
            took = time.monotonic() - killed
            names = sorted(effect.item["name"] for effect in await kommo.effects())
            assert names == ["begun", "later"]
            row = await connection.fetchrow("SELECT * FROM kommo_agents.commands WHERE id = $1", begun.id)
            assert (row["attempts"], row["claimed_epoch"] >= 2) == (2, True)
            await connection.close()
            assert took < 30
            print(f"taken over {took:.1f} s after SIGKILL")
            await second.terminate()
    finally:
        kommo.kill()
