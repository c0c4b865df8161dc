"""Whole processes on real servers that are killed."""

import pytest

from tests.support.fixtures import database, mortal_servers, servers, settings, shared_servers
from tests.support.java import share_classes

__all__ = ["database", "mortal_servers", "servers", "settings", "shared_servers"]


@pytest.fixture(scope="session", autouse=True)
def classes() -> None:
    """Every Kafka that a test of this folder starts maps its classes."""
    share_classes()
