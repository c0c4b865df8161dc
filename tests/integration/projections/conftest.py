from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from tests.support.projections import Tables, open_tables


@pytest.fixture
async def tables(database: str) -> AsyncIterator[Tables]:
    """The projections' tables in a database of this test's own."""
    opened = await open_tables(database)
    yield opened
    await opened.connection.close()


@pytest.fixture(autouse=True)
def _plain_tracebacks() -> Iterator[None]:
    """Tracebacks with every local variable take seconds each."""
    structlog.configure(processors=[structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)])
    yield
    structlog.reset_defaults()
