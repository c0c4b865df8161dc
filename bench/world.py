"""What every benchmark needs: servers, an installation of its own, deliveries, processes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from pydantic import SecretStr

from dashboard.migrations import migrations as dashboard_migrations
from gateway.tokens import Keyring, Token
from projections.projector import migrations
from runtime.migrations import migrate
from runtime.settings import PREFIX, Settings
from schemas.decoder import EncodedEvent, decode
from schemas.delivery import Delivery
from service.embedded import Addresses
from simulator.company import deliveries
from streams.producer import Producer, Record
from streams.topics import WEBHOOKS, ensure_topics

ROOT = Path(__file__).resolve().parent.parent
ACCOUNTS = range(16700680, 16700730)
KEYS = "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"

_numbers = itertools.count(1)


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def installation(addresses: Addresses) -> AsyncIterator[Settings]:
    """Topics, a database and ports of its own on the shared servers."""
    name = f"bench_{os.getpid()}_{next(_numbers)}"
    admin = await asyncpg.connect(addresses.database_url)
    await admin.execute(f'CREATE DATABASE "{name}"')
    settings = Settings(
        kafka_bootstrap_servers=addresses.kafka_bootstrap_servers,
        kafka_prefix=f"{name}.",
        database_url=SecretStr(addresses.database_url.rpartition("/")[0] + f"/{name}"),
        redis_url=SecretStr(addresses.redis_url),
        gateway_keys=SecretStr(KEYS),
        gateway_port=free_port(),
        dashboard_port=free_port(),
        ingest_port=free_port(),
        projector_port=free_port(),
        log_level="WARNING",
    )
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    await migrate(connection, [*migrations(), *dashboard_migrations()])
    await connection.close()
    await ensure_topics(settings)
    try:
        yield settings
    finally:
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()


def bodies(count: int) -> list[tuple[int, bytes]]:
    """Deliveries as Kommo sends them, of 50 accounts: (account, body)."""
    start = int(time.time()) - 86_400
    streams = [deliveries(seed, account, start) for seed, account in enumerate(ACCOUNTS)]
    return [(ACCOUNTS[n % len(ACCOUNTS)], next(streams[n % len(ACCOUNTS)]).body) for n in range(count)]


def events(count: int) -> list[EncodedEvent]:
    """Events of such deliveries."""
    found: list[EncodedEvent] = []
    now = time.time_ns() // 1000
    for number, (account, body) in enumerate(bodies(count)):
        found += decode(Delivery(account, f"01990000-0000-7000-8000-{number:012d}", now + number, body)).events
    return found[:count]


async def fill_webhooks(settings: Settings, items: list[tuple[int, bytes]]) -> None:
    """Put raw deliveries into kommo.webhooks."""
    now = time.time_ns() // 1000
    async with Producer(settings, "bench") as producer:
        for start in range(0, len(items), 2000):
            part = [
                Delivery(a, f"b-{start + n}", now + start + n, b)
                for n, (a, b) in enumerate(items[start : start + 2000])
            ]
            await producer.send_all(WEBHOOKS, [Record(item.key, item.body, item.headers()) for item in part])


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a process of ours reads them."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    for name in settings.model_fields_set:
        value: Any = getattr(settings, name)
        found[PREFIX + name.upper()] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return found


@contextlib.asynccontextmanager
async def process(settings: Settings, *arguments: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """One process of ours (`python -m service ...`), ready on its port, and stopped at the end."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", *arguments, cwd=ROOT, env=environment(settings))
    try:
        async with httpx.AsyncClient() as client:
            for _ in range(600):
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
            else:
                raise RuntimeError(f"{arguments} is not ready after 30 s")
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        await asyncio.wait_for(child.wait(), 15)


def webhook_path(settings: Settings, account: int = ACCOUNTS[0]) -> str:
    """The path of an account's webhook address."""
    return f"/webhooks/{Keyring.from_settings(settings).sign(Token(account, 1))}"


async def load(port: int, path: str, items: list[bytes], total: int, connections: int = 64) -> float:
    """Send requests from a process of its own and return how many a second were answered."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load", cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    task = {
        "port": port,
        "path": path,
        "bodies": [b.decode("latin-1") for b in items],
        "total": total,
        "connections": connections,
    }
    out, _ = await child.communicate(json.dumps(task).encode())
    found = json.loads(out)
    if found["bad"]:
        raise RuntimeError(f"{found['bad']} of {total} requests were not answered 200")
    return total / float(found["seconds"])
