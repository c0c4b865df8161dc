"""Clients of a server that does what a test says; one pool of connections to PostgreSQL for each module."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr
from tenacity import wait_fixed

from agents.kommo import client, oauth
from agents.kommo.client import Kommo
from agents.kommo.clients import KommoClients
from runtime.postgres import open_pool
from runtime.settings import Settings
from tests.support.credentials import ACCOUNT, CLIENT, KEY, REDIRECT, SECRET, credentials
from tests.support.databases import lasting_database
from tests.support.servers import Servers

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that speak plain HTTP: to load the certificates of the world takes long. It trusts nobody."""

Connect = Callable[..., Any]


@pytest.fixture(scope="session")
def shared_tables(shared_servers: Servers) -> Iterator[str]:
    """A database with the agents' tables, for the tests of this folder."""
    with lasting_database(shared_servers, "agents") as url:
        yield url


@pytest.fixture
def patience() -> float:
    """Seconds that a client waits for an answer; a test in which one hangs gives less."""
    return 20.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again in place is tried again at once."""
    for module in (client, oauth):
        monkeypatch.setattr(module, "_BACKOFF", wait_fixed(0.01))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(shared_tables: str) -> AsyncIterator[Any]:
    pool = await open_pool(Settings(database_url=SecretStr(shared_tables)), application="tests")
    yield pool
    await pool.close()


@pytest_asyncio.fixture(loop_scope="module")
async def kommo_settings(shared_tables: str, pool: Any, patience: float) -> Settings:
    """Settings with which a client can be made; the table of credentials is empty."""
    await pool.execute("DELETE FROM kommo_agents.credentials")
    settings = Settings(
        database_url=SecretStr(shared_tables),
        integrations=SecretStr(f"{CLIENT}:{SECRET}"),
        token_keys=SecretStr(KEY),
        oauth_redirect_uri=REDIRECT,
        kommo_rate=50,
    )
    return settings.model_copy(update={"kommo_timeout_seconds": patience})  # less than may be set


@pytest_asyncio.fixture(loop_scope="module")
async def clients(kommo_settings: Settings, pool: Any) -> AsyncIterator[KommoClients]:
    async with KommoClients(kommo_settings, pool, tls=NO_TLS) as made:
        yield made


@pytest.fixture
def connected(clients: KommoClients) -> Connect:
    """Connect an account to a server and return its client."""

    async def connect(base_url: str, account_id: int = ACCOUNT, **other: Any) -> Kommo:
        await clients.store.put(credentials(base_url, account_id, **other))
        return clients.client(account_id)

    return connect
