"""The fixtures of tests that need servers; tests/unit refuses them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from runtime.settings import Settings
from tests.support.databases import new_database
from tests.support.installation import delete_topics, installation
from tests.support.servers import OwnServers, Servers, own_servers, servers_of_the_run, worker_number


@pytest.fixture(scope="session")
def shared_servers() -> Servers:
    """Apache Kafka, PostgreSQL and Valkey of the run, which every worker uses: they must not be stopped."""
    return servers_of_the_run()


@pytest.fixture(scope="session")
def mortal_servers() -> Iterator[OwnServers]:
    """Servers of this worker alone, which a test may kill; it leaves them running."""
    with own_servers(f"mortal-{worker_number()}") as started:
        yield started


@pytest.fixture
def servers(request: pytest.FixtureRequest) -> Servers:
    """The servers of this test: those of the run, or with the mark `kills_servers` those that it may kill."""
    mortal = request.node.get_closest_marker("kills_servers")
    found: Servers = request.getfixturevalue("mortal_servers" if mortal else "shared_servers")
    return found


@pytest.fixture
async def database(servers: Servers) -> AsyncIterator[str]:
    """The URL of a new, empty database; dropped afterwards."""
    async with new_database(servers) as url:
        yield url


@pytest.fixture
async def settings(servers: Servers, database: str) -> AsyncIterator[Settings]:
    """Settings of an installation of this test's own: its topics, its database, its ports. Topics end with the test."""
    made = installation(servers, database)
    yield made
    await delete_topics(made)
