"""Servers that these tests start themselves: where their data lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import new_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for servers that need no disk, with nothing in it."""
    with new_folder() as path:
        yield path
