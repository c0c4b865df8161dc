"""Keeps children running: starts again what ends, waits longer each time, and gives up with a clear word."""

from __future__ import annotations

import contextlib
import http.client
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from service.embedded.child import Child, rotate
from service.embedded.errors import CancelledStartError, EmbeddedError, explain_output
from service.embedded.parallel import run_all
from service.embedded.ports import HOST

FAILURES, WITHIN = 5, 60.0
"""A child that ends so often within so many seconds is given up."""

COMMAND: Sequence[str] = (sys.executable, "-m", "service")
"""What runs a process of ours, before its name."""

_BACKOFF = (0.1, 0.5, 1.0, 2.0, 4.0)
_HOME = Path(__file__).resolve().parents[1]


class Managed(Protocol):
    """What can be kept running: a server or a process of ours."""

    name: str

    @property
    def log(self) -> Path:
        """Where it writes."""

    def start(self) -> None:
        """Start it; may wait until it is ready. Raises EmbeddedError."""

    def is_alive(self) -> bool:
        """Whether it runs."""


class Process:
    """A process of ours: `python -m service NAME ...`."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        port: int | None = None,
        path: str = "/readyz",
        command: Sequence[str] | None = None,
        capture: bool = False,
        given: str | None = None,
    ) -> None:
        """Describe it. `port` answers `path` with 200 once it is ready; `command` replaces `python -m service`.

        `capture` and `given` are those of a Child.
        """
        self.name, self.port, self._path, self._directory = name, port, path, directory
        # from the folder our packages are in: one of the same name in the user's folder must not come first
        self.child = Child(
            name,
            [*(command or COMMAND), *arguments],
            directory=directory,
            cwd=_HOME,
            environment=environment,
            stops=((signal.SIGTERM, 2.5),),
            capture=capture,
            given=given,
        )

    @property
    def log(self) -> Path:
        """Its log file."""
        return self.child.log

    def start(self) -> None:
        """Start it, without a wait. Raises EmbeddedError."""
        self.child.start()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after 2.5 s."""
        self.child.stop()

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.child.is_alive()

    def readiness(self) -> tuple[bool, str]:
        """Whether its path says 200, and what it said (or why it said nothing)."""
        if self.port is None:
            return self.is_alive(), "it runs" if self.is_alive() else "it does not run"
        connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        try:
            connection.request("GET", self._path)
            response = connection.getresponse()
            body = response.read(2000).decode("utf-8", "replace").strip()
            return response.status == 200, f"{response.status} {body}"
        except (OSError, http.client.HTTPException) as error:
            return False, f"no answer on port {self.port} ({error})"
        finally:
            connection.close()

    def run(self, seconds: float, stop: threading.Event) -> str:
        """Run it to its end and give its (captured) output.

        Raises EmbeddedError when it fails, takes more than `seconds`, or `stop` is set.
        """
        self.start()
        code = self.child.wait(seconds, stop)
        ended = self.child.returncode is not None
        self.child.kill()
        answer = self.child.captured()
        if stop.is_set():
            raise CancelledStartError
        if not ended:
            raise EmbeddedError(f"{self.name} was not done after {seconds:.0f} s. Its log: {self.log}")
        if code != 0:
            raise explain_output(f"kommo-streams {self.name}", self.child.output(), self._directory, self.log)
        return answer


class _Watched:
    """A child and the story of its failures."""

    def __init__(self, child: Managed) -> None:
        self.child = child
        self.failures: deque[float] = deque(maxlen=FAILURES)
        self.restart_at: float | None = None
        self.thread: threading.Thread | None = None
        self.error: EmbeddedError | None = None

    def busy(self) -> bool:
        """Whether a start is under way."""
        return self.thread is not None and self.thread.is_alive()


class Supervisor:
    """Looks after children when `step` is called, which never waits."""

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        """`say` is told of each end and restart."""
        self._directory, self.say = directory, say
        self._watched: list[_Watched] = []
        self._closed = False

    def watch(self, *children: Managed) -> None:
        """Look after children that run (or shall run) from now on."""
        self._watched.extend(_Watched(child) for child in children)

    def rotate_logs(self) -> None:
        """Set aside the logs that have grown too large; a full disk is no reason to stop."""
        for watched in self._watched:
            with contextlib.suppress(OSError):
                rotate(watched.child.log)

    def step(self) -> None:
        """Look at every child once. Raises EmbeddedError when one is given up."""
        now = time.monotonic()
        for watched in self._watched:
            if watched.busy() or watched.child.is_alive():
                continue
            if watched.restart_at is None:
                self._failed(watched, now)
            elif now >= watched.restart_at:
                watched.restart_at = None
                self._restart(watched)

    def _failed(self, watched: _Watched, now: float) -> None:
        child = watched.child
        watched.failures.append(now)
        if len(watched.failures) == FAILURES and now - watched.failures[0] <= WITHIN:
            raise self._given_up(watched)
        recent = sum(1 for moment in watched.failures if now - moment <= WITHIN)
        delay = _BACKOFF[min(recent, len(_BACKOFF)) - 1]
        watched.restart_at = now + delay
        self.say(f"{child.name} has ended; it is started again in {delay:g} s. Its log: {child.log}")

    def _given_up(self, watched: _Watched) -> EmbeddedError:
        child = watched.child
        if watched.error is not None:
            reason = watched.error
        else:
            reason = explain_output(child.name, _tail(child.log), self._directory, child.log)
        return EmbeddedError(f"{child.name} ended {FAILURES} times within {WITHIN:.0f} s and is given up. {reason}")

    def _restart(self, watched: _Watched) -> None:
        def run() -> None:
            try:
                watched.child.start()
            except EmbeddedError as error:
                watched.error = error
            else:
                watched.error = None
                if not self._closed:
                    self.say(f"{watched.child.name} runs again.")

        watched.thread = threading.Thread(target=run, name=f"restart-{watched.child.name}", daemon=True)
        watched.thread.start()

    def close(self, seconds: float = 1.0) -> None:
        """Restart nothing more, and wait for starts that are under way: their servers are cancelled by the caller."""
        self._closed = True
        limit = time.monotonic() + seconds
        for watched in self._watched:
            if watched.thread is not None:
                watched.thread.join(max(0.0, limit - time.monotonic()))

    def wait_ready(self, processes: Sequence[Process], seconds: float, stop: threading.Event) -> None:
        """Wait until each process is ready, looking after all meanwhile.

        Raises EmbeddedError after `seconds` (with the last answer), or when one is given up; returns early on `stop`.
        """
        waiting, answer = list(processes), ""
        limit = time.monotonic() + seconds
        while waiting:
            if stop.is_set():
                return
            self.step()
            ready, answer = waiting[0].readiness()
            if ready:
                waiting.pop(0)
            elif time.monotonic() > limit:
                raise EmbeddedError(
                    f"{waiting[0].name} was not ready after {seconds:.0f} s; the last answer of /readyz: {answer}. "
                    f"Its log: {waiting[0].log}"
                )
            else:
                stop.wait(0.05)


def stop_all(processes: Sequence[Process]) -> None:
    """Stop processes at once: none lasts longer than 3 s."""
    run_all([process.stop for process in processes])


def _tail(log: Path, size: int = 4000) -> str:
    with contextlib.suppress(OSError), log.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - size))
        return file.read().decode("utf-8", "replace")
    return ""
