"""A running dashboard, its database filled by hand, and readers of its answers."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import asyncpg
import httpx
from pydantic import SecretStr

from agents.migrations import migrations as agents_migrations
from dashboard import process, tokens
from dashboard.api import Services
from dashboard.migrations import migrations
from projections.projector import migrations as projection_migrations
from projections.queries import VIEWS
from runtime.migrations import migrate
from runtime.settings import Settings
from tests.support.ports import free_port
from tests.support.waiting import eventually

NOON = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC)
ONE, TWO = 31337, 42042


async def migrated(url: str) -> None:
    connection = await asyncpg.connect(url)
    await migrate(connection, [*projection_migrations(), *migrations()])
    await connection.close()


async def agents_migrated(url: str) -> None:
    """Make the workers' own tables, which the dashboard's are not."""
    connection = await asyncpg.connect(url)
    await migrate(connection, agents_migrations())
    await connection.close()


@dataclass
class Rows:
    """Writes what the projector would write."""

    connection: Any
    offsets: dict[int, int] = field(default_factory=dict)

    async def activity(
        self,
        account: int = ONE,
        at: dt.datetime = NOON,
        *,
        event_id: uuid.UUID | None = None,
        entity: str = "lead/1",
        type: str = "kommo.lead.updated",
        summary: str = "Lead was changed",
        changes: Any = None,
        outcome: str | None = None,
        duration_ms: int | None = None,
        sort_key: str | None = None,
        correlation_id: str = "delivery",
        partition: int = 0,
        move: bool = True,
    ) -> uuid.UUID:
        event_id = event_id or uuid.uuid4()
        offset = self.offsets.get(partition, 0)
        self.offsets[partition] = offset + 1
        entity_type, _, entity_id = entity.partition("/")
        async with self.connection.transaction():
            await self.connection.execute(
                "INSERT INTO kommo_projections.activity_log_v2 "
                "VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,false)",
                account,
                at,
                event_id,
                entity_type,
                entity_id,
                type,
                7,
                summary,
                None if changes is None else json.dumps(changes),
                outcome,
                duration_ms,
                correlation_id,
                partition,
                offset,
                sort_key or f"1-{offset:016d}-000000",
                "kommo",
                1,
            )
            if move:
                await self.position("activity_log", offset + 1, partition)
        return event_id

    async def update(
        self,
        account: int = ONE,
        at: dt.datetime = NOON,
        *,
        entity: str = "lead/1",
        type: str = "kommo.lead.updated",
        title: str | None = "Big deal",
        summary: str = "Lead was changed",
        url: str | None = None,
        deleted: bool = False,
        move: bool = True,
    ) -> None:
        entity_type, _, entity_id = entity.partition("/")
        async with self.connection.transaction():
            await self.connection.execute(
                "INSERT INTO kommo_projections.recent_updates_v1 VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,'{}') "
                "ON CONFLICT (account_id, entity_type, entity_id) DO UPDATE SET title = excluded.title, "
                "event_type = excluded.event_type, summary = excluded.summary, occurred_at = excluded.occurred_at, "
                "url = excluded.url, deleted = excluded.deleted, event_id = excluded.event_id",
                account,
                entity_type,
                entity_id,
                title,
                type,
                summary,
                7,
                at,
                url,
                deleted,
                uuid.uuid4(),
            )
            if move:
                self.offsets[-1] = self.offsets.get(-1, 0) + 1
                await self.position("recent_updates", self.offsets[-1], 0)

    async def task(self, account: int = ONE, at: dt.datetime = NOON, **columns: Any) -> None:
        """A row of tasks; `columns` replace those of the table."""
        told = {"task_id": "1", "status": "open", "text": "Call back", "responsible_user_id": 7}
        await self._row("tasks_v1", {"account_id": account, "occurred_at": at, **told, **columns})

    async def call(self, account: int = ONE, at: dt.datetime = NOON, **columns: Any) -> None:
        """A row of calls; `columns` replace those of the table."""
        told = {"call_id": "u-1", "entity_type": "lead", "entity_id": "1", "direction": "in", "duration_seconds": 65}
        await self._row("calls_v1", {"account_id": account, "occurred_at": at, **told, **columns})

    async def command(self, account: int = ONE, at: dt.datetime = NOON, **columns: Any) -> str:
        """A row of commands; `columns` replace those of the table."""
        command_id: str = columns.pop("command_id", None) or str(uuid.uuid4())
        told = {"action": "add_note", "entity_type": "lead", "entity_id": "1", "status": "succeeded", "attempts": 1}
        told |= {"admitted_at": at, "correlation_id": command_id}
        rows = {"account_id": account, "occurred_at": at, "command_id": command_id, **told, **columns}
        await self._row("commands_v1", rows)
        return command_id

    async def effect(self, command_id: str, at: dt.datetime = NOON, *, account: int = ONE, **columns: Any) -> None:
        """An entity that a command touched."""
        told = {"entity_type": "lead", "entity_id": "1", "at": at, "events": "kommo.lead.", "asked_at": at}
        await self._insert("command_effects_v1", {"account_id": account, "command_id": command_id, **told, **columns})

    async def letter(self, account: int | None = ONE, at: dt.datetime = NOON, **columns: Any) -> str:
        """A row of dead letters; `columns` replace those of the table."""
        letter_id: str = columns.pop("letter_id", None) or uuid.uuid4().hex
        told = {"first_at": at, "error_class": "validation", "reason": "it is no JSON", "reader": "ingest"}
        told |= {"attempts": 1, "topic": "kommo.webhooks", "original_partition": 3, "original_offset": 2**40}
        told |= {"item": "", "correlation_id": "c-1", "key": b"31337", "value": b"{", "headers": "[]"}
        told |= {"log_partition": 1, "log_offset": 5}
        rows = {"letter_id": letter_id, "account_id": account, "occurred_at": at, **told, **columns}
        await self._insert("dead_letters_v1", rows)
        return letter_id

    async def circuit(self, account: int, kind: str, since: dt.datetime, until: dt.datetime) -> None:
        """An open circuit of the worker that holds the account (the workers' tables must be there)."""
        holder = uuid.uuid5(uuid.NAMESPACE_OID, "worker")
        await self.connection.execute(
            "INSERT INTO kommo_agents.leases (account_id, holder, until) VALUES ($1, $2, 'infinity') "
            "ON CONFLICT (account_id) DO NOTHING",
            account,
            holder,
        )
        await self.connection.execute(
            "INSERT INTO kommo_agents.circuits (account_id, kind, since, until, holder) VALUES ($1, $2, $3, $4, $5) "
            "ON CONFLICT (account_id, kind) DO UPDATE SET until = excluded.until",
            *(account, kind, since, until, holder),
        )

    async def _row(self, table: str, columns: dict[str, Any]) -> None:
        await self._insert(table, {"event_id": uuid.uuid4(), "state": "{}", **columns})

    async def _insert(self, table: str, columns: dict[str, Any]) -> None:
        places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        await self.connection.execute(
            f"INSERT INTO kommo_projections.{table} ({', '.join(columns)}) VALUES ({places})", *columns.values()
        )

    async def position(self, projection: str, position: int, partition: int = 0) -> None:
        await self.connection.execute(
            "INSERT INTO kommo_projections.positions VALUES ($1, $4, $2, 'kommo.events.g1', 'cluster', $3) "
            "ON CONFLICT (projection, version, partition) "
            "DO UPDATE SET position = excluded.position, updated_at = now()",
            projection,
            partition,
            position,
            {view.projection: view.version for view in VIEWS}[projection],
        )

    async def token(
        self, *accounts: int, expires_at: dt.datetime | None = None, kind: str = "api", commands: bool = False
    ) -> str:
        made = await tokens.create(self.connection, "test", accounts or None, expires_at, kind, commands=commands)
        return made.text

    async def code(self, *accounts: int, commands: bool = False) -> str:
        return (await tokens.create_code(self.connection, accounts or None, commands=commands)).text


@dataclass
class Board:
    """A running dashboard: its address, and a client without credentials."""

    url: str
    client: httpx.AsyncClient
    stop: asyncio.Event
    task: asyncio.Task[None]
    services: Services
    """Its parts, for a test that waits until somebody waits."""

    async def get(self, path: str, token: str | None = None, **params: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return await self.client.get(path, headers=headers, params=params or None)

    async def items(self, path: str, token: str, **params: Any) -> list[dict[str, Any]]:
        answer = await self.get(path, token, **params)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


_assemble = process.assemble


def settings_for(database_url: str, redis_url: str | None, **more: Any) -> Settings:
    port = free_port()
    return Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url) if redis_url else None,
        dashboard_port=port,
        dashboard_url=more.pop("dashboard_url", f"http://127.0.0.1:{port}"),
        **more,
    )


