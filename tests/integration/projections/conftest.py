"""One database a file: to make a new one costs as much as to empty this one a hundred times."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.databases import lasting_database
from tests.support.projections import Tables, open_tables
from tests.support.servers import Servers


@pytest.fixture(scope="module")
def kept_database(shared_servers: Servers) -> Iterator[str]:
    """A database with the projections' tables, for the tests of a file one after the other."""
    with lasting_database(shared_servers, "projections") as url:
        yield url


@pytest.fixture
async def database(kept_database: str) -> str:
    """The same, with empty tables."""
    async with open_tables(kept_database) as tables:
        await tables.empty()
    return kept_database


@pytest.fixture
async def tables(kept_database: str) -> AsyncIterator[Tables]:
    """The projections' tables, empty; a test that needs another connection asks for `kept_database`, too."""
    async with open_tables(kept_database) as opened:
        await opened.empty()
        yield opened
