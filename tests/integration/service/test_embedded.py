"""The servers start, stop, crash and come back with what was written."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from service.embedded import EmbeddedError, EmbeddedServers
from service.embedded.ports import PortBook
from tests.support.processes import KAFKA, VALKEY, alive_on, new_folder, put, put_kafka, wait_until, words


@pytest.fixture(scope="module")
def servers() -> Iterator[EmbeddedServers]:
    """PostgreSQL and Valkey. Kafka, whose start costs ten times theirs, is killed and started with three brokers here,
    with all in test_crash.py, and is stopped and started by `up` in tests/acceptance."""
    with new_folder() as parent:
        folder = parent / "a, b" / "data dir é"
        servers = EmbeddedServers(folder, only=("postgres", "valkey"))
        servers.start()
        yield servers
        servers.stop()
        assert alive_on(folder) == []


async def test_each_keeps_its_data_through_stop_crash_and_whole_restart(servers: EmbeddedServers) -> None:
    environment = servers.addresses.environment()
    await put(environment, "first")
    for server in servers.servers:
        server.stop()
        assert not server.is_alive()
        server.start()
        assert server.is_alive()
    await put(environment, "second")
    for server in servers.servers:
        server.kill()
        assert not server.is_alive()
        server.start()
    assert servers.addresses.environment() == environment
    servers.stop()
    assert alive_on(servers.postgres.directory) == []
    assert servers.start().environment() == environment
    assert await words(environment) == {name: ["first", "second"] for name in ("postgres", "valkey")}


async def test_only_those_that_are_named_run(folder: Path) -> None:
    for wrong in ((), "valkey", ("kafka", "redis")):
        with pytest.raises(ValueError, match="kafka, postgres, valkey"):
            EmbeddedServers(folder, only=wrong)
    servers = EmbeddedServers(folder, only=("valkey",))
    environment = servers.start().environment()
    try:
        assert environment == {VALKEY: servers.valkey.url}
        assert servers.servers == servers.processes == (servers.valkey,)
        await put(environment, "a word")
        assert not (folder / "postgres").exists()
        assert not (folder / "kafka").exists()
    finally:
        servers.stop()
    assert alive_on(folder) == []


async def test_settings_promise_durability_and_passwords(servers: EmbeddedServers) -> None:
    addresses = servers.addresses
    connection = await asyncpg.connect(addresses.database_url)
    for name, value in {"fsync": "on", "synchronous_commit": "on", "data_checksums": "on"}.items():
        assert await connection.fetchval(f"SHOW {name}") == value
    assert await connection.fetchval("SELECT 'ПРИВЕТ' ILIKE 'привет'")
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(addresses.database_url, password="wrong")
    with redis.Redis.from_url(addresses.redis_url) as client:
        assert client.config_get("append*")["appendonly"] == "yes"  # type: ignore[index]
    with socket.create_connection(("127.0.0.1", servers.valkey.port)) as stranger:
        stranger.sendall(b"PING\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")


def test_only_the_loopback_is_listened_on_and_secrets_are_private(servers: EmbeddedServers) -> None:
    directory = servers.postgres.directory
    with socket.socket() as probe:  # nobody has the port on another address
        probe.bind(("127.0.0.2", servers.postgres.port))
    for path in [directory / "secrets.json", directory / "valkey" / "valkey.conf", directory / "lock"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) & 0o077 == 0


def test_a_second_start_on_the_folder_is_refused(servers: EmbeddedServers) -> None:
    with pytest.raises(EmbeddedError, match=f"already running on .* pid {os.getpid()}.*--data"):
        EmbeddedServers(servers.postgres.directory).start()
    assert all(server.is_alive() for server in servers.servers)


def test_kept_ports_that_somebody_took_are_replaced(tmp_path: Path) -> None:
    book = PortBook(tmp_path)
    kept = book.get("postgres")
    assert PortBook(tmp_path).get("postgres") == kept
    with socket.socket() as other:
        other.bind(("127.0.0.1", kept))
        other.listen()
        assert PortBook(tmp_path).get("postgres") != kept


async def test_three_brokers_lose_nothing_when_one_is_killed(folder: Path) -> None:
    servers = EmbeddedServers(folder / "three", brokers=3, only=("kafka",))
    environment = servers.start().environment()
    try:
        assert len(environment[KAFKA].split(",")) == 3
        await put(environment, "with three")
        servers.kafka.brokers[0].kill()
        await put_kafka(environment, "with two")
        servers.kafka.brokers[0].start()
        wait_until(servers.kafka.is_alive)
        assert await words(environment) == {"kafka": ["with three", "with two"]}
    finally:
        servers.stop()
    assert alive_on(folder) == []
