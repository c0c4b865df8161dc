"""One house for all tests of a module, and in it an account of each test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.agents.commands.support import House, own_house
from tests.support.servers import Servers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_servers: Servers, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """A house for the tests of a module, with its settings HOUSE; a worker runs in it unless the module says not."""
    async with own_house(shared_servers, **getattr(request.module, "HOUSE", {})) as made:
        if getattr(request.module, "WORKER", True):
            made.work()
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def home(shared: House) -> House:
    """The shared house with an account that no other test uses."""
    return await shared.with_account()
