"""A worker in this process, a simulated Kommo, and what the tests ask of both."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import orjson
from pydantic import SecretStr

from agents.commands.deciding import Decision, decide
from agents.commands.executor import Executor
from agents.commands.outbox import Outbox
from agents.commands.recorder import Recorder
from agents.commands.table import Arrived, admit, awaken
from agents.kommo.clients import KommoClients
from agents.kommo.credentials import Credentials, CredentialStore, Pair
from agents.kommo.vault import Vault
from agents.migrations import migrate_missing
from agents.retry import Policies
from agents.worker import worker
from runtime.postgres import connect, open_pool
from runtime.settings import Settings
from schemas.actions import ACTIONS, AddNote, CreateLead
from schemas.command import Command
from simulator.api import ApiMischief, Limits, Running, simulated_kommo
from simulator.api.mischief import NO_MISCHIEF
from streams.producer import Producer, Record
from streams.topics import COMMANDS, ensure_topics, physical
from tests.support.databases import new_database
from tests.support.installation import delete_topics, installation
from tests.support.servers import Servers
from tests.support.waiting import eventually

_ACCOUNTS = itertools.count(16_700_680)
FAST = "all.base=0.05, all.cap=0.2"
"""Retries that a test can wait for."""
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the simulated Kommo speaks plain HTTP: no certificates are loaded


@dataclass
class House:
    """Everything a test of commands needs. `pool` is asyncpg's, `kommo` the simulator."""

    settings: Settings
    pool: Any
    kommo: Running
    producer: Producer
    account: int
    workers: list[tuple[asyncio.Task[None], asyncio.Event]] = field(default_factory=list)

    async def connect(self, *accounts: int, user: int | None = None) -> None:
        """Let a worker speak for accounts."""
        store = CredentialStore(self.pool, Vault.from_settings(self.settings))
        for account in accounts:
            token = self.kommo.token(account) if user is None else self.kommo.token(account, user)
            await store.put(Credentials(account, self.kommo.base_url, Pair(SecretStr(token), None), user_id=user))

    async def with_account(self) -> House:
        """Return this house with a connected account that nobody has used."""
        account = next(_ACCOUNTS)
        await self.connect(account)
        return replace(self, account=account)

    def lead(self, name: str = "Kitchen", **fields: Any) -> Command:
        """Return a command that makes a lead."""
        return Command.make(CreateLead(name=name, **fields), account_id=self.account)

    def note(self, lead_id: Any, text: str = "Called back", **envelope: Any) -> Command:
        """Return a command that puts a note on a lead."""
        action = AddNote(entity_type="lead", entity_id=lead_id, text=text)
        return Command.make(action, account_id=self.account, **envelope)

    def trouble(self, **mischief: Any) -> None:
        """Let the next write, or as many as `most` says, go wrong."""
        wanted = {"methods": ("POST", "PATCH"), "most": 1, **mischief}
        self.kommo.mischief(ApiMischief(**wanted), account=self.account)

    def work(self, **other: Any) -> None:
        """Start a worker in this process."""
        stop = asyncio.Event()
        settings = self.settings.model_copy(update={"worker_port": 0, **other})
        self.workers.append((asyncio.create_task(worker(settings, stop)), stop))

    def execute(self, **other: Any) -> None:
        """Start what carries commands out, without the reader of kommo.commands: see begin()."""
        stop = asyncio.Event()
        settings = self.settings.model_copy(update=other)
        self.workers.append((asyncio.create_task(_executing(settings, self.producer, stop)), stop))

    async def rest(self) -> None:
        """Stop the workers, as SIGTERM does."""
        workers = self.workers[:]
        self.workers.clear()  # with_account() gives others the same list
        for _, stop in workers:
            stop.set()
        for task, _ in workers:
            await task

    async def ask(self, *commands: Command) -> None:
        """Put commands on kommo.commands."""
        await self.producer.send_all(COMMANDS, [Record(item.key, item.to_json()) for item in commands])

    async def row(self, command: Command) -> Any:
        """The command's row, None where it is not taken on."""
        return await self.pool.fetchrow("SELECT * FROM kommo_agents.commands WHERE id = $1", command.id)

    async def until(self, command: Command, *states: str, seconds: float = 30, tries: int = 0) -> Any:
        """Wait until a command is in one of these states, after so many attempts at least, and return its row."""

        async def reached() -> Any:
            row = await self.row(command)
            return row if row is not None and row["state"] in states and row["attempts"] >= tries else None

        row = await eventually(reached, seconds)
        assert row is not None, f"{command.name} is {dict(await self.row(command) or {})}, not {states}"
        return row

    async def states(self, commands: Iterable[Command]) -> Counter[str]:
        """How many of these commands are in which state."""
        rows = await self.pool.fetch(
            "SELECT state, count(*) FROM kommo_agents.commands WHERE id = ANY($1::uuid[]) GROUP BY state",
            [item.id for item in commands],
        )
        return Counter({row[0]: row[1] for row in rows})

    async def told(self, command: Command) -> list[dict[str, Any]]:
        """The events of a command that were put out, in their order (from the outbox's log)."""
        rows = await self.pool.fetch("SELECT value FROM test_outbox ORDER BY number")
        events = [orjson.loads(row[0]) for row in rows if row[0]]
        return [event for event in events if event.get("subject") == f"command/{command.id}"]

    async def decide(self, command: Command, decision: Decision, **made: int) -> None:
        """Decide as a person does."""
        async with self.pool.acquire() as connection:
            await decide(connection, physical(self.settings, COMMANDS), command.id, decision, made)

    async def take_on(self, *commands: Command, age: float = 86_400.0, state: str = "waiting") -> None:
        """Take commands on as the agent does, without it; in `state` before a worker hears of them."""
        async with self.pool.acquire() as connection, connection.transaction():
            ids = await self._admit(connection, commands, age)
            if state != "waiting":
                await connection.execute(
                    "UPDATE kommo_agents.commands SET state = $2 WHERE id = ANY($1::uuid[])", list(ids), state
                )

    async def _admit(self, connection: Any, commands: Iterable[Command], age: float = 86_400.0) -> set[str]:
        return await admit(
            connection,
            [
                Arrived(command, command.to_json(), "commands", 0, number, age)
                for number, command in enumerate(commands)
            ],
        )

    async def begin(self, *commands: Command) -> None:
        """Take commands on as the agent does, and tell the workers of it."""
        async with self.pool.acquire() as connection, connection.transaction():
            await self._admit(connection, commands)
            await awaken(connection, {command.account_id for command in commands})

    async def due_now(self, command: Command) -> None:
        """Let a command that waits for its next attempt wait no longer."""
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "UPDATE kommo_agents.commands SET next_attempt_at = now() WHERE id = $1 AND state = 'waiting'",
                command.id,
            )
            await awaken(connection, [command.account_id])

    async def clear(self) -> None:
        """Stop the workers, and leave nothing of the tests before."""
        await self.rest()
        self.kommo.mischief(NO_MISCHIEF)
        await self.pool.execute(
            "TRUNCATE kommo_agents.commands, kommo_agents.leases, kommo_agents.workers, kommo_agents.circuits,"
            " kommo_agents.credentials, kommo_agents.outbox, test_outbox"
        )

    def effects(self, verb: str | None = None) -> list[Any]:
        """What the simulated Kommo really did for the account."""
        return [e for e in self.kommo.ledger.effects if e.account == self.account and verb in (None, e.verb)]


