"""Commands while everything is killed in turn: each effect exactly once, or the reason why not."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from pydantic import SecretStr

from agents.kommo.credentials import Credentials, CredentialStore, Pair
from agents.kommo.vault import Vault
from runtime.postgres import connect
from runtime.settings import Settings
from schemas.actions import (
    Action,
    AddNote,
    CreateCallNote,
    CreateContact,
    CreateLead,
    CreateMeetingNote,
    CreateTask,
    NewContact,
    UpdateLead,
)
from schemas.command import Command
from simulator.api.ledger import Effect
from streams.producer import Producer, Record
from streams.topics import COMMANDS, DEADLETTERS, EVENTS
from tests.support.programs import Program, everything, programs
from tests.support.servers import OwnServers, Servers
from tests.support.simulated_kommo import SimulatedKommo
from tests.support.waiting import eventually

ACCOUNTS = range(16_700_680, 16_700_720)
LEADS = 5
"""Of each account, on which most of the commands are."""

MISCHIEF = {
    "answers_lost": 0.01,
    "server_errors": 0.01,
    "server_errors_after": 0.01,
    "resets_before": 0.01,
    "resets_mid_answer": 0.005,
    "gateway_timeouts": 0.005,
    "gateway_timeouts_after": 0.005,
    "hung_before": 0.002,
    "hung_after": 0.002,
    "hang_seconds": 3,
    "malformed": 0.005,
    "thin": 0.005,
    "latency": 0.005,
    "latency_spread": 0.005,
}
LIMITED = {**MISCHIEF, "too_many": 0.1}
"""Of one account only: 429 to several would slow down all that goes out from this address, as it should."""

RETRY = "all.base=0.2, all.cap=2, all.age=3600, rate_limit.base=0.1"
DEADLINE = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)


def an_action(number: int, chance: random.Random, leads: list[int]) -> Action:
    """The action of a number: whatever it makes or changes bears the number."""
    lead = chance.choice(leads)
    on: dict[str, Any] = {"entity_type": "lead", "entity_id": lead}
    actions: list[Callable[[], Action]] = [
        lambda: CreateLead(name=f"c{number}", price=number),
        lambda: CreateLead(name=f"c{number}", contact=NewContact(name=f"with c{number}")),
        lambda: CreateContact(name=f"c{number}"),
        lambda: CreateTask(text=f"c{number}", complete_till=DEADLINE, **on),
        lambda: CreateMeetingNote(text=f"c{number}", at=DEADLINE, done=True, result="met", **on),
        lambda: AddNote(text=f"c{number}", **on),
        lambda: CreateCallNote(direction="in", phone="+15550100", duration_seconds=number, uniq=f"c{number}", **on),
        lambda: UpdateLead(lead_id=lead, price=1_000_000 + number),
        lambda: CreateLead(name=f"c{number}", status_id=999_999_999),  # Kommo refuses it
    ]
    return chance.choices(actions, weights=[20, 5, 15, 15, 5, 20, 10, 9, 1])[0]()


def marks(effect: Effect) -> str:
    """The number of the command that an effect is of."""
    item = effect.item
    if effect.kind == "lead" and effect.verb == "updated":
        return f"c{item['price'] - 1_000_000}"
    params = item.get("params") or {}
    return str(params.get("uniq") or params.get("text") or item.get("name") or item.get("text"))


class World:
    """The commands, who carries them out, and where."""

    def __init__(self, settings: Settings, kommo: SimulatedKommo) -> None:
        self.settings, self.kommo = settings, kommo
        self.commands: list[Command] = []

    async def connect_accounts(self) -> None:
        connection = await connect(self.settings, application="test")
        store = CredentialStore(connection, Vault.from_settings(self.settings))
        for account in ACCOUNTS:
            token = SecretStr(await self.kommo.token(account))
            await store.put(Credentials(account, self.kommo.url, Pair(token, None)))
        await connection.close()

    async def make_leads(self) -> dict[int, list[int]]:
        made = [
            Command.make(CreateLead(name=f"first {number}"), account_id=account)
            for account in ACCOUNTS
            for number in range(LEADS)
        ]
        await self.ask(made)
        await self.ended(len(made), 90)
        leads = defaultdict(list)
        for effect in await self.kommo.effects():
            leads[effect.account].append(effect.id)
        return leads

    async def misbehave(self) -> None:
        await self.kommo.mischief(**MISCHIEF)
        await self.kommo.mischief(account=ACCOUNTS[0], **LIMITED)

    async def ask(self, commands: list[Command], again: bool = False) -> None:
        async with Producer(self.settings, "test") as producer:
            await producer.send_all(COMMANDS, [Record(item.key, item.to_json()) for item in commands])
        self.commands += [] if again else commands

    async def ended(self, count: int, seconds: float) -> None:
        """Wait until so many commands have ended."""

        async def reached() -> bool:
            await asyncio.sleep(0.2)
            try:
                states = await self.states()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                return False
            return states["succeeded"] + states["failed"] + states["unknown"] >= count

        await eventually(reached, seconds, f"{count} commands have ended")

    async def states(self) -> Counter[str]:
        rows = await self.rows("SELECT state, count(*) FROM kommo_agents.commands GROUP BY state")
        return Counter({row[0]: row[1] for row in rows})

    async def rows(self, query: str) -> list[Any]:
        connection = await connect(self.settings, application="test")
        try:
            found: list[Any] = await connection.fetch(query)
            return found
        finally:
            await connection.close()


Blow = Callable[[Servers, World, list[Program]], Awaitable[None]]


async def _worker_dies(_servers: OwnServers, _world: World, workers: list[Program]) -> None:
    workers[0].kill()
    workers[0].start()


async def _kommo_dies(_servers: OwnServers, world: World, _workers: list[Program]) -> None:
    world.kommo.kill()
    await asyncio.sleep(1)  # it is away for a while: that is what is tried here
    await world.kommo.start()
    await world.misbehave()


async def _postgres_dies(servers: OwnServers, _world: World, _workers: list[Program]) -> None:
    servers.embedded.postgres.kill()
    await asyncio.to_thread(servers.embedded.postgres.start)


async def _kafka_dies(servers: OwnServers, _world: World, _workers: list[Program]) -> None:
    servers.embedded.kafka.kill()
    await asyncio.to_thread(servers.embedded.kafka.start)


async def _valkey_dies(servers: OwnServers, _world: World, _workers: list[Program]) -> None:
    servers.embedded.valkey.kill()
    await asyncio.to_thread(servers.embedded.valkey.start)


async def _worker_leaves(_servers: OwnServers, _world: World, workers: list[Program]) -> None:
    assert await workers[1].terminate() < 10
    workers[1].start()


EACH_ONCE: list[Blow] = [_worker_dies, _kommo_dies, _postgres_dies, _worker_leaves, _kafka_dies, _valkey_dies]
AND_AGAIN: list[Blow] = [*EACH_ONCE[:-1], _worker_dies, _valkey_dies]


async def each_effect_is_there_once_or_it_says_why_not(
    count: int, blows: list[Blow], servers: OwnServers, settings: Settings, folder: Path
) -> None:
    """Let two workers carry out `count` commands while blows fall, one after another, in even steps."""
    settings = settings.model_copy(update={"kommo_rate": 10_000, "kommo_timeout_seconds": 2.0, "retry": RETRY})
    chance = random.Random(20261124)
    kommo = SimulatedKommo(folder)
    await kommo.start()
    world = World(settings, kommo)
    try:
        with programs(settings, folder / "logs") as started:
            workers = [started.start("worker"), started.start("worker")]
            for program in workers:
                await program.ready()
            await world.connect_accounts()
            leads = await world.make_leads()
            await world.misbehave()
            begin = time.monotonic()
            commands = []
            for number in range(count):
                account = chance.choice(ACCOUNTS)
                action = an_action(number, chance, leads[account])
                commands.append(Command.make(action, account_id=account, correlation_id=f"c{number}"))
            await world.ask(commands[: count // 2])
            assert 3 * count // (len(blows) + 1) < count // 2
            moments = []
            for number, blow in enumerate(blows, 1):
                await world.ended(number * count // (len(blows) + 1), 150)
                moments.append(f"{time.monotonic() - begin:.0f} s {blow.__name__}")
                await blow(servers, world, workers)
                if number == 3:
                    await world.ask(commands[count // 2 :])
                    await world.ask(commands[: count // 20], again=True)
            await kommo.mischief()
            await kommo.mischief(account=ACCOUNTS[0])
            await world.ended(len(world.commands), 240)
            took = time.monotonic() - begin
            for program in workers:
                await program.terminate()
            assert not started.unhandled()
        told = await _balance(world, commands)
        print(f"{count} commands in {took:.0f} s: {told}; {', '.join(moments)}")
    finally:
        kommo.kill()


async def _balance(world: World, commands: list[Command]) -> str:
    """Compare the simulated Kommo's own ledger with what the commands say of themselves."""
    effects = await world.kommo.effects()
    found = Counter(marks(effect) for effect in effects if marks(effect).startswith("c"))
    first_at = {marks(effect): effect.received_at for effect in effects}
    rows = {row["id"]: row for row in await world.rows("SELECT *, id::text AS id FROM kommo_agents.commands")}
    states: Counter[str] = Counter()
    for number, command in enumerate(commands):
        row, times = rows[command.id], found[f"c{number}"]
        states[row["state"]] += 1
        wrong = f"c{number} {command.name} is {row['state']} with {times} effects: {row['error']}"
        assert row["state"] in ("succeeded", "failed", "unknown"), wrong
        if row["state"] == "succeeded":
            assert times == 1, wrong
        elif row["state"] == "failed":
            assert times == 0, wrong
            assert row["error"], wrong
        else:
            assert times <= 1, wrong
            assert row["error"], wrong
    refused = sum(getattr(command.action, "status_id", None) == 999_999_999 for command in commands)
    assert states["failed"] == refused, states
    assert states["unknown"] <= max(2, len(commands) // 100), states
    events = [orjson.loads(record.value) for record in await everything(world.settings, EVENTS)]
    _nothing_before_its_time(events, first_at)
    _each_story_is_whole(events, commands, rows)
    letters = await everything(world.settings, DEADLETTERS)
    assert {orjson.loads(letter.value)["id"] for letter in letters} == {
        command.id for command in commands if rows[command.id]["state"] == "failed"
    }
    _order_is_kept(effects, commands)
    attempts = sum(row["attempts"] for row in rows.values())
    return f"{dict(states)}, {attempts} attempts, {len(effects)} effects"


def _nothing_before_its_time(events: list[dict[str, Any]], first_at: dict[str, float]) -> None:
    for event in events:
        told = event["data"]["command"]
        if event["type"] == "kommo.command.retried" and event["correlationid"] in first_at:
            told_at = dt.datetime.fromisoformat(event["time"]).timestamp()
            due = dt.datetime.fromisoformat(told["next_attempt_at"]).timestamp()
            at = first_at[event["correlationid"]]
            assert at <= told_at or at >= due - 0.005, (event, at)


def _each_story_is_whole(events: list[dict[str, Any]], commands: list[Command], rows: dict[str, Any]) -> None:
    stories = defaultdict(set)
    for event in events:
        stories[event["correlationid"]].add(event["type"].rpartition(".")[2])
    for number, command in enumerate(commands):
        assert {"admitted", rows[command.id]["state"]} <= stories[f"c{number}"], (command.id, stories[f"c{number}"])


def _order_is_kept(effects: list[Effect], commands: list[Command]) -> None:
    """Notes, tasks and changes of one lead came to Kommo in the order in which they were asked for."""
    order = defaultdict(list)
    place = {f"c{number}": command for number, command in enumerate(commands)}
    for effect in effects:
        command = place.get(marks(effect))
        if command is not None and command.action.element()[1] is not None:
            order[command.account_id, command.subject].append(int(marks(effect)[1:]))
    assert len(order) > 100
    for subject, numbers in order.items():
        assert numbers == sorted(numbers), subject
