"""Runs the blocks of a page as a reader would: in one shell, one after another, beside a running `up`."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from runtime.settings import PREFIX
from tests.support import ROOT
from tests.support.pages import Block

PACKAGES = ("schemas", "runtime", "streams", "agents", "projections", "gateway", "dashboard", "simulator", "service")
SECONDS = 60

# What a shell keeps from one block to the next; readonly variables and the shell's own cannot be set again.
_KEEP = r"declare -p | grep -vE '^declare -[a-zA-Z]*r|^declare -[-a-zA-Z]+ (BASH|FUNCNAME|PIPESTATUS|_=)'"


class Reader:
    """Someone who reads one page, in a folder with `data/` and, for pages that change code, a copy of the source."""

    def __init__(self, folder: Path, data: Path, tools: Path, *, source: bool) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "data").symlink_to(data)
        self._state = folder.with_suffix(".state")
        self._state.touch()
        home = ROOT
        if source:
            home = folder
            for package in (*PACKAGES, "docs"):
                shutil.copytree(ROOT / package, folder / package)
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
        self._environment |= {
            "PATH": os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(home),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def run(self, block: Block) -> str:
        """Run a block and return what it printed, both streams; it must succeed."""
        if block.language == "sh":
            command = block.text
        else:
            file = self.folder / f"block{block.line}.{'py' if block.language == 'python' else 'sql'}"
            file.write_text(block.text)
            tool = (
                "python"
                if block.language == "python"
                else 'psql -X -v ON_ERROR_STOP=1 "$KOMMO_STREAMS_DATABASE_URL" -f'
            )
            command = f"{tool} {file}"
        script = f". '{self._state}'\nset -euo pipefail\n{command}\nset +e\n{_KEEP} > '{self._state}'\n"
        code, printed = self._shell(script)
        assert code == 0, f"{block} ended with {code}:\n{printed}"
        return printed

    def _shell(self, script: str) -> tuple[int | None, str]:
        """Run a script; whatever it left in the background, or did not end in time, is ended."""
        output = self.folder.with_suffix(".output")
        with output.open("w") as file:  # a pipe would be held open by what is in the background
            process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.folder,
                env=self._environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS)
            code = process.poll()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return code, output.read_text()

    def edit(self, block: Block) -> None:
        """Put a block into a file of the source: at its end, or before, after or in place of a text found once."""
        target, _, where = block.said.partition(", ")
        file = self.folder / target
        if not where:
            file.write_text((file.read_text() + "\n\n" if file.exists() else "") + block.text)
            return
        how, anchor = where.split(": ", 1)
        text = file.read_text()
        if how == "replace":
            assert text.count(anchor) == 1, f"{block}: {anchor!r} is in {target} {text.count(anchor)} times"
            file.write_text(text.replace(anchor, block.text.rstrip("\n")))
            return
        lines = text.splitlines(keepends=True)
        places = [number for number, line in enumerate(lines) if line.startswith(anchor)]
        assert how in ("before", "after"), f"{block}: {how}"
        assert places, f"{block}: no line of {target} begins with {anchor!r}"
        lines.insert(places[0] + (how == "after"), block.text)
        file.write_text("".join(lines))


def missing(expected: str, printed: str) -> Iterator[str]:
    """The lines of an expected output that are not in what was printed, in their order; spaces do not matter."""
    rest = _plain(printed)
    for line in filter(None, map(_plain, expected.splitlines())):
        before, found, after = rest.partition(line)
        if found:
            rest = after
        else:
            rest = before
            yield line


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
