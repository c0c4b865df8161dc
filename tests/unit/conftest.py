"""No test of this folder needs a server: make quick runs them all."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def shared_servers() -> None:
    """Refuse: a test that needs servers belongs to tests/integration."""
    pytest.fail("tests/unit has no servers: a test that needs one belongs to tests/integration")


@pytest.fixture(scope="session")
def mortal_servers(shared_servers: None) -> None:
    """Refuse likewise."""
