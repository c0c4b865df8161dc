"""Ports: chosen once, kept in DIR/ports.json, and outside the range from which the system takes outgoing ones."""

from __future__ import annotations

import errno
import json
import random
import socket
from collections.abc import Iterable
from pathlib import Path

from service.embedded.errors import EmbeddedError
from service.embedded.files import read_json, write_atomically

HOST = "127.0.0.1"

# Below Linux's ip_local_port_range (32768 on): a client that reconnects to a dead server's port from that range can
# connect to itself, and then the server's port is taken when it comes back.
_LOW, _HIGH = 20_000, 32_000

DEFAULT_PORT = 8080


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def choose(taken: Iterable[int] = ()) -> int:
    """A free port that is not in `taken`. Raises EmbeddedError when none is found."""
    avoid = set(taken)
    for _ in range(500):
        port = random.randint(_LOW, _HIGH)  # noqa: S311 - no secret
        if port not in avoid and is_free(port):
            return port
    raise EmbeddedError(f"No free port was found between {_LOW} and {_HIGH} on {HOST}.")


class PortBook:
    """The ports of one data folder by name."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "ports.json"
        self._ports = self._read()

    def _read(self) -> dict[str, int]:
        return {name: port for name, port in read_json(self._path).items() if isinstance(port, int)}

    def kept(self, name: str) -> int | None:
        """The port kept under `name`, free or not."""
        return self._ports.get(name)

    def keep(self, **ports: int) -> None:
        """Remember ports by name. Raises OSError."""
        if any(self._ports.get(name) != port for name, port in ports.items()):
            self._ports = {**self._read(), **ports}
            write_atomically(self._path, json.dumps(self._ports, indent=2, sort_keys=True) + "\n", mode=0o644)

    def get(self, name: str) -> int:
        """The kept port, or a new one if there is none or somebody else has taken it."""
        port = self._ports.get(name)
        if port is None or not is_free(port):
            port = choose(self._ports.values())
            self.keep(**{name: port})
        return port

    def doors(self, wanted: int | None) -> tuple[int, int]:
        """The ports of the dashboard and the gateway.

        With `wanted` these are it and the next, or EmbeddedError says which is taken. Without: the kept ones, at first
        8080 and 8081; new ones where somebody else has them.
        """
        if wanted is not None:
            doors = _explicit(wanted)
        else:
            default = (self._ports.get("dashboard", DEFAULT_PORT), self._ports.get("gateway", DEFAULT_PORT + 1))
            doors = default if all(is_free(port) for port in default) else self._new_doors()
        self.keep(dashboard=doors[0], gateway=doors[1])
        return doors

    def _new_doors(self) -> tuple[int, int]:
        dashboard = choose(self._ports.values())
        return dashboard, choose({dashboard, *self._ports.values()})


def _explicit(port: int) -> tuple[int, int]:
    if not 1 <= port <= 65_534:
        raise EmbeddedError(f"--port {port} is not possible: use a number from 1 to 65534.")
    for number, what in ((port, "the dashboard"), (port + 1, "the gateway")):
        if not is_free(number):
            raise EmbeddedError(
                f"Port {number} on {HOST}, for {what}, is in use by another program or closed to this user. "
                f"Use another: --port P (the dashboard takes P, the gateway P+1)."
            )
    return port, port + 1
