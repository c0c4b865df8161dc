from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.projections.support import Tables, open_tables


@pytest.fixture
async def tables(database: str) -> AsyncIterator[Tables]:
    """The projections' tables in a database of this test's own."""
    opened = await open_tables(database)
    yield opened
    await opened.connection.close()
