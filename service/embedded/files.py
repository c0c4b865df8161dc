"""The data folder: small files that are whole or absent, the lock, and a look at the disk before anything starts."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any

from service.embedded.errors import EmbeddedError, explain_os_error, full_disk

MINIMUM_FREE = 200 * 1024 * 1024
"""Bytes that must be free before anything starts: below, the servers would fail half-way."""

LOW_FREE = 500 * 1024 * 1024
"""Bytes: with less a user is warned."""

_LOCK = "lock"
_MARKS = {_LOCK, "log"}
"""The file that is locked, and what tells a data folder from any other: both are made before anything else."""

LONGEST_PATH = 700
"""Characters: PostgreSQL cuts paths at 1,024, and its own file names need room."""


def write_atomically(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a small file so that a reader, or a crash, sees the old content or the new one. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.chmod(temporary, mode)  # a file left by a crash keeps the mode it had
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make a rename in `path` last through a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when there is none. Raises EmbeddedError for anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise EmbeddedError(f"{path} is damaged. Put it back from a copy, or use a new folder: --data DIR.")
    return value


class Secrets:
    """Generated once and kept in DIR/secrets.json, readable by its owner alone."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "secrets.json"
        self._values = self._read()

    def _read(self) -> dict[str, str]:
        return {key: str(value) for key, value in read_json(self._path).items()}

    def get(self, name: str, make: str | None = None) -> str:
        """The secret `name`; at first use `make`, or 32 random bytes, is kept. Raises OSError."""
        if name not in self._values:
            made = make if make is not None else secrets.token_urlsafe(32)
            self._values = {name: made, **self._read()}
            write_atomically(self._path, json.dumps(self._values, indent=2) + "\n")
        return self._values[name]


def prepare_directory(directory: Path) -> Path:
    """Make the folder if needed, and see that it can be written in and has room; returns its absolute path.

    Raises EmbeddedError, also for a folder that holds something else: what lies in a data folder is ours to end, to
    change and to delete.
    """
    path = Path(os.path.abspath(directory.expanduser()))
    if len(str(path)) > LONGEST_PATH:
        raise EmbeddedError(f"The path {str(path)[:60]}... is too long. Use a shorter one: --data DIR.")
    if any(ord(character) < 32 for character in str(path)):
        raise EmbeddedError("The path of the data folder has a control character in it. Use another: --data DIR.")
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = path.resolve()
        _refuse_what_is_not_ours(path)
        (path / "log").mkdir(exist_ok=True, mode=0o700)
        probe = path / f".probe.{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
        free = shutil.disk_usage(path).free
    except OSError as error:
        raise explain_os_error(error, path) from error
    if free < MINIMUM_FREE:
        raise full_disk(path)
    return path


def _refuse_what_is_not_ours(path: Path) -> None:
    """Raise EmbeddedError for a folder with anything in it that no earlier run has marked, and for / and a home."""
    if path == Path(path.anchor) or str(path) == os.path.realpath(os.path.expanduser("~")):
        raise EmbeddedError(f"{path} is no data folder. Name one of its own: --data DIR.")
    there = {name for name in os.listdir(path) if not name.startswith(".probe.")}
    if not there >= _MARKS and (others := sorted(there - {"log", "lost+found"})):
        raise EmbeddedError(
            f"{path} is no data folder of kommo-streams, and not empty ({', '.join(others[:3])}). "
            "Use an empty folder, or one that it made: --data DIR."
        )


class DirectoryLock:
    """One run per folder. The system lets go of it when this process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Take the lock. Raises EmbeddedError when another process has it."""
        path = self._directory / _LOCK
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # close-on-exec: no child inherits it
        except OSError as error:
            raise explain_os_error(error, self._directory) from error
        try:
            _lock(descriptor)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() if hasattr(os, "pread") else ""
            os.close(descriptor)
            pid = f", pid {owner}" if owner else ""
            raise EmbeddedError(
                f"kommo-streams is already running on {self._directory}{pid}. "
                "Stop it first, or use another folder: --data DIR."
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1024, os.SEEK_SET)  # past the pid, which others may read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
