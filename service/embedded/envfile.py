"""DIR/kommo-streams.env: the settings by which any other process joins, for a shell, docker and dotenv alike."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from service.embedded.files import write_atomically

NAME = "kommo-streams.env"


def write_env_file(directory: Path, values: Mapping[str, str]) -> Path:
    """Write the file whole, readable by its owner alone; gives its path. Raises OSError.

    A value is quoted only where a shell needs it: `docker run --env-file` would take quotes for a part of the value.
    """
    path = directory / NAME
    folder = shlex.quote(str(directory))
    head = f"# Written by kommo-streams up at each start. In a shell: set -a; . {folder}/{NAME}; set +a"
    lines = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    write_atomically(path, "\n".join([head, *lines, ""]), mode=0o600)
    return path


def read_env_file(directory: Path) -> dict[str, str]:
    """What is in the file; empty when there is none or it is not ours."""
    try:
        lines = (directory / NAME).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    values: dict[str, str] = {}
    for line in lines:
        name, found, value = line.partition("=")
        if found and not line.startswith("#"):
            try:
                values[name] = "".join(shlex.split(value))
            except ValueError:
                continue
    return values
