"""Kommo's API v4 (https://developers.kommo.com/reference) for one account: requests, pages, batches.

Tried again in place are reads, and what certainly did not happen; never a write that may have left.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

import httpx
import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from agents.kommo.answers import API, Answer, answer_of, date_of, embedded, is_path, next_of
from agents.kommo.circuits import Circuits, Kind, kind_of
from agents.kommo.credentials import Credentials, CredentialStore
from agents.kommo.limits import MOST_WAIT, Address, Window
from agents.kommo.oauth import OAuth
from agents.kommo.problems import KommoError
from agents.kommo.tokens import Tokens
from agents.kommo.wire import BeforeSend, Call, Reply, connections_of, exchange
from runtime.logs import logger
from runtime.settings import Settings
from schemas.errors import ErrorClass

log = logger(__name__)

__all__ = ["Answer", "Kommo", "batches", "embedded"]

T = TypeVar("T")

ATTEMPTS = 3
PAGE = 250  # the most that Kommo gives (https://developers.kommo.com/docs/limitations)
BATCH = 50  # the most that Kommo recommends to write at once; 250 are refused
PAUSE_AFTER_429 = 1.0  # seconds, where Kommo does not say

_BACKOFF = wait_random_exponential(0.2, max=2)


class Kommo:
    """Speaks for one account. Any number of tasks may use it at once."""

    def __init__(
        self,
        account_id: int,
        *,
        http: httpx.AsyncClient,
        store: CredentialStore,
        oauth: OAuth,
        address: Address,
        settings: Settings,
    ) -> None:
        self.account_id = account_id
        self.offset: dt.timedelta | None = None  # how far Kommo's clock is ahead of ours, to a second or so
        self.circuits = Circuits(account_id)
        self._http = http
        self._address = address
        self._seconds = settings.kommo_timeout_seconds
        self._places = asyncio.Semaphore(connections_of(settings))
        self._window = Window(settings.kommo_rate)
        self._tokens = Tokens(account_id, store, oauth, self.circuits, self._window)

    async def credentials(self) -> Credentials:
        """Return the credentials it speaks with, fresh. Raises KommoError."""
        return await self._tokens.current()

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        kind: Kind | None = None,
        before_send: BeforeSend | None = None,
        read: bool = False,
        must_exist: bool = False,
    ) -> Answer:
        """Send a request and return its answer. Raises KommoError, or what PostgreSQL or `before_send` raises.

        `path` is below /api/v4: `/leads/123/notes`. `json` is what orjson can write. `kind` chooses the circuit, by
        default by the path. `before_send` is awaited when all waiting is over and the next thing is the first byte;
        what it raises is raised here, and nothing has left. It is awaited again before each further attempt. `read`
        says that the request changes nothing (a GET never does) and may be repeated. With `must_exist` a 204 is an
        error of class not_found: so Kommo answers where an id is not there.
        """
        if not is_path(path):
            raise ValueError("a path is like /leads/123/notes: below /api/v4, without a query")
        content = None if json is None else orjson.dumps(json)
        read = read or method == "GET"
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: _again(error, read)),
            wait=_pause,
            stop=stop_after_attempt(ATTEMPTS),
            before_sleep=self._say_again,
            reraise=True,
        )
        what = f"{method} {path}"
        target = f"{API}{path}?{urlencode(params, doseq=True)}" if params else f"{API}{path}"
        answer: Answer = await retrying(
            self._attempt, method, what, target, content, kind or kind_of(path), before_send
        )
        if must_exist and answer.status == 204:
            raise KommoError(ErrorClass.NOT_FOUND, f"{what}: 204, it is not there", status=204, title="not there")
        return answer

    async def pages(
        self, path: str, params: Mapping[str, Any] | None = None, *, limit: int = PAGE
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the pages of a list, following the link to the next one on the account's own host; see embedded().

        A list that is empty, or becomes so, gives 204 and ends it. Raises KommoError.
        """
        asked: Mapping[str, Any] = {**(params or {}), "limit": limit}
        seen: set[str] = set()
        while True:
            what = f"GET {path}"
            answer = await self.request("GET", path, params=asked)
            if answer.body is None:
                return
            if not isinstance(answer.body, dict):
                raise KommoError.unreadable(what, answer.status, "a page that is no object")
            yield answer.body
            following = next_of(answer.body, (await self.credentials()).base_url, what)
            if following is None:
                return
            if str(following) in seen:
                raise KommoError.unreadable(what, answer.status, "a next page that was there before")
            seen.add(str(following))
            path, asked = following

    async def _attempt(
        self, method: str, what: str, target: str, content: bytes | None, kind: Kind, before_send: BeforeSend | None
    ) -> Answer:
        credentials = await self.credentials()
        try:
            return await self._once(credentials, method, what, target, content, kind, before_send)
        except KommoError as error:
            if error.status != 401:
                raise
        credentials = await self._tokens.after_refusal(credentials)
        try:
            return await self._once(credentials, method, what, target, content, kind, before_send)
        except KommoError as error:
            if error.status == 401:
                await self._tokens.refused(credentials)
            raise

    async def _once(
        self,
        credentials: Credentials,
        method: str,
        what: str,
        target: str,
        content: bytes | None,
        kind: Kind,
        before_send: BeforeSend | None,
    ) -> Answer:
        async def ready() -> None:
            # Here, on a connection that is there: what waits for one would else leave in a bunch.
            await self._window.take()
            if before_send is not None:
                await before_send()

        call = Call(self.account_id, method, what, f"{credentials.base_url}{target}", content, credentials.pair.access)
        # A place is waited for here, not in the pool: whoever has much to do is no sign that Kommo fails.
        async with self._places:
            with self.circuits.through(kind):
                answer = answer_of(what, await self._exchange(call, ready))
        await self._tokens.accepted(credentials)
        return answer

    async def _exchange(self, call: Call, ready: BeforeSend) -> Reply:
        """Return a 2xx; all that limits hear of it is told to them. Raises KommoError, and what `ready` raises."""
        era = await self._address.admit()
        began = time.monotonic()
        try:
            reply = await exchange(self._http, call, seconds=self._seconds, ready=ready)
        except BaseException:
            self._address.unanswered(era)
            raise
        problem = reply if isinstance(reply, KommoError) else self._problem(call.what, reply)
        self._address.outcome(self.account_id, era, problem)
        ms = round((time.monotonic() - began) * 1000)
        log.debug("kommo", account_id=self.account_id, request=call.what, status=reply.status, ms=ms)
        if problem is not None:
            raise problem
        return cast(Reply, reply)

    def _problem(self, what: str, reply: Reply) -> KommoError | None:
        if (date := date_of(reply.headers)) is not None:
            self.offset = date - dt.datetime.now(dt.UTC)
        if 200 <= reply.status < 300:
            return None
        problem = KommoError.of_answer(what, reply.status, reply.headers, reply.content)
        if reply.status == 429:
            self._window.hold(PAUSE_AFTER_429 if problem.retry_after is None else problem.retry_after)
        return problem

    def _say_again(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.info("trying again", account_id=self.account_id, attempt=state.attempt_number, error=str(error))


def batches(items: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    """Yield the items in their order, at most `size` at once."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _again(error: BaseException, read: bool) -> bool:
    """Whether trying again in place, soon, is right: nothing can have happened twice, and it may go well."""
    if not isinstance(error, KommoError) or error.blocked or (error.retry_after or 0) > MOST_WAIT:
        return False
    passing = error.error_class in (ErrorClass.EXTERNAL_SERVICE, ErrorClass.RATE_LIMIT)
    return passing and (read or not error.left)


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    said = error.retry_after if isinstance(error, KommoError) else None
    return max(_BACKOFF(state), said or 0.0)
