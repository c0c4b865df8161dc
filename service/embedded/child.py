"""One child process: it cannot outlive us, writes to a log file of bounded size, and its stop is bounded too."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from service.embedded.errors import explain_os_error

MARK = "KOMMO_EMBEDDED_DIRECTORY"
"""Environment variable by which a next run knows the processes of an old one."""

LOG_LIMIT = 10 * 1024 * 1024
"""Bytes: a log that is larger is set aside as NAME.log.1."""

SAME_USER = "same"

_LAUNCHER = Path(__file__).with_name("launcher.py")
_Popen = subprocess.Popen[bytes]


def rotate(log: Path) -> None:
    """Set a log aside if it is too large. Its process goes on writing: it appends, so the file itself must stay.

    Raises OSError. A line written in the very moment may be lost.
    """
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


class _Spawner:
    """Starts every child from one thread that never ends.

    The kernel sends the death signal when the *thread* that made the child ends, so a pool's thread must not make one.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], _Popen], Future[_Popen]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="spawner", daemon=True).start()

    def _run(self) -> None:
        while True:
            job, future = self._jobs.get()
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - handed to whoever asked
                future.set_exception(error)

    def spawn(self, job: Callable[[], _Popen]) -> _Popen:
        """Run `job` on the thread and give its result or its error."""
        future: Future[_Popen] = Future()
        self._jobs.put((job, future))
        return future.result()


_spawner: tuple[int, _Spawner] | None = None
_spawner_lock = threading.Lock()


def _the_spawner() -> _Spawner:
    global _spawner
    with _spawner_lock:
        if _spawner is None or _spawner[0] != os.getpid():  # a fork has no threads
            _spawner = (os.getpid(), _Spawner())
        return _spawner[1]


class Child:
    """A program that can be started, watched, stopped and killed, many times over."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        directory: Path,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        user: str = SAME_USER,
        stops: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 5.0),),
        capture: bool = False,
        given: str | None = None,
    ) -> None:
        """Describe the child; nothing starts yet.

        `directory` is the data folder; the log is DIR/log/NAME.log. `user` is what launcher.py takes. `stops` are the
        signals of a stop and the seconds each is waited for; SIGKILL comes after the last. With `capture`, what it
        writes to standard output is kept for `captured()` and does not go to the log. `given` is a short text that it
        reads from standard input, where neither the process list nor a file shows it.
        """
        self.name = name
        self.command = list(command)
        self.log = directory / "log" / f"{name}.log"
        self._directory, self._cwd, self._user, self._stops = directory, cwd, user, stops
        self._environment = dict(environment or {})
        self._given = given
        self._process: _Popen | None = None
        self._log_start = 0
        self._lock = threading.RLock()
        self._capture = tempfile.TemporaryFile() if capture else None  # noqa: SIM115 - captured() closes it

    @property
    def pid(self) -> int | None:
        """The process id of the last start."""
        return self._process.pid if self._process else None

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs or was never started."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start the program. Raises EmbeddedError when the system refuses."""
        with self._lock:
            if self.is_alive():
                return
            try:
                log = self._open_log()
            except OSError as error:
                raise explain_os_error(error, self.log) from error
            try:
                self._process = _the_spawner().spawn(lambda: self._popen(log))
            except OSError as error:
                raise explain_os_error(error, Path(self.command[0])) from error
            finally:
                os.close(log)

    def _popen(self, log: int) -> _Popen:
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER)]
        parent = str(os.getpid())
        # the C locale would make Java read file names as ASCII
        environment = {**os.environ, "LC_ALL": "C.UTF-8", **self._environment, MARK: str(self._directory)}
        process = subprocess.Popen(
            [*launcher, "start", parent, self._user, *self.command],
            stdin=subprocess.DEVNULL if self._given is None else subprocess.PIPE,
            stdout=self._capture or log,
            stderr=log,
            cwd=self._cwd,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us: we stop them in order
        )
        if process.stdin is not None:
            with contextlib.suppress(OSError), process.stdin as pipe:  # it may have ended; its exit code says why
                pipe.write((self._given or "").encode())
        if not sys.platform.startswith("linux"):
            subprocess.Popen([*launcher, "watch", parent, str(process.pid)], stdin=subprocess.DEVNULL)
        return process

    def _open_log(self) -> int:
        rotate(self.log)
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._log_start = os.fstat(descriptor).st_size
        return descriptor

    def output(self, limit: int = 20_000) -> str:
        """What it has written since its last start: the last `limit` bytes."""
        try:
            with self.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                start = self._log_start if self._log_start <= end else 0  # it was set aside meanwhile
                file.seek(max(start, end - limit))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def captured(self) -> str:
        """What it has written to standard output, with `capture`, without the white space around it. Once only."""
        if self._capture is None:
            return ""
        with self._capture as file:
            file.seek(0)
            return file.read().decode("utf-8", "replace").strip()

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def wait(self, seconds: float, cancel: threading.Event | None = None) -> int | None:
        """Wait for its end; the exit code, or None after `seconds` or when `cancel` is set."""
        limit = time.monotonic() + seconds
        while self.is_alive() and time.monotonic() < limit:
            if cancel is not None and cancel.is_set():
                return None
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, at_most: float | None = None) -> None:
        """Ask it to end, wait, and end it: never longer than the sum of `stops` and a moment.

        `at_most` shortens each wait to so many seconds.
        """
        with self._lock:
            for number, seconds in self._stops:
                if not self.is_alive():
                    return
                self.send_signal(number)
                self.wait(seconds if at_most is None else min(seconds, at_most))
            if self.is_alive():
                self.kill()
