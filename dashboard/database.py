"""PostgreSQL as the dashboard sees it: each read is short and bounded, and a server that is away is one clear error."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg

from dashboard.migrations import migrate_missing
from runtime.health import Health
from runtime.logs import logger
from runtime.migrations import MigrationError
from runtime.postgres import AWAY, refused
from runtime.problem import Problem
from schemas.errors import ErrorClass

log = logger(__name__)

PART = "database"
QUERY_SECONDS = 5.0
_PROBE_SECONDS = 1.0
_MOST_PROBE_SECONDS = 3 * QUERY_SECONDS  # asyncpg may wait for a connection that is gone longer than it was told to

_NOT_SET_UP = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.InvalidCatalogNameError,
)
_REFUSES_US = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InsufficientPrivilegeError)
_WRONG_ADDRESS = asyncpg.exceptions.ClientConfigurationError


def reason(error: BaseException) -> str:
    """Say for a person why the database cannot be read; never contains its address."""
    if isinstance(error, _NOT_SET_UP):
        return "the database or its tables are not there yet: run `kommo-streams init`"
    if isinstance(error, _REFUSES_US):
        return "the database refuses this user: see KOMMO_STREAMS_DATABASE_URL"
    if isinstance(error, _WRONG_ADDRESS):
        return "KOMMO_STREAMS_DATABASE_URL is no address of a PostgreSQL database"
    if isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
        return f"the database did not answer within {QUERY_SECONDS:.0f} s"
    return f"the database is away ({type(error).__name__})"


class DatabaseAway(Problem):
    """The database cannot be read now; as an HTTP answer: 503."""

    def __init__(self, why: str) -> None:
        super().__init__(503, f"{why}; try again", error_class=ErrorClass.DATABASE, headers={"Retry-After": "1"})
        self.why = why


class Database:
    """Reads through a pool; what it meets shows in the process's health.

    fetch() and fetchrow() raise DatabaseAway where PostgreSQL cannot be read, and asyncpg's errors for wrong SQL.
    """

    def __init__(self, pool: Any, health: Health) -> None:
        self._pool = pool
        self._health = health
        self._away = False

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Return the rows of one statement, which has QUERY_SECONDS."""
        with self._watched():
            async with self._pool.acquire(timeout=QUERY_SECONDS) as connection:
                rows: list[Any] = await connection.fetch(query, *args, timeout=QUERY_SECONDS)
        self._seen()
        return rows

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except AWAY as error:
            if refused(error):
                raise  # a value that should have been checked: a fault of this program
            why = reason(error)
            if not isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
                self._missed(why)  # one slow query says nothing about the server; the probe does
            raise DatabaseAway(why) from error

    def _missed(self, why: str) -> None:
        self._health.not_ready(PART, why)
        if not self._away:
            self._away = True
            log.warning("the database cannot be read", reason=why)

    def _seen(self) -> None:
        if self._away:
            self._away = False
            log.info("the database can be read again")

    @contextlib.asynccontextmanager
    async def probing(self) -> AsyncIterator[None]:
        """Keep the health true while the context lasts: ask for all that the dashboard reads, once a second."""
        task = asyncio.create_task(self._probe())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _probe(self) -> None:
        prepared = False
        while True:
            try:
                async with asyncio.timeout(_MOST_PROBE_SECONDS):
                    if not prepared:
                        await self._prepare()
                        prepared = True
                    await self.fetch(_EVERYTHING)
                self._health.ready(PART)
            except DatabaseAway as error:
                self._missed(error.why)
            except MigrationError as error:
                self._missed(str(error))
            except Exception as error:  # whatever it is, the probe must go on: it alone makes the dashboard ready again
                self._missed(f"internal: {type(error).__name__}: {error}")
                log.exception("the probe failed, trying again")
            await asyncio.sleep(_PROBE_SECONDS)

    async def _prepare(self) -> None:
        with self._watched():
            async with self._pool.acquire(timeout=QUERY_SECONDS) as connection:
                await migrate_missing(connection)


_EVERYTHING = """
SELECT (SELECT 1 FROM kommo.activity_log LIMIT 0), (SELECT 1 FROM kommo.recent_updates LIMIT 0),
       (SELECT 1 FROM kommo.tasks LIMIT 0), (SELECT 1 FROM kommo.calls LIMIT 0),
       (SELECT 1 FROM kommo.commands LIMIT 0), (SELECT 1 FROM kommo.dead_letters LIMIT 0),
       (SELECT commands FROM kommo.access_tokens LIMIT 0), (SELECT 1 FROM kommo_projections.positions LIMIT 0)
"""
