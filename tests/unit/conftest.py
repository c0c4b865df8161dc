"""No test of this folder needs a server: make quick runs them all."""

from __future__ import annotations

import pytest


def _refused() -> None:
    """Say where a test that needs a server belongs."""
    pytest.fail("tests/unit has no servers: a test that needs one belongs to tests/integration", pytrace=False)


@pytest.fixture(scope="session")
def shared_servers() -> None:
    """Refuse."""
    _refused()


@pytest.fixture(scope="session")
def mortal_servers() -> None:
    """Refuse."""
    _refused()


@pytest.fixture
def servers() -> None:
    """Refuse."""
    _refused()


@pytest.fixture
def database() -> None:
    """Refuse."""
    _refused()


@pytest.fixture
def settings() -> None:
    """Refuse."""
    _refused()
