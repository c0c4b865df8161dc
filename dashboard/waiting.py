"""Waiting until an event is visible: one poll of PostgreSQL for all who wait, and no connection held between polls."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

from dashboard.database import DatabaseAway
from projections.queries import ACTIVITY, Accounts, Connection, View, visible
from runtime.logs import logger
from runtime.problem import Problem
from schemas.errors import ErrorClass

log = logger(__name__)

WAIT_SECONDS = 10.0
MOST_WAITING = 256
_POLL_SECONDS = 0.03


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    event: uuid.UUID
    accounts: Accounts
    projection: str | None  # which must have read it too, beside the activity log
    seen: asyncio.Future[None]

    def look(self, account: int, folded: frozenset[str]) -> None:
        may_see = self.accounts is None or account in self.accounts
        if may_see and (self.projection is None or self.projection in folded) and not self.seen.done():
            self.seen.set_result(None)


class Waiting:
    """Those who wait for events, at most MOST_WAITING."""

    def __init__(self, database: Connection, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._waiters: set[_Waiter] = set()
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    async def until_visible(self, view: View, event: uuid.UUID, accounts: Accounts) -> None:
        """Return once the view shows what the event did, for one who may see these accounts.

        Raises Problem: 504 when that takes too long (or the event is of another account, which looks the same),
        503 when too many wait or the process ends; DatabaseAway.
        """
        if self._closed or len(self._waiters) >= MOST_WAITING:
            raise self._unavailable()
        projection = None if view is ACTIVITY else view.projection
        waiter = _Waiter(event, accounts, projection, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(self._seconds):
                await waiter.seen
        except TimeoutError:
            raise Problem(
                504,
                f"event {event} did not become visible within {self._seconds:g} s; it may still come: ask again",
                error_class=ErrorClass.NOT_FOUND,
                headers={"Retry-After": "1"},
                parameters=[{"name": "wait_for", "detail": "is not visible yet to this token"}],
            ) from None
        finally:
            self._waiters.discard(waiter)

    def close(self) -> None:
        """Send everybody away, because the process ends."""
        self._closed = True
        self._fail(self._unavailable())

    async def _poll(self) -> None:
        while self._waiters:
            try:
                await self._look()
            except DatabaseAway as error:
                self._fail(error)
            except Exception as error:  # whatever it is, nobody may wait in vain
                log.exception("looking for events failed")
                self._fail(error)
            await asyncio.sleep(_POLL_SECONDS)

    async def _look(self) -> None:
        waiting = list(self._waiters)
        for event, account, folded in await visible(self._database, list({waiter.event for waiter in waiting})):
            for waiter in waiting:
                if waiter.event == event:
                    waiter.look(account, folded)

    def _fail(self, error: Exception) -> None:
        for waiter in self._waiters:
            if not waiter.seen.done():
                waiter.seen.set_exception(error)

    def _unavailable(self) -> Problem:
        why = "the dashboard is stopping" if self._closed else "too many requests wait for events"
        return Problem(503, f"{why}; try again", error_class=ErrorClass.RATE_LIMIT, headers={"Retry-After": "1"})
