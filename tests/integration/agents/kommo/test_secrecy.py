"""No token, code or secret is in a log line, a message, a repr, a traceback or an event of Sentry's."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
import sentry_sdk
from pydantic import SecretStr

from agents.kommo import client
from agents.kommo.client import Kommo
from agents.kommo.clients import KommoClients
from agents.kommo.problems import KommoError
from runtime.logs import logger, logging_to
from runtime.settings import Settings
from tests.support.credentials import ACCOUNT, CLIENT, KEY, REDIRECT, SECRET, credentials
from tests.support.ports import free_port
from tests.support.raw_server import Deed, answer, close, hang, raw, reset, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Of no form that redact() knows: what is tested is that they do not get anywhere, not that they are taken out again.
ACCESS = "an-access-token-that-nobody-may-see"
REFRESH = "a-refresh-token-that-nobody-may-see"
CODE = "an-authorization-code-that-nobody-may-see"
SEARCH = "anna@example.com"  # of a query
SECRETS = (ACCESS, REFRESH, CODE, SECRET, KEY, SEARCH)

OAUTH = "/oauth2/access_token"
ECHO = {"title": ACCESS, "detail": REFRESH, "validation-errors": [{"errors": [{"code": CODE, "path": SEARCH}]}]}


def told(error: BaseException) -> str:
    """All that a traceback, its local variables, and Sentry would show of an error; without the test's own frames."""
    own = error.__traceback__
    while own is not None and "tests" in own.tb_frame.f_code.co_filename:
        own = own.tb_next
    error = error.with_traceback(own)
    seen = traceback.TracebackException.from_exception(error, capture_locals=True)
    client = sentry_sdk.Client(dsn="http://key@127.0.0.1:1/1", default_integrations=False)
    event, _hint = sentry_sdk.utils.event_from_exception(error, client_options=client.options)
    client.close()
    texts: list[str] = []
    chain: BaseException | None = error
    while chain is not None:
        texts += [str(chain), repr(chain)]
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    return "\n".join([*seen.format(), str(event), *texts])


@pytest_asyncio.fixture(loop_scope="module")
async def lines(kommo_settings: Settings) -> AsyncIterator[Callable[[], str]]:
    """The log lines of everyone, at DEBUG, libraries too."""
    stream = io.StringIO()
    quiet = {name: logging.getLogger(name).level for name in ("httpx", "httpcore", "asyncio")}
    with logging_to(kommo_settings.model_copy(update={"log_level": "DEBUG", "log_format": "json"}), stream):
        for name in quiet:
            logging.getLogger(name).setLevel(logging.DEBUG)
        # httpx itself writes whole URLs at INFO; a process lets it write warnings only.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        yield stream.getvalue
    for name, level in quiet.items():
        logging.getLogger(name).setLevel(level)
    text = stream.getvalue()
    assert "send_request_headers" in text, "httpcore has spoken"
    for secret in SECRETS:
        assert secret not in text


FAILURES: dict[str, Deed] = {
    "closed": close,
    "reset": reset,
    "hung": hang,
    "no HTTP": raw(b"SSH-2.0-OpenSSH\r\n"),
    "half an answer": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
    "a strange header": raw(b"HTTP/1.1 200 OK\r\nContent Length: 99\r\n\r\n{"),
    "no JSON": answer(200, ACCESS),
    **{str(status): answer(status, ECHO) for status in (400, 401, 403, 404, 429, 500)},
    "a page": answer(502, f"<html>{ACCESS} {SEARCH}</html>"),
}


async def of(clients: KommoClients, base_url: str, **other: Any) -> Kommo:
    await clients.store.put(credentials(base_url, access=ACCESS, **other))
    return clients.client(ACCOUNT)


@pytest.mark.parametrize("patience", [0.1])
@pytest.mark.parametrize("deed", FAILURES.values(), ids=FAILURES)
async def test_of_a_request_that_fails(
    deed: Deed, clients: KommoClients, lines: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAUSE_AFTER_429", 0.01)
    async with serving(otherwise=deed) as server:
        server.by_path[OAUTH] = [answer(400, ECHO)]
        kommo = await of(clients, server.base_url, refresh=REFRESH)
        with pytest.raises(KommoError) as caught:
            await kommo.request("POST", "/leads", json=[{"name": "x"}], params={"query": SEARCH})
    found = told(caught.value)
    for secret in (ACCESS, REFRESH, CODE, SECRET, KEY):  # the query is what the caller gave, and is in its frames
        assert secret not in found
    for text in (str(caught.value), repr(caught.value), *traceback.format_exception(caught.value)):
        assert not any(secret in text for secret in SECRETS)
    logger("tests").error("it failed", exc_info=caught.value)


async def test_of_a_connection_that_is_refused(clients: KommoClients) -> None:
    kommo = await of(clients, f"http://127.0.0.1:{free_port()}", refresh=REFRESH)
    with pytest.raises(KommoError) as caught:
        await kommo.request("POST", "/leads", json=[])
    assert not any(secret in told(caught.value) for secret in SECRETS)


@pytest.mark.parametrize("patience", [0.1])
@pytest.mark.parametrize("deed", [close, reset, hang, answer(400, "{}"), answer(500), answer(200, "{")])
async def test_of_a_refresh_that_fails(deed: Deed, clients: KommoClients, lines: Callable[[], str]) -> None:
    async with serving(otherwise=deed) as server:
        kommo = await of(clients, server.base_url, refresh=REFRESH, lives=dt.timedelta(0))
        with pytest.raises(KommoError) as caught:
            await kommo.request("POST", "/leads", json=[])
        logger("tests").error("it failed", exc_info=caught.value)
        assert not any(secret in told(caught.value) for secret in SECRETS)
        with pytest.raises(KommoError) as caught:
            await clients.oauth.exchange_code(server.base_url, CLIENT, REDIRECT, SecretStr(CODE))
        assert not any(secret in told(caught.value) for secret in SECRETS)


async def test_of_what_before_send_raises(clients: KommoClients, lines: Callable[[], str]) -> None:
    """No frame of the HTTP library, which holds the token, is between it and whoever called."""

    async def before_send() -> None:
        raise RuntimeError("the lease is lost")

    async with serving(otherwise=answer(200, {})) as server:
        kommo = await of(clients, server.base_url)
        await kommo.request("GET", "/account")
        with pytest.raises(RuntimeError) as caught:
            await kommo.request("POST", "/leads", json=[], before_send=before_send, params={"query": SEARCH})
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not any("httpx" in file or "httpcore" in file for file in files), files
    assert "before_send" in "".join(traceback.format_tb(caught.value.__traceback__))


async def test_of_a_request_that_is_cancelled(clients: KommoClients) -> None:
    async with serving(otherwise=hang) as server:
        kommo = await of(clients, server.base_url)
        task = asyncio.create_task(kommo.request("POST", "/leads", json=[]))
        while not server.got:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert not any(secret in told(caught.value) for secret in SECRETS)


async def test_of_what_is_kept_and_passed_on(clients: KommoClients) -> None:
    made = credentials("http://127.0.0.1:1", access=ACCESS, refresh=REFRESH)
    await clients.store.put(made)
    kommo = await clients.of(ACCOUNT)
    things = [made, made.pair, kommo, vars(kommo), vars(kommo._tokens), clients, vars(clients), vars(clients.oauth)]
    for thing in things:
        assert not any(secret in repr(thing) for secret in SECRETS)
