"""Processes of an old run on the same folder: found by what they are, never by a pid alone, and ended."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from service.embedded.child import MARK
from service.embedded.errors import EmbeddedError, not_installed

if TYPE_CHECKING:
    import psutil

_REWRITERS = {"postgres": "postgres", "initdb": "postgres", "valkey-server": "valkey"}
"""Programs that may overwrite their environment to set a title, and the folder in a data folder that each works in.

Whoever works elsewhere below the data folder is another system's: its data folder may lie in ours.
"""


def _is_ours(process: psutil.Process, directory: Path) -> bool:
    import psutil

    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if process.environ().get(MARK) == str(directory):
            return True
        name = Path(process.exe()).name.removesuffix(".exe").removesuffix(" (deleted)")
        return name in _REWRITERS and Path(process.cwd()).is_relative_to(directory / _REWRITERS[name])
    except (psutil.Error, OSError):
        return False  # gone, or another user's: not ours


def find(directory: Path, below: Path | None = None) -> Iterator[psutil.Process]:
    """The live processes that an old run on `directory` left; with `below`, only those working in that folder.

    Raises EmbeddedError when the extra is not installed.
    """
    try:
        import psutil
    except ImportError as error:
        raise not_installed("psutil") from error

    for process in psutil.process_iter():
        if process.pid == os.getpid() or not _is_ours(process, directory):
            continue
        if below is not None:
            try:
                if not Path(process.cwd()).is_relative_to(below):
                    continue
            except (psutil.Error, OSError):
                continue
        yield process


def end(directory: Path, below: Path | None = None, *, seconds: float = 5.0) -> int:
    """Kill what `find` finds and wait until it is gone; the number of processes that had to be killed.

    The caller holds the folder's lock, so nothing found belongs to a run that still lives. Raises EmbeddedError when
    something cannot be ended within `seconds`.
    """
    import psutil

    limit = time.monotonic() + seconds
    killed: set[int] = set()
    while True:
        left = list(find(directory, below))
        if not left:
            return len(killed)
        for process in left:
            try:
                process.kill()
                killed.add(process.pid)
            except psutil.NoSuchProcess:
                continue
            except psutil.Error as error:
                raise _stuck(directory, process.pid) from error
        if time.monotonic() > limit:
            raise _stuck(directory, left[0].pid)
        time.sleep(0.02)


def _stuck(directory: Path, pid: int) -> EmbeddedError:
    how = f"taskkill /F /PID {pid}" if sys.platform == "win32" else f"kill -9 {pid}"
    return EmbeddedError(f"Process {pid} of an old run on {directory} is still there: end it ({how}) and start again.")
