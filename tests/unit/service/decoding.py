"""Calls of `kommo-streams decode` in one process: `python -m tests.unit.service.decoding`, their arguments as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import IO

from service.cli import cli


def run(*arguments: str | Path, stdin: bytes = b"") -> tuple[int, list[bytes], str]:
    """Call it in this process, its standard input a pipe: exit code, lines of standard output, standard error."""
    end, other = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(other, "wb") as file:
            file.write(stdin)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with os.fdopen(end) as file:
            return call(file, *arguments)
    finally:
        writer.join()


def call(stdin: IO[str], *arguments: str | Path) -> tuple[int, list[bytes], str]:
    """The same with this standard input; its `fileno` and `isatty` are asked."""
    output, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    code, before = None, sys.stdin
    sys.stdin = stdin  # type: ignore[assignment]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            cli.main(["decode", *map(str, arguments)], prog_name="kommo-streams")
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.stdin = before
    assert isinstance(code, int)
    output.flush()
    errors.flush()
    said = errors.buffer.getvalue().decode()  # type: ignore[attr-defined]
    return code, output.buffer.getvalue().splitlines(), said  # type: ignore[attr-defined]


if __name__ == "__main__":
    ended = (run(*arguments) for arguments in json.load(sys.stdin))
    print(json.dumps([(code, len(lines), said) for code, lines, said in ended]))
