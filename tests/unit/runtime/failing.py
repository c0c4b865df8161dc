"""A process that fails in chosen ways, one after another: `python -m tests.unit.runtime.failing HOW...`.

Each way but `library`, `task` and `crash` has a logger of its name.
At its end it prints what it counted. The variable LONGEST gives Sentry more time at the end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import httpx
from prometheus_client import generate_latest

from runtime import sentry
from runtime.failures import log_failure
from runtime.logs import logger
from runtime.process import run
from runtime.sentry import report
from runtime.settings import load_settings
from schemas.delivery import DeliveryError
from schemas.errors import ErrorClass

log = logger("tests.internal")

LONGEST = "KOMMO_TESTS_FLUSH_SECONDS"
LOCAL = "kept-in-a-local-variable"
ADDRESS = "https://hooks.example.net/webhooks/k1.5.1.c2lnbmF0dXJl"
TOKEN = "kst_0123456789abcdef_" + "s" * 43
JWT = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhY2NvdW50X2lkIjo1fQ.c2lnbmVk"
DETAIL = "a second line with a row of a person"
PASSWORD = "opensesame"
ACCOUNT = 16700680
LEADS = "https://example.kommo.com/api/v4/leads?access_token=hunter2"
MESSAGE = f"{ADDRESS} {TOKEN} Bearer {JWT} password=hunter2 and {PASSWORD}\n{DETAIL}"


def _fails(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as raised:
        return raised


async def _internal() -> None:
    try:
        _unforeseen()
    except RuntimeError as error:
        log.exception("it failed", correlation_id="request-1", account_id=ACCOUNT, path=ADDRESS, number=5)
        log.error("it failed, told again", exc_info=error)
        report(error, part="tests.internal")


async def _library() -> None:
    logging.getLogger("aiokafka.consumer").error("in a library", exc_info=_fails(KeyError("x")))


async def _task() -> None:
    async def wrong() -> None:
        raise RuntimeError(MESSAGE)  # a place of its own: of one place Sentry hears once

    task = asyncio.create_task(wrong())
    await asyncio.wait([task])
    del task


async def _classes() -> None:
    """One of each class, as its line is written; none of them needs a traceback."""
    log = logger("tests.classes")
    request = httpx.Request("GET", LEADS)
    for status in (400, 401, 403, 404, 429, 500):
        try:
            httpx.Response(status, request=request).raise_for_status()
        except httpx.HTTPStatusError as error:
            log_failure(log, "Kommo answered", error, status=status)
    log_failure(log, "it cannot be read", _fails(DeliveryError("no key")))
    log_failure(log, "the rate", _fails(httpx.ReadTimeout("x")))


async def _reported() -> None:
    report(_fails(ValueError("a")), error_class=ErrorClass.DATABASE, correlation_id="c-1", part="tests.a", step="two")
    report(_fails(ValueError("b")), error_class=ErrorClass.VALIDATION, part="tests.b")
    report(asyncio.CancelledError(), part="tests.c")


async def _flood() -> None:
    log = logger("tests.flood")
    for number in range(500):
        try:
            raise ValueError(number)
        except ValueError:
            log.exception("again")


async def _crash() -> None:
    raise RuntimeError(MESSAGE)


async def main(ways: list[str], stop: asyncio.Event) -> None:
    for how in ways:
        if how == "wait":
            print("waiting", flush=True)
            await stop.wait()
        else:
            await globals()[f"_{how}"]()


def _unforeseen() -> None:
    local = LOCAL
    raise RuntimeError(MESSAGE + local[:0])


if __name__ == "__main__":
    sentry.FLUSH_SECONDS = float(os.environ.get(LONGEST, sentry.FLUSH_SECONDS))
    code = run(load_settings(), "failing", lambda stop: main(sys.argv[1:], stop))
    print(f"sentry_sdk: {'sentry_sdk' in sys.modules}")
    counted = generate_latest().decode().splitlines()
    print(*(line for line in counted if line.startswith("kommo_streams_errors_total{")), sep="\n")
    sys.exit(code)
