"""Commands through one worker beside plain httpx calls, and what accounts that are down cost the others."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import httpx
from pydantic import SecretStr

from agents.kommo.credentials import Credentials, CredentialStore, Pair
from agents.kommo.vault import Vault
from agents.migrations import migrations
from bench.report import Figure, Report, compare
from bench.world import ROOT, free_port, installation, process
from runtime.migrations import migrate
from runtime.settings import Settings
from schemas.actions import CreateLead
from schemas.command import Command
from service.embedded import Addresses
from simulator.api.clock import ApiClock
from simulator.api.oauth import Integration, OAuth
from streams.producer import Producer, Record
from streams.topics import COMMANDS

COUNT = 3000
ACCOUNTS = range(16_700_680, 16_700_730)
MANY = range(17_000_000, 17_001_000)
DOWN = MANY[::10]
"""A tenth of them: half of these answer 503 at once, half do not answer at all."""

CONNECTIONS = 8  # with more, httpx is slower: it looks at every connection for every request
RATE = 60.0
SECONDS = 40.0
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

_USER = 2_852_878


async def run(addresses: Addresses, report: Report, rounds: int) -> None:
    """Commands a second, each in turn with the calls; then the 99th percentile of those whose Kommo is well."""
    async with _kommo() as url, installation(addresses) as settings:
        settings = _ours(settings)
        connection = await asyncpg.connect(settings.database_url.get_secret_value())
        await migrate(connection, migrations())
        store = CredentialStore(connection, Vault.from_settings(settings))
        for account in [*ACCOUNTS, *MANY]:
            await store.put(Credentials(account, url, Pair(SecretStr(_token(account)), None)))
        async with process(settings, "service", "worker", port=settings.worker_port):
            await _carried_out(settings, connection, 500)  # leases, connections, plans
            await compare(
                report,
                "commands carried out by one worker",
                lambda: _carried_out(settings, connection, COUNT),
                lambda: _called(url, COUNT),
                f"plain httpx calls, {CONNECTIONS} at once",
                0.5,
                rounds,
            )
        await _down(settings, connection, url, report, min(rounds, 3))
        await connection.close()


def _ours(settings: Settings) -> Settings:
    more = {
        "worker_port": free_port(),
        "token_keys": SecretStr(KEY),
        "kommo_rate": 10_000,
        "kommo_timeout_seconds": 5.0,
        "commands_per_account": 16,
    }
    return Settings(**{name: getattr(settings, name) for name in settings.model_fields_set} | more)


@contextlib.asynccontextmanager
async def _kommo() -> AsyncIterator[str]:
    """Run the simulated Kommo, without limits, as a process of its own."""
    port = free_port()
    arguments = ["--port", str(port), "--rate-limit", "none", "--no-webhooks"]
    command = [sys.executable, "-m", "service", "simulate-api", *arguments]
    child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient() as client:
            for _ in range(600):
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"{url}/_simulator")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
        yield url
    finally:
        child.terminate()
        await asyncio.wait_for(child.wait(), 15)


def _token(account: int) -> str:
    return OAuth(0, ApiClock(), Integration(), lambda entry: None).long_lived(account, _USER)


def _commands(accounts: Sequence[int], count: int) -> list[Command]:
    return [
        Command.make(CreateLead(name=f"Lead {n} of {time.time_ns()}", price=n), account_id=accounts[n % len(accounts)])
        for n in range(count)
    ]


async def _carried_out(settings: Settings, connection: Any, count: int) -> float:
    commands = _commands(ACCOUNTS, count)
    last = commands[-1].id
    began = time.monotonic()
    async with Producer(settings, "bench") as producer:
        await producer.send_all(COMMANDS, [Record(item.key, item.to_json()) for item in commands])
    waiting = "SELECT count(*) FROM kommo_agents.commands WHERE state IN ('waiting', 'claimed')"
    there = "SELECT 1 FROM kommo_agents.commands WHERE id = $1"
    while not await connection.fetchval(there, last) or await connection.fetchval(waiting):
        await asyncio.sleep(0.02)
    return count / (time.monotonic() - began)


async def _called(url: str, count: int) -> float:
    tokens = {account: _token(account) for account in ACCOUNTS}
    todo = iter(range(count))
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=url, limits=limits, trust_env=False) as client:

        async def call() -> None:
            for number in todo:
                account = ACCOUNTS[number % len(ACCOUNTS)]
                answer = await client.post(
                    "/api/v4/leads",
                    json=[{"name": f"Lead {number}", "price": number}],
                    headers={"Authorization": f"Bearer {tokens[account]}"},
                )
                answer.raise_for_status()
                answer.json()

        began = time.monotonic()
        await asyncio.gather(*(call() for _ in range(CONNECTIONS)))
        return count / (time.monotonic() - began)


async def _down(settings: Settings, connection: Any, url: str, report: Report, rounds: int) -> None:
    """1,000 accounts at a steady rate, in turn without failures and with a tenth of them down."""
    well: list[float] = []
    ill: list[float] = []
    async with httpx.AsyncClient(base_url=url) as client:
        for _ in range(rounds):
            for found, wrong in ((well, ({}, {})), (ill, ({"hung_before": 1.0, "hang_seconds": 60}, {"down": True}))):
                for number, account in enumerate(DOWN):
                    answer = await client.put(
                        "/_simulator/mischief", params={"account": account}, json=wrong[number % 2]
                    )
                    answer.raise_for_status()
                found.append(await _steady(settings, connection))
                # What those that were down have left is not the next round's work.
                await connection.execute("DELETE FROM kommo_agents.commands WHERE finished_at IS NULL")
    ratios = [one / other for one, other in zip(ill, well, strict=True)]
    ratio = statistics.median(ratios)
    report.add(
        Figure(
            f"99th percentile of a command's way, {len(MANY)} accounts of which {len(DOWN)} are down",
            f"{statistics.median(ill):.0f} ms ({min(ill):.0f} to {max(ill):.0f}) for those that are well",
            f"without failures {statistics.median(well):.0f} ms ({min(well):.0f} to {max(well):.0f})",
            f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            "at most 1.5",
            ratio <= 1.5,
        )
    )


async def _steady(settings: Settings, connection: Any) -> float:
    """Ask at a steady rate for a while, and return the 99th percentile in ms of accounts that are never down."""
    chance = random.Random(7)
    asked: list[str] = []
    async with (
        process(settings, "service", "worker", port=settings.worker_port),
        Producer(settings, "bench") as producer,
    ):
        began = time.monotonic()
        for number in range(int(RATE * SECONDS)):
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            account = chance.choice(MANY)
            (command,) = _commands([account], 1)
            await producer.send(COMMANDS, Record(command.key, command.to_json()))
            if account not in DOWN and number > RATE * 5:
                asked.append(command.id)
        ended = "SELECT count(*) FROM kommo_agents.commands WHERE id = ANY($1::uuid[]) AND state = 'succeeded'"
        limit = time.monotonic() + 60
        while await connection.fetchval(ended, asked) < len(asked):
            if time.monotonic() > limit:
                raise RuntimeError("commands of accounts that are well have not ended")
            await asyncio.sleep(0.1)
    ms: float = await connection.fetchval(
        """SELECT percentile_cont(0.99) WITHIN GROUP (
               ORDER BY extract(epoch FROM finished_at - admitted_at) * 1000)
           FROM kommo_agents.commands WHERE id = ANY($1::uuid[])""",
        asked,
    )
    return float(ms)
