"""What a start tells the person who waits for it: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as RichBars


class Progress:
    """Told of each step; this one says nothing. All methods may be called from any thread."""

    def begin(self, step: str, text: str) -> None:
        """A step begins; `step` names it in the calls that follow."""

    def advance(self, step: str, done: int, total: int) -> None:
        """A step whose end is known has come so far (any unit)."""

    def finish(self, step: str, text: str) -> None:
        """A step is done; `text` says what there is now."""

    def say(self, text: str) -> None:
        """Something a person should know."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class PlainProgress(Progress):
    """One line per step, for pipes, logs and tests."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tenth: dict[str, int] = {}

    def begin(self, step: str, text: str) -> None:
        """Print the step."""
        self.say(f"{text} ...")

    def advance(self, step: str, done: int, total: int) -> None:
        """Print each fifth of the way."""
        fifth = done * 5 // max(total, 1)
        if fifth > self._tenth.get(step, 0):
            self._tenth[step] = fifth
            self.say(f"  {step}: {done} of {total}")

    def finish(self, step: str, text: str) -> None:
        """Print the result."""
        self.say(text)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveProgress(Progress):
    """Spinners and a bar on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._bars = RichBars(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            console=console,
        )

    def begin(self, step: str, text: str) -> None:
        """Show a spinner."""
        with self._lock:
            if step in self._tasks:
                self._bars.update(self._tasks[step], description=text, completed=0, total=None, count="")
            else:
                self._tasks[step] = self._bars.add_task(text, total=None, count="")

    def advance(self, step: str, done: int, total: int) -> None:
        """Move the bar."""
        with self._lock:
            if step in self._tasks:
                self._bars.update(self._tasks[step], completed=done, total=total, count=f"{done}/{total}")

    def finish(self, step: str, text: str) -> None:
        """Tick the step off."""
        with self._lock:
            if step in self._tasks:
                self._bars.update(self._tasks[step], description=text, completed=1, total=1, count="")

    def say(self, text: str) -> None:
        """Print a line above the display."""
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()


def progress_for(console: Console) -> Progress:
    """The display that fits the console."""
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)