async def _executing(settings: Settings, producer: Producer, stop: asyncio.Event) -> None:
    """Do what a worker does with the commands in the table; what it puts out stays in the outbox."""
    pool = await open_pool(settings, application="test-worker", size=8)
    recorder = Recorder(pool, physical(settings, COMMANDS), Outbox(pool, producer))
    recording = asyncio.create_task(recorder.run())
    try:
        async with KommoClients(settings, pool, tls=_NO_TLS) as clients:
            policies = Policies(settings.retry, actions=ACTIONS)
            await Executor(settings, pool, clients, recorder, policies).run(stop)
    finally:
        recording.cancel()
        await asyncio.wait([recording])
        await _close(pool)


async def _close(pool: Any) -> None:
    with contextlib.suppress(TimeoutError, asyncpg.PostgresError):
        async with asyncio.timeout(3):
            await pool.close()


# What was put out, kept: the outbox itself is emptied.
_KEEP = """
CREATE TABLE test_outbox (number bigint, topic text, key bytea, value bytea, headers jsonb);
CREATE FUNCTION keep_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.test_outbox VALUES (NEW.number, NEW.topic, NEW.key, NEW.value, NEW.headers);
    RETURN NEW;
END $$;
CREATE TRIGGER keep AFTER INSERT ON kommo_agents.outbox FOR EACH ROW EXECUTE FUNCTION keep_outbox();
"""


@contextlib.asynccontextmanager
async def house(settings: Settings, *accounts: int, limits: Limits | None = None, **other: Any) -> AsyncIterator[House]:
    """Open a house with a connected account; workers that still run are stopped at the end."""
    settings = settings.model_copy(update={"kommo_rate": 10_000, "retry": FAST, "kommo_timeout_seconds": 2.0, **other})
    await ensure_topics(settings)
    connection = await connect(settings, application="test")
    await migrate_missing(connection)
    await connection.execute(_KEEP)
    await connection.close()
    pool = await open_pool(settings, application="test", size=4)
    try:
        async with (
            simulated_kommo(limits=limits or Limits(rate=None)) as kommo,
            Producer(settings, "test") as producer,
        ):
            made = await House(settings, pool, kommo, producer, 0).with_account()
            try:
                yield made
            finally:
                await made.rest()
    finally:
        await _close(pool)


@contextlib.asynccontextmanager
async def own_house(servers: Servers, **other: Any) -> AsyncIterator[House]:
    """Open a house in an installation of its own, with settings other than usual."""
    async with new_database(servers, "agents") as database:
        settings = installation(servers, database)
        async with house(settings, **other) as made:
            yield made
        await delete_topics(settings)
