"""The real servers, started once a session; tests are isolated by topic prefix, database and key prefix."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import structlog
from aiokafka.admin import AIOKafkaAdminClient

from runtime.settings import PREFIX, Settings
from runtime.waiting import Stopped
from service.embedded import EmbeddedServers
from streams.topics import physical, topics

_configure = structlog.configure


def _configure_without_cache(**options: Any) -> None:
    """A logger that was kept under one test's configuration would write past what a later test captures."""
    _configure(**{**options, "cache_logger_on_first_use": False})


structlog.configure = _configure_without_cache
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

KEYS = "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"
TOKEN_KEYS = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
ROOT = Path(__file__).resolve().parent.parent

_numbers = itertools.count(1)

for _name in [name for name in os.environ if name.startswith(PREFIX)]:
    del os.environ[_name]  # a test says itself what its settings are


class Servers:
    """The addresses of the session's servers, and their handles for tests that kill them."""

    def __init__(self, embedded: EmbeddedServers) -> None:
        self.embedded = embedded
        self.addresses = embedded.start()
        self.kafka_bootstrap_servers = self.addresses.kafka_bootstrap_servers
        self.database_url = self.addresses.database_url
        self.redis_url = self.addresses.redis_url


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Apache Kafka, PostgreSQL and Valkey."""
    # A short path: PostgreSQL's and Chromium's sockets have a limit of some 100 characters.
    with tempfile.TemporaryDirectory(prefix="ks-", ignore_cleanup_errors=True) as directory:
        embedded = EmbeddedServers(Path(directory) / "data")
        try:
            yield Servers(embedded)
        finally:
            embedded.stop()


@pytest.fixture
async def database(servers: Servers) -> AsyncIterator[str]:
    """The URL of a new, empty database; dropped afterwards."""
    async with new_database(servers) as url:
        yield url


@contextlib.asynccontextmanager
async def new_database(servers: Servers) -> AsyncIterator[str]:
    """Make an empty database, give its URL, and drop it."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(servers.database_url)
    await connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield servers.database_url.rpartition("/")[0] + f"/{name}"
    finally:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await connection.close()


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def two_free_ports() -> int:
    """A free port whose successor is free too, as `up --port` needs them; none is given out twice in a session.

    The workers of a run draw from ranges of their own, below those of the embedded servers and of outgoing connections.
    """
    for port in _pairs:
        one, other = ("127.0.0.1", port), ("127.0.0.1", port + 1)
        with contextlib.suppress(OSError), socket.create_server(one), socket.create_server(other):
            return port
    raise AssertionError("no two free ports in a row")


def _all_pairs() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 9
    pairs = list(range(10_000 + 1_000 * worker, 11_000 + 1_000 * worker, 2))
    random.shuffle(pairs)  # another run of the tests may go on beside this one
    return iter(pairs)


_pairs = _all_pairs()


@pytest.fixture
async def settings(servers: Servers, database: str) -> AsyncIterator[Settings]:
    """Settings of an installation of this test's own: its topics, its database, its ports. Topics end with the test."""
    made = installation(servers, database)
    yield made
    await delete_topics(made)


def installation(servers: Servers, database: str) -> Settings:
    """Return the settings of an installation of its own in this database."""
    return Settings(
        kafka_bootstrap_servers=servers.kafka_bootstrap_servers,
        kafka_prefix=f"t{os.getpid()}x{next(_numbers)}.",
        webhooks_partitions=2,
        events_partitions=4,
        commands_partitions=4,
        database_url=database,
        redis_url=servers.redis_url,
        gateway_keys=KEYS,
        gateway_port=free_port(),
        dashboard_port=free_port(),
        ingest_port=free_port(),
        projector_port=free_port(),
        worker_port=free_port(),
        token_keys=TOKEN_KEYS,
    )


async def delete_topics(settings: Settings, *names: str) -> None:
    """Delete topics (all of an installation, if none is named); those that are not there do not matter."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([physical(settings, name) for name in names or [t.name for t in topics(settings)]])
    finally:
        await admin.close()


async def eventually(condition: Callable[[], object], seconds: float = 20, what: str = "") -> object:
    """Wait until a condition (it may be a coroutine function) holds, and return what it returned."""
    limit = asyncio.get_running_loop().time() + seconds
    result: object = None
    while asyncio.get_running_loop().time() < limit:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        await asyncio.sleep(0.02)
    raise AssertionError(f"not so within {seconds} s: {what or condition} (last: {result!r})")


@contextlib.asynccontextmanager
async def running(main: Callable[[asyncio.Event], object]) -> AsyncIterator[asyncio.Event]:
    """Run a process's main function in this loop while the context lasts; it must end within 10 s afterwards."""
    stop = asyncio.Event()
    task = asyncio.ensure_future(main(stop))
    try:
        yield stop
    finally:
        stop.set()
        with contextlib.suppress(Stopped):
            await asyncio.wait_for(task, 10)
