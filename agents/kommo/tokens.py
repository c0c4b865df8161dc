"""The access token of one account: fresh, renewed by one worker at a time, and given up where Kommo refuses it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time

from agents.kommo.circuits import Circuits
from agents.kommo.credentials import Credentials, CredentialStore
from agents.kommo.limits import Window
from agents.kommo.oauth import OAuth
from agents.kommo.problems import KommoError
from runtime.logs import logger
from schemas.errors import ErrorClass

log = logger(__name__)

AHEAD = dt.timedelta(minutes=5)  # a token is renewed so long before it ends
KNOWN_SECONDS = 60.0  # how long what was read is believed: so soon a disconnected account stops everywhere
SELDOM = dt.timedelta(hours=1)  # how often refused tokens are tried again
WAIT_SECONDS = 20.0  # the longest wait for another worker's refresh
POLL_SECONDS = 0.1

_PASSING = (ErrorClass.EXTERNAL_SERVICE, ErrorClass.RATE_LIMIT)

REFUSED = "Kommo refuses the tokens: connect the account again"
REFUSED_LONG_LIVED = "Kommo refuses the long-lived token (expired or revoked): connect the account with a new one"


class Tokens:
    """Gives the credentials to speak with; every worker process has one of these for an account.

    The row in PostgreSQL decides: a refresh is claimed there, the new pair is stored before it is used, and who comes
    second reads it.
    """

    def __init__(
        self, account_id: int, store: CredentialStore, oauth: OAuth, circuits: Circuits, window: Window
    ) -> None:
        self._account_id = account_id
        self._store = store
        self._oauth = oauth
        self._circuits = circuits
        self._window = window
        self._known: Credentials | None = None
        self._read_at = float("-inf")
        self._one = asyncio.Lock()

    async def current(self) -> Credentials:
        """Return credentials that are valid for some time yet. Raises KommoError (authentication and others)."""
        known = self._known
        if known is not None and time.monotonic() - self._read_at < KNOWN_SECONDS:
            good = _still_valid(known) if self._one.locked() else _fresh(known)  # another task renews it just now
            if good or _fresh(known):
                return known
        async with self._one:
            found = await self._read()
            if _fresh(found):
                return found
            try:
                return await self._renewed(found)
            except KommoError as error:
                if error.error_class not in _PASSING or not _still_valid(found):
                    raise
                log.warning("a token is not renewed yet", account_id=self._account_id, error=str(error))
                return found

    async def after_refusal(self, used: Credentials) -> Credentials:
        """Return other credentials than those that got a 401. Raises KommoError where there are none."""
        async with self._one:
            found = await self._read()
            if found.generation != used.generation:
                return found  # another worker, or a person, was faster
            if found.pair.refresh is None:
                await self.refused(found)
                raise _needs_person(found, REFUSED_LONG_LIVED)
            return await self._renewed(found)

    async def refused(self, used: Credentials) -> None:
        """Note that these credentials are refused, fresh as they are."""
        why = REFUSED if used.pair.refresh is not None else REFUSED_LONG_LIVED
        log.error("an account needs a person", account_id=self._account_id, why=why)
        await self._store.refused(used, why)
        self._known = None

    async def accepted(self, used: Credentials) -> None:
        """Note that Kommo takes these credentials, if it did not before."""
        if used.why is not None:
            log.info("Kommo takes the account's tokens again", account_id=self._account_id)
            await self._store.accepted(used)
            self._known = None

    async def _read(self) -> Credentials:
        self._known = None
        found = await self._store.get(self._account_id)
        if found is None:
            raise KommoError(
                ErrorClass.AUTHENTICATION,
                f"account {self._account_id} is not connected: see `kommo-streams account connect`",
                retry_after=SELDOM.total_seconds(),
            )
        if found.why is not None and found.refused_at is not None:
            again = found.refused_at + SELDOM - dt.datetime.now(dt.UTC)
            if again > dt.timedelta(0):
                raise _needs_person(found, found.why, again)
        self._known, self._read_at = found, time.monotonic()
        return found

    async def _renewed(self, old: Credentials) -> Credentials:
        """Refresh a pair, or wait for whoever is refreshing it."""
        if old.pair.refresh is None:
            return old  # long-lived: valid or not, it is all there is
        limit = time.monotonic() + WAIT_SECONDS
        while (claim := await self._store.claim(old)) is None:
            if _still_valid(old):
                return old  # someone else renews it, ahead of its end
            if time.monotonic() > limit:
                raise KommoError(
                    ErrorClass.EXTERNAL_SERVICE,
                    f"account {self._account_id}: another worker's refresh does not end",
                    retry_after=WAIT_SECONDS,
                )
            await asyncio.sleep(POLL_SECONDS)
            found = await self._read()
            if found.generation != old.generation:
                return found
        try:
            with self._circuits.through("oauth"):
                pair = await self._oauth.refresh(old, self._window.take)
            await self._store.renew(old, claim, pair)  # False: it was taken over, and what is stored counts
        except KommoError as error:
            if error.status in (400, 401):
                await self.refused(old)
                raise _needs_person(old, REFUSED) from None
            raise
        finally:
            # Where it came to nothing. What hinders it costs time only: a claim ends by itself.
            with contextlib.suppress(Exception):
                await self._store.release(old, claim)
        return await self._read()


def _fresh(credentials: Credentials) -> bool:
    """Whether it can be used as it is; a refused one cannot, unless nothing else could be had."""
    if credentials.pair.refresh is None:
        return True
    expires_at = credentials.pair.expires_at
    return credentials.why is None and expires_at is not None and expires_at > dt.datetime.now(dt.UTC) + AHEAD


def _still_valid(credentials: Credentials) -> bool:
    """Whether it can be used for some seconds yet."""
    expires_at = credentials.pair.expires_at
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)
    return credentials.why is None and expires_at is not None and expires_at > soon


def _needs_person(credentials: Credentials, why: str, again: dt.timedelta = SELDOM) -> KommoError:
    return KommoError(
        ErrorClass.AUTHENTICATION,
        f"account {credentials.account_id}: {why}",
        title=why,
        retry_after=max(0.0, again.total_seconds()),
    )
