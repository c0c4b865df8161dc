"""TCP ports that are free, from a range of this worker's own.

The range lies below the one from which the system takes the ports of outgoing connections (32,768 on) and below that of
the embedded servers (20,000 to 32,000): a port that was free a moment ago is not taken before it is listened on.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator

_LOW, _WORKERS, _EACH = 10_000, 8, 1_200


def _pairs() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    first = _LOW + _EACH * worker
    pairs = list(range(first, first + _EACH, 2))
    random.shuffle(pairs)  # another run of the tests may go on beside this one
    return itertools.cycle(pairs)  # after so many the first have long been given back


_ports = _pairs()


def two_free_ports() -> int:
    """A free port whose successor is free too, as `up --port` needs them."""
    for port in itertools.islice(_ports, _EACH):
        one, other = ("127.0.0.1", port), ("127.0.0.1", port + 1)
        with contextlib.suppress(OSError), socket.create_server(one), socket.create_server(other):
            return port
    raise AssertionError("no two free ports in a row")


def free_port() -> int:
    """A TCP port that is free now, and that nobody else is given."""
    return two_free_ports()
