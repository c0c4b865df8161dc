"""Commands with their stories, and waiting until a command has ended."""

from __future__ import annotations

import asyncio

from dashboard.pages import dumped, told
from projections import queries
from projections.queries import Accounts, Connection
from runtime.problem import Problem
from schemas.errors import ErrorClass

MOST_WAITING = 64
POLL_SECONDS = 0.2


class Stories:
    """Reads commands with their stories. Any of them may raise DatabaseAway."""

    def __init__(self, database: Connection) -> None:
        self._database = database
        self._waiting = 0
        self._closed = asyncio.Event()

    async def read(self, command_id: str, accounts: Accounts, wait: int) -> bytes | None:
        """Return a command of these accounts with its story; None where there is none (yet).

        With `wait` it waits at most so many seconds until the command has ended or a person must decide. Raises Problem
        503 where too many wait.
        """
        row = await queries.command(self._database, command_id, accounts)
        if wait and not _stands(row):
            row = await self._until_it_stands(command_id, accounts, wait)
        if row is None:
            return None
        lines = await queries.story(self._database, row["account_id"], command_id, row["correlation_id"])
        return dumped({**told(row), "story": [told(line) for line in lines]})

    async def _until_it_stands(self, command_id: str, accounts: Accounts, wait: int) -> queries.Row | None:
        if self._waiting >= MOST_WAITING:
            raise Problem(
                503,
                "too many requests wait for commands; ask without wait",
                error_class=ErrorClass.RATE_LIMIT,
                headers={"Retry-After": "1"},
            )
        loop = asyncio.get_running_loop()
        limit = loop.time() + wait
        self._waiting += 1
        try:
            while True:
                row = await queries.command(self._database, command_id, accounts)
                if _stands(row) or loop.time() >= limit or self._closed.is_set():
                    return row
                try:
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._closed.wait()
                except TimeoutError:
                    pass
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Answer everybody who waits, because the process ends."""
        self._closed.set()


def _stands(row: queries.Row | None) -> bool:
    return row is not None and row["state"] != "waiting"
