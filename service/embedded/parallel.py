"""Do a few things at once and wait for all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from service.embedded.errors import CancelledStartError

GRACE = 2.0
"""Seconds a task has to give up after a cancel."""


def run_all(tasks: Sequence[Callable[[], None]], cancel: threading.Event | None = None) -> None:
    """Run each task on a thread of its own; raises the first error that is not a consequence of another.

    With `cancel`, an error in one task sets it, so that the others give up; one that does not within `GRACE`, because
    the network holds it, is left alone.
    """
    errors: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - raised below, on the thread of the caller
            errors.append(error)
            if cancel is not None:
                cancel.set()

    # daemon threads: a process that must end does not wait for a download
    threads = [threading.Thread(target=run, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    _wait(threads, cancel)
    causes = [error for error in errors if not isinstance(error, CancelledStartError)]
    for error in [*causes, *errors]:
        raise error
    if cancel is not None and cancel.is_set():
        raise CancelledStartError


def _wait(threads: Sequence[threading.Thread], cancel: threading.Event | None) -> None:
    limit: float | None = None
    for thread in threads:
        while thread.is_alive():
            thread.join(0.1)  # in steps, so that a signal handler gets its turn
            if cancel is not None and cancel.is_set():
                limit = limit or time.monotonic() + GRACE
                if time.monotonic() > limit:
                    return
