"""Ingest and projector killed, stopped, joined and left under load; then the ledger must balance."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from pathlib import Path

import asyncpg

from runtime.settings import Settings
from streams.consumer import SESSION_SECONDS
from tests.support.programs import ACCOUNTS, Program, Programs, Sender, balance, committed, drained, programs, sending
from tests.support.waiting import eventually

SEED = 20261124
GATHER, GATHER_RATE = 300, 150.0

_KINDS = [f"{deed} {name}" for name in ("ingest", "projector") for deed in ("kill", "terminate", "join", "leave")]


def plan(rng: random.Random, moments: int) -> list[str]:
    """An order of so many moments: each kind equally often, then kills; nobody leaves who has not joined."""
    often, rest = divmod(moments, len(_KINDS))
    kills = [kind for kind in _KINDS if kind[:4] in ("kill", "term")]
    while True:
        found = [*_KINDS * often, *rng.choices(kills, k=rest)]
        rng.shuffle(found)
        if _possible(found):
            return found


def _possible(moments: list[str]) -> bool:
    members = {"ingest": 1, "projector": 1}
    for moment in moments:
        deed, name = moment.split()
        members[name] += {"join": 1, "leave": -1}.get(deed, 0)
        if not 1 <= members[name] <= 2:
            return False
    return True


class Company:
    """The members of each group, and what happens to them."""

    def __init__(self, started: Programs, rng: random.Random) -> None:
        self.started, self.rng = started, rng
        self.members: dict[str, list[Program]] = {name: [started.start(name)] for name in ("ingest", "projector")}
        self.slowest = 0.0
        self.sender: Sender | None = None

    async def suffer(self, moment: str) -> None:
        deed, name = moment.split()
        members = self.members[name]
        if deed == "join":
            members.append(self.started.start(name))
            return
        member = self.rng.choice(members)
        if deed == "kill":
            await (self._writes() if name == "projector" else self._commits(member))
            member.kill()
            member.start()
            return
        self.slowest = max(self.slowest, await member.terminate())
        if deed == "leave":
            members.remove(member)
        else:
            member.start()

    async def _commits(self, member: Program) -> None:
        """Wait until ingest has committed a large batch: what it has not sent by then is lost if it is killed now.

        It is held for a moment, so that deliveries gather, and goes on in small steps: however slow this machine is,
        it has hardly gone on when the commit is seen.
        """
        assert self.sender is not None
        process = member.process
        for each in self.members["ingest"]:  # the group may just be shared out anew
            await each.ready()
        async with committed(self.started.settings) as ask:
            before = await ask()

            async def read_on() -> bool:
                now = await ask()
                return len(now) == len(ACCOUNTS) and all(at > before.get(partition, 0) for partition, at in now.items())

            await eventually(read_on, 60, "every partition is read on")
            process.send_signal(signal.SIGSTOP)
            usual, self.sender.rate = self.sender.rate, GATHER_RATE
            with contextlib.suppress(AssertionError):  # it must not be taken for dead meanwhile
                await self.sender.reaches(self.sender.count + GATHER, SESSION_SECONDS / 2)
            self.sender.rate = usual
            last, largest = await ask(), 0
            with contextlib.suppress(TimeoutError):  # nobody commits while the group is shared out anew
                async with asyncio.timeout(10):
                    while largest < 50:
                        process.send_signal(signal.SIGCONT)
                        await asyncio.sleep(0.01)
                        process.send_signal(signal.SIGSTOP)
                        now = await ask()
                        largest = max(largest, *(at - last.get(partition, 0) for partition, at in now.items()))
                        last = now
        print(f"ingest is killed after it has committed {largest} of a partition at once")

    async def _writes(self) -> None:
        """Wait until a projector is in the middle of a transaction: the worst moment."""
        connection = await asyncpg.connect(self.started.settings.database_url.get_secret_value())

        async def writes() -> bool:
            return bool(await connection.fetchval(_WRITES))

        try:
            async with asyncio.timeout(20):
                while not await writes():
                    await asyncio.sleep(0.001)
        finally:
            await connection.close()


_WRITES = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'kommo-streams %.v1' AND xact_start IS NOT NULL
  AND query NOT LIKE '%pg_stat_activity%'
"""


async def crash_of_the_gateway(sender: Sender, gateway: Program) -> None:
    """SIGKILL while many deliveries wait for their answer: what was answered 200 must be in the log."""
    sender.burst = 48
    await sender.reaches(sender.count + 12)
    gateway.kill()
    gateway.start()


async def every_accepted_delivery_is_in_the_tables_exactly_once(
    moments: int, rate: float, settings: Settings, folder: Path
) -> None:
    """Send `rate` deliveries a second while at so many moments a process is killed, stopped, joins or leaves."""
    rng = random.Random(SEED)
    begin = time.monotonic()
    with programs(settings, folder / "logs") as started:
        gateways = [started.start("gateway"), started.start("gateway")]
        company = Company(started, rng)
        for program in started.all:
            await program.ready()
        async with sending(settings, SEED, rate, *gateways) as sender:
            company.sender = sender
            for number, moment in enumerate(plan(rng, moments)):
                await sender.reaches(sender.count + round(rng.uniform(0.4, 1.7) * rate))
                await company.suffer(moment)
                if number % 5 == 2:
                    await crash_of_the_gateway(sender, rng.choice(gateways))
            await sender.reaches(sender.count + round(0.7 * rate))
        loaded = time.monotonic()
        await drained(settings)
        drain = time.monotonic() - loaded
        await balance(settings, sender.accepted, sender.sent)
        for member in (*gateways, *company.members["ingest"], *company.members["projector"]):
            await member.ready()
            company.slowest = max(company.slowest, await member.terminate())
        # That an account had a hundred answers of 503 while gateways were killed is no fault of theirs.
        assert not [line for line in started.errors() if line.get("logger") != "gateway.watch"]
        assert not started.unhandled()
    print(
        f"{moments} moments, {sender.count} accepted, answers {dict(sender.answers)}; {loaded - begin:.0f} s of load, "
        f"drained in {drain:.1f} s, slowest end on SIGTERM {company.slowest:.1f} s"
    )
