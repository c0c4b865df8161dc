"""Waiting for a server that is away: with growing pauses, seen on /readyz, and ended by SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, RetryError, retry_if_exception_type, wait_random_exponential

from runtime.classify import describe
from runtime.failures import log_failure
from runtime.health import Health
from runtime.logs import logger

log = logger(__name__)

T = TypeVar("T")


class Stopped(Exception):
    """The process was told to stop while it waited."""


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait a number of seconds, or less if `stop` is set meanwhile."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def watch(ping: Callable[[], Awaitable[object]], part: str, health: Health, stop: asyncio.Event) -> None:
    """Ask a server every 2 s whether it is there, until `stop`; `part` is ready while it answers within 3 s."""
    while not stop.is_set():
        try:
            async with asyncio.timeout(3):
                await ping()
        except Exception as error:  # noqa: BLE001 whatever it is, the server cannot be used
            health.not_ready(part, describe(error))
        else:
            health.ready(part)
        await pause(stop, 2.0)


@contextlib.asynccontextmanager
async def watching(ping: Callable[[], Awaitable[object]], part: str, health: Health) -> AsyncIterator[None]:
    """Watch a server while the context lasts."""
    task = asyncio.create_task(watch(ping, part, health, asyncio.Event()))
    try:
        yield
    finally:
        task.cancel()  # in the middle of a question, too: a server that is away would be waited for
        await asyncio.wait([task])


async def until_there(
    action: Callable[[], Awaitable[T]], part: str, health: Health, stop: asyncio.Event, *away: type[BaseException]
) -> T:
    """Do an action, again and again while it raises one of `away`, and return its result.

    Pauses grow to 3 s with jitter; meanwhile `part` is not ready. Raises Stopped once `stop` is set.
    """

    async def attempt() -> T:
        return await action()

    async def sleep(seconds: float) -> None:
        await pause(stop, seconds)

    def note(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if error is not None:
            health.not_ready(part, describe(error))
            log_failure(log, "waiting", error, part=part)

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(away),
        wait=wait_random_exponential(0.2, max=3),
        stop=lambda _state: stop.is_set(),
        sleep=sleep,
        before_sleep=note,
    )
    try:
        return await retrying(attempt)
    except RetryError:
        raise Stopped from None
