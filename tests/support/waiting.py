"""Waiting for a condition, with a limit; and a process's main function beside a test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from runtime.waiting import Stopped


async def eventually(condition: Callable[[], Any], seconds: float = 20, what: object = "") -> Any:
    """Wait until a condition (it may be a coroutine function) holds, and return what it returned."""
    limit = asyncio.get_running_loop().time() + seconds
    result: Any = None
    while asyncio.get_running_loop().time() < limit:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        await asyncio.sleep(0.02)
    raise AssertionError(f"not so within {seconds} s: {what or condition} (last: {result!r})")


@contextlib.asynccontextmanager
async def running(main: Callable[[asyncio.Event], Any]) -> AsyncIterator[asyncio.Event]:
    """Run a process's main function in this loop while the context lasts; it must end within 10 s afterwards."""
    stop = asyncio.Event()
    task = asyncio.ensure_future(main(stop))
    try:
        yield stop
    finally:
        stop.set()
        with contextlib.suppress(Stopped):
            await asyncio.wait_for(task, 10)
