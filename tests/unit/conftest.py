"""No test of this folder needs a server: make quick runs them all."""

from __future__ import annotations

import pytest

_SERVERS = {"servers", "shared_servers", "mortal_servers"}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a test that asks for servers, be it by way of other fixtures, before any is started."""
    if _SERVERS & set(getattr(item, "fixturenames", ())):
        pytest.fail("tests/unit has no servers: a test that needs one belongs to tests/integration", pytrace=False)
