"""A gateway on the real Kafka: one for all tests of a module that need no settings of their own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from gateway.process import gateway
from runtime.settings import Settings
from tests.support.gateway import ACCOUNT, client_of, opened
from tests.support.installation import delete_topics, installation
from tests.support.servers import Servers
from tests.support.waiting import running
from tests.unit.gateway.test_integrations import CLIENT, OTHER, OTHER_SECRET, SECRET

INTEGRATIONS = SecretStr(f"{CLIENT}:{SECRET},{OTHER}:{OTHER_SECRET}")

_accounts = itertools.count(ACCOUNT, 10)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def settings(shared_servers: Servers) -> AsyncIterator[Settings]:
    """The settings of the module's gateway. It needs no database."""
    made = installation(shared_servers, shared_servers.database_url)
    yield made.model_copy(update={"integrations": INTEGRATIONS})
    await delete_topics(made)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the module's gateway, which is ready."""
    async with running(lambda stop: gateway(settings, stop)), client_of(settings) as made:
        await opened(settings)
        yield made


@pytest.fixture
def account() -> int:
    """An account that no other test uses; the nine after it are this test's, too."""
    return next(_accounts)