def kafka_of(settings: Settings) -> dict[str, Any]:
    """What open_board() is given to use the Kafka of an installation."""
    names = ("kafka_bootstrap_servers", "kafka_prefix", "commands_partitions")
    return {name: getattr(settings, name) for name in names}


@contextlib.asynccontextmanager
async def open_board(
    database_url: str, redis_url: str | None = None, *, ready: bool = True, **more: Any
) -> AsyncIterator[Board]:
    settings = settings_for(database_url, redis_url, **more)
    stop = asyncio.Event()
    kept: list[Services] = []

    def assemble(*args: Any) -> Services:
        kept.append(_assemble(*args))
        return kept[0]

    with mock.patch.object(process, "assemble", assemble):
        task = asyncio.create_task(process.dashboard(settings, stop))
        while not kept and not task.done():
            await asyncio.sleep(0.001)
    url = f"http://127.0.0.1:{settings.dashboard_port}"
    # The request's id is always the same, so that two errors are alike but for what makes them different.
    headers = {"X-Request-Id": "of-a-test"}
    async with httpx.AsyncClient(base_url=url, timeout=15, verify=False, headers=headers) as client:
        await eventually(lambda: _answers(client, "/readyz" if ready else "/livez", task))
        try:
            yield Board(url, client, stop, task, kept[0])
        finally:
            stop.set()
            await asyncio.wait_for(task, 10)


async def _answers(client: httpx.AsyncClient, path: str, task: asyncio.Task[None]) -> bool:
    if task.done():
        task.result()
    try:
        return (await client.get(path)).status_code == 200
    except httpx.TransportError:
        return False


class Stream:
    """An open live stream, read message by message."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self, name: str | None = None, seconds: float = 5.0) -> tuple[str, Any]:
        """Return the next message (of this name)."""
        async with asyncio.timeout(seconds):
            event = ""
            async for line in self._lines:
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: ") and name in (None, event):
                    return event, json.loads(line.removeprefix("data: "))
        raise EOFError

    async def ended(self, seconds: float = 8.0) -> bool:
        async with asyncio.timeout(seconds):
            try:
                while True:
                    await self.next(seconds=seconds)
            except (EOFError, httpx.TransportError):
                return True


@contextlib.asynccontextmanager
async def live(board: Board, token: str, **params: Any) -> AsyncIterator[Stream]:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(base_url=board.url, timeout=20, verify=False) as client,
        client.stream("GET", "/api/v1/live", headers=headers, params=params or None) as response,
    ):
        assert response.status_code == 200, await response.aread()
        yield Stream(response)
