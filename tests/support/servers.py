"""Kafka, PostgreSQL and Valkey: one set for all workers of a run, and a worker's own for tests that kill them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.embedded import EmbeddedServers
from tests.support import ROOT

_FOLDER, _OWNER = "KOMMO_TESTS_FOLDER", "KOMMO_TESTS_OWNER"
_PREFIX, _RUNS = "ks-", "run.lock"
_ROOM = 4 * 2**30
"""Bytes that must be free in memory for the servers' folders to lie there."""
_START_LIMIT = 90.0


@dataclass(frozen=True)
class Servers:
    """Where servers are."""

    kafka_bootstrap_servers: str
    database_url: str
    redis_url: str


@dataclass(frozen=True)
class OwnServers(Servers):
    """Servers of one worker alone, which its tests may kill and start again: `embedded.kafka.kill()`."""

    embedded: EmbeddedServers


def begin_run() -> None:
    """Make the folder of a run. Called once, by the process that starts the workers, or is the only one.

    It lies in memory where there is enough: the servers' fsync costs nothing there. The path is short, since a Unix
    socket's path has a limit of some 100 characters.
    """
    memory = Path("/dev/shm")
    has_memory = memory.is_dir() and os.access(memory, os.W_OK)
    if has_memory:
        _remove_what_killed_runs_left(memory)
    in_memory = has_memory and shutil.disk_usage(memory).free > _ROOM
    os.environ[_FOLDER] = tempfile.mkdtemp(prefix=_PREFIX, dir=memory if in_memory else None)
    os.environ[_OWNER] = str(os.getpid())
    fcntl.flock(os.open(run_folder() / _RUNS, os.O_CREAT | os.O_RDWR), fcntl.LOCK_EX)  # until this process ends


def _remove_what_killed_runs_left(memory: Path) -> None:
    """Remove the folders of runs of this user that live no more: it is memory that they take."""
    for lock in memory.glob(f"{_PREFIX}*/{_RUNS}"):
        with contextlib.suppress(OSError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held while the run lives
            shutil.rmtree(lock.parent, ignore_errors=True)


def end_run() -> None:
    """Stop the run's servers, and take its folder away."""
    folder = run_folder()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((folder / "serve.pid").read_text()), signal.SIGTERM)
        wait_for(lambda: not (folder / "serve.pid").exists(), 20, "the servers of the run have stopped")
    shutil.rmtree(folder, ignore_errors=True)


def run_folder() -> Path:
    """The folder of this run."""
    return Path(os.environ[_FOLDER])


def worker_number() -> int:
    """0, 1, ...: the number of this worker of the run."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@contextlib.contextmanager
def alone(name: str) -> Iterator[Path]:
    """Hold a lock of this name: no other worker of the run does at the same time. Yields the run's folder."""
    folder = run_folder()
    with (folder / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield folder


def servers_of_the_run() -> Servers:
    """The servers of the run, started by the first worker that asks."""
    with alone("servers") as folder:
        addresses = folder / "addresses.json"
        if not addresses.exists():
            log = folder / "serve.log"
            command = [sys.executable, "-m", "tests.support.serve", str(folder), os.environ[_OWNER]]
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
            wait_for(lambda: addresses.exists() or process.poll() is not None, _START_LIMIT, log.read_text)
            process.returncode = process.returncode or 0  # it outlives this worker: nobody waits for it
            if not addresses.exists():
                raise RuntimeError(f"the servers did not start:\n{log.read_text()}")
        return Servers(**json.loads(addresses.read_text()))


@contextlib.contextmanager
def own_servers(name: str, **options: object) -> Iterator[OwnServers]:
    """Start servers that nobody else uses; `options` are those of EmbeddedServers."""
    embedded = EmbeddedServers(run_folder() / name, **options)  # type: ignore[arg-type]
    try:
        yield OwnServers(**embedded.start().__dict__, embedded=embedded)
    finally:
        embedded.stop()
        shutil.rmtree(run_folder() / name, ignore_errors=True)


def wait_for(condition: object, seconds: float, what: object) -> None:
    """Wait without a loop until a condition holds. Raises TimeoutError."""
    limit = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError(f"not after {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.02)
