from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from agents.kommo.client import Kommo
from agents.kommo.clients import KommoClients
from agents.kommo.credentials import Credentials, Pair
from runtime.postgres import open_pool
from runtime.settings import Settings
from tests.support.databases import lasting_database
from tests.support.raw_server import jwt
from tests.support.servers import Servers

CLIENT = "5f3a0c9e-1b7d-4c55-9a61-0d6a3f8e2b14"
SECRET = "a-secret-of-the-integration"
REDIRECT = "https://hooks.example/oauth"
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
ACCOUNT = 31337
TOKEN = jwt(account_id=ACCOUNT, sub="77", exp=4_000_000_000)


@pytest.fixture(scope="session")
def shared_tables(shared_servers: Servers) -> Iterator[str]:
    """A database with the agents' tables, for the tests of this folder."""
    with lasting_database(shared_servers, "agents") as url:
        yield url


@pytest.fixture
def patience() -> float:
    """Seconds that a client waits for an answer; a test in which one hangs gives less."""
    return 20.0


@pytest.fixture
async def kommo_settings(shared_tables: str, patience: float) -> Settings:
    """Settings with which a client can be made; the table of credentials is empty."""
    connection = await asyncpg.connect(shared_tables)
    await connection.execute("TRUNCATE kommo_agents.credentials")
    await connection.close()
    return Settings(
        database_url=SecretStr(shared_tables),
        integrations=SecretStr(f"{CLIENT}:{SECRET}"),
        token_keys=SecretStr(KEY),
        oauth_redirect_uri=REDIRECT,
        kommo_timeout_seconds=patience,
        kommo_rate=50,
    )


@pytest.fixture
async def pool(kommo_settings: Settings) -> AsyncIterator[Any]:
    pool = await open_pool(kommo_settings, application="tests")
    yield pool
    await pool.close()


@pytest.fixture
async def clients(kommo_settings: Settings, pool: Any) -> AsyncIterator[KommoClients]:
    async with KommoClients(kommo_settings, pool) as made:
        yield made


Connect = Callable[..., Any]


def credentials(base_url: str, account_id: int = ACCOUNT, **other: Any) -> Credentials:
    """Credentials of a long-lived token, unless `refresh` is given."""
    refresh = other.pop("refresh", None)
    lives = other.pop("lives", dt.timedelta(days=1))
    pair = Pair(
        SecretStr(other.pop("access", TOKEN)),
        dt.datetime.now(dt.UTC) + lives,
        None if refresh is None else SecretStr(refresh),
    )
    own: dict[str, Any] = {} if refresh is None else {"client_uuid": CLIENT, "redirect_uri": REDIRECT}
    return Credentials(account_id, base_url, pair, **own, **other)


@pytest.fixture
def connected(clients: KommoClients) -> Connect:
    """Connect an account to a server and return its client."""

    async def connect(base_url: str, account_id: int = ACCOUNT, **other: Any) -> Kommo:
        await clients.store.put(credentials(base_url, account_id, **other))
        return clients.client(account_id)

    return connect
