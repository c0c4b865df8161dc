"""Each server killed and brought back under load: nobody restarts ours, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from dashboard import tokens
from runtime.settings import Settings
from tests.support.programs import (
    ACCOUNTS,
    Program,
    Programs,
    Sender,
    balance,
    drained,
    programs,
    sending,
)
from tests.support.servers import OwnServers, Servers
from tests.support.waiting import eventually

RATE = 60.0
BACK_SECONDS = 45.0
"""Within this a process must be ready again after its server came back, on a busy machine."""


class House:
    """All four processes, a token for the dashboard, and what each says of itself."""

    def __init__(self, started: Programs) -> None:
        self.processes = {name: started.start(name) for name in ("gateway", "ingest", "projector", "dashboard")}
        self.token = ""

    def __getitem__(self, name: str) -> Program:
        return self.processes[name]

    async def ready(self, *names: str) -> None:
        for name in names or self.processes:
            await self[name].ready(BACK_SECONDS)

    async def says(self, name: str, word: str) -> None:
        """Wait until a process says on /readyz that something with this word in its name is away, and still lives."""

        async def said() -> bool:
            reasons = await self[name].not_ready()
            return any(word in part for part in reasons or {})

        await eventually(said, 40, f"{name} says that {word} is away")
        assert (await self[name].answer("/livez"))[0] == 200

    async def api(self, path: str = "/api/v1/activity", **params: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(trust_env=False, timeout=15) as client:
            return await client.get(self["dashboard"].url + path, headers=headers, params=params)

    async def shows(self, status: int, path: str = "/api/v1/activity", **params: Any) -> httpx.Response:
        async def answered() -> httpx.Response | None:
            answer = await self.api(path, **params)
            return answer if answer.status_code == status else None

        answer = await eventually(answered, BACK_SECONDS, f"the API answers {status}")
        assert isinstance(answer, httpx.Response)
        return answer


async def more(sender: Sender, count: int = 50) -> None:
    await sender.reaches(sender.count + count)


async def _kafka_away(servers: OwnServers, house: House, sender: Sender) -> None:
    servers.embedded.kafka.kill()
    try:
        refused = sender.answers["503"] + sender.answers["TimeoutError"]
        await eventually(lambda: sender.answers["503"] + sender.answers["TimeoutError"] > refused + 5, 20)
        accepted = sender.count
        for path in ("/api/v1/activity", "/api/v1/recent-updates"):
            assert (await house.api(path)).status_code == 200
        assert sender.count == accepted  # nothing is accepted that Kafka does not hold
        # Whoever was answered 200 has his delivery in the log, even if the gateway's memory is lost now.
        house["gateway"].kill()
        house["gateway"].start()
        await house.says("gateway", "kafka")
    finally:
        await asyncio.to_thread(servers.embedded.kafka.start)


async def _postgres_away(servers: OwnServers, house: House, sender: Sender) -> None:
    servers.embedded.postgres.kill()
    try:
        await more(sender)  # the gateway needs Kafka and nothing else
        for path in ("/api/v1/activity", "/api/v1/recent-updates"):
            answer = await house.shows(503, path)  # a first page may be a second old
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["error_class"] == "database"
        await house.says("dashboard", "database")
        await house.says("projector", "postgresql")
        for name in ("gateway", "ingest"):
            assert await house[name].not_ready() == {}
    finally:
        await asyncio.to_thread(servers.embedded.postgres.start)


async def _valkey_away(servers: OwnServers, house: House, sender: Sender) -> None:
    servers.embedded.valkey.kill()
    try:
        await more(sender)
        for path in ("/api/v1/activity", "/api/v1/recent-updates"):
            begin = time.monotonic()
            assert (await house.api(path)).status_code == 200
            assert time.monotonic() - begin < 5
        await house.ready()  # a cache that is away is no reason to take a process out of service
    finally:
        await asyncio.to_thread(servers.embedded.valkey.start)


Outage = Callable[[Servers, House, Sender], Awaitable[None]]


@pytest.mark.timeout(300)
@pytest.mark.kills_servers
async def test_each_server_may_go_away_and_come_back(
    mortal_servers: OwnServers, settings: Settings, tmp_path: Path
) -> None:
    outages: list[Outage] = [_postgres_away, _valkey_away, _kafka_away, _postgres_away]
    told = []
    with programs(settings, tmp_path / "logs") as started:
        house = House(started)
        await house.ready()
        pids = {name: program.process.pid for name, program in house.processes.items() if name != "gateway"}
        connection = await asyncpg.connect(settings.database_url.get_secret_value())
        house.token = (await tokens.create(connection, "test", ACCOUNTS, None)).text
        await connection.close()
        async with sending(settings, 7, RATE, house["gateway"]) as sender:
            await more(sender)
            for outage in outages:
                begin = time.monotonic()
                await outage(mortal_servers, house, sender)
                back = time.monotonic()
                await house.ready()
                told.append(
                    f"{outage.__name__}: away {back - begin:.1f} s, ready after {time.monotonic() - back:.1f} s"
                )
                await more(sender)
                newest = await _newest(settings)
                answer = await house.shows(200, wait_for=newest)
                assert answer.json()["items"]
        begin = time.monotonic()
        await drained(settings)
        told.append(f"drained in {time.monotonic() - begin:.1f} s; {sender.count} accepted, {dict(sender.answers)}")
        await balance(settings, sender.accepted, sender.sent)
        await house.ready()
        for name, pid in pids.items():
            assert house[name].process.pid == pid
            assert house[name].process.poll() is None
        # asyncpg leaves a future of its own behind when a connection ends while it cancels a query.
        assert not [line for line in started.errors() if line.get("logger") != "asyncio" and "exception" in line]
        assert not started.unhandled()
        members = [*house.processes.values(), started.start("worker")]
        await members[-1].ready()
        told.append(await _ends_while_away(mortal_servers.embedded.postgres, members, "dashboard", "projector"))
        assert not started.unhandled()
    print("\n".join(told))


@pytest.mark.kills_servers
async def test_readyz_says_that_kafka_went_away_and_sigterm_is_obeyed_meanwhile(
    mortal_servers: OwnServers, settings: Settings, tmp_path: Path
) -> None:
    """Nothing is sent: each finds out by itself, also that Kafka is back."""
    with programs(settings, tmp_path / "logs") as started:
        members = [started.start(name) for name in ("gateway", "ingest", "projector", "dashboard", "worker")]
        stay = [started.start(name) for name in ("gateway", "ingest")]
        for member in [*members, *stay]:
            await member.ready()
        tell = ("gateway", "ingest", "projector")
        print(await _ends_while_away(mortal_servers.embedded.kafka, members, *tell, seconds=10))
        for member in stay:
            await member.ready(BACK_SECONDS)


async def _ends_while_away(server: Any, members: list[Program], *tell: str, seconds: float = 20) -> str:
    """Kill a server: those that tell say so on /readyz in time, and every member ends on SIGTERM meanwhile."""
    telling = [member for member in members if member.name.rpartition("-")[0] in tell]
    server.kill()
    try:

        async def told() -> bool:
            return all([await member.not_ready() for member in telling])

        await eventually(told, seconds, f"each says that {server.name} is away")
        took = {member.name: await member.terminate() for member in members}
    finally:
        await asyncio.to_thread(server.start)
    return f"without {server.name}: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in took.items())}"


async def _newest(settings: Settings) -> str:
    """The id of the event that PostgreSQL got last."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        found = await connection.fetchval(
            "SELECT event_id FROM kommo.activity_log ORDER BY log_offset DESC, occurred_at DESC LIMIT 1"
        )
    finally:
        await connection.close()
    return str(found)
