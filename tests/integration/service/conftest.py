"""Servers that these tests start themselves: where their data lie, and how Kafka starts in half the time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.java import share_classes
from tests.support.processes import new_folder


@pytest.fixture(scope="session", autouse=True)
def classes() -> None:
    """Every Kafka that a test of this folder starts maps its classes."""
    share_classes()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for servers that need no disk, with nothing in it."""
    with new_folder() as path:
        yield path
