"""What the wire does to a request: each misbehaviour is one error, which says whether the request may have left."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
import tracemalloc
from typing import Any

import pytest
import trustme

from agents.kommo import client
from agents.kommo.clients import KommoClients
from agents.kommo.problems import KommoError
from agents.kommo.wire import CONNECTIONS, MOST_BYTES
from runtime.settings import Settings
from schemas.errors import ErrorClass
from tests.integration.agents.kommo.conftest import Connect
from tests.support.credentials import ACCOUNT
from tests.support.ports import free_port
from tests.support.raw_server import Deed, answer, close, hang, raw, reset, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PROBLEM = {"title": "Bad Request", "type": "https://httpstatus.es/400", "status": 400, "detail": "no"}


async def failure(deed: Deed, connected: Connect, method: str = "POST", **other: Any) -> KommoError:
    async with serving(deed, otherwise=answer(418)) as server:
        kommo = await connected(server.base_url)
        with pytest.raises(KommoError) as caught:
            await kommo.request(method, "/leads", json=[{"name": "x"}], **other)
        assert len(server.got) == 1, "a write is sent once"
        return caught.value


LEFT = {
    "closed": close,
    "reset": reset,
    "hung": hang,
    "reset in the head": raw(b"HTTP/1.1 200 OK\r\nContent-", end="reset"),
    "reset in the body": raw(HEAD + b'Content-Length: 100\r\n\r\n{"_embedded"', end="reset"),
    "closed in the body": raw(HEAD + b'Content-Length: 100\r\n\r\n{"_embedded"'),
    "hung in the body": raw(HEAD + b'Content-Length: 100\r\n\r\n{"_embedded"', end="hang"),
    "dripping": raw(HEAD + b"Content-Length: 100\r\n\r\n", *([b"x"] * 99), every=0.05, end="hang"),
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "no JSON": answer(200, "<html>fine</html>"),
    "half a JSON": answer(200, '{"_embedded":{"leads":[{"id"'),
    "an empty 200": answer(200),
    "an unknown encoding": answer(200, b"xxx", {"Content-Encoding": "br"}),
    "no gzip": answer(200, b"xxx", {"Content-Encoding": "gzip"}),
    "half a gzip": answer(200, gzip.compress(b'{"a":1}')[:-4], {"Content-Encoding": "gzip"}),
    "too large": answer(200, gzip.compress(b" " * (MOST_BYTES + 1)), {"Content-Encoding": "gzip"}),
    "500": answer(500, {"title": "ErrInternalServer", "trace_id": "1"}),
    "502 as a page": answer(502, "<html>Bad Gateway</html>"),
    "504": answer(504, {"title": "Gateway Timeout"}),
}


@pytest.mark.parametrize("patience", [0.25])
@pytest.mark.parametrize("deed", LEFT.values(), ids=LEFT)
async def test_what_may_have_left_says_so_and_is_not_repeated(deed: Deed, connected: Connect) -> None:
    began = time.monotonic()
    error = await failure(deed, connected)
    assert (error.error_class, error.left) == (ErrorClass.EXTERNAL_SERVICE, True)
    assert time.monotonic() - began < 4, "also a dripping answer has to be there whole"


REFUSED = {
    "400": (answer(400, PROBLEM), ErrorClass.VALIDATION),
    "402": (answer(402, PROBLEM), ErrorClass.AUTHORIZATION),
    "403 of a right": (answer(403, {"title": "Forbidden"}), ErrorClass.AUTHORIZATION),
    "403 of a block": (answer(403, "403 Forbidden", {"Content-Type": "text/html"}), ErrorClass.RATE_LIMIT),
    "404": (answer(404, PROBLEM), ErrorClass.NOT_FOUND),
    "405": (answer(405, PROBLEM), ErrorClass.VALIDATION),
    "409": (answer(409, PROBLEM), ErrorClass.VALIDATION),
    "422": (answer(422, PROBLEM), ErrorClass.VALIDATION),
    "429 for long": (answer(429, {"retry_after": 300}), ErrorClass.RATE_LIMIT),
    "a truncated 400": (
        raw(b"HTTP/1.1 400 X\r\nContent-Length: 100\r\n\r\n{", end="reset"),
        ErrorClass.VALIDATION,
    ),
}


@pytest.mark.parametrize(("deed", "error_class"), REFUSED.values(), ids=REFUSED)
async def test_what_was_refused_has_not_happened(deed: Deed, error_class: ErrorClass, connected: Connect) -> None:
    error = await failure(deed, connected)
    assert (error.error_class, error.left) == (error_class, False)


@pytest.mark.parametrize("patience", [0.25])
async def test_a_refusal_whose_body_does_not_come_is_one(connected: Connect) -> None:
    error = await failure(raw(b"HTTP/1.1 422 X\r\nContent-Length: 100\r\n\r\n{", end="hang"), connected)
    assert (error.error_class, error.status, error.left) == (ErrorClass.VALIDATION, 422, False)


async def test_a_redirect_is_not_followed(connected: Connect) -> None:
    async with serving() as other, serving() as server:
        server.otherwise = answer(307, None, {"Location": f"{other.base_url}/api/v4/leads"})
        other.otherwise = answer(200, {})
        kommo = await connected(server.base_url)
        with pytest.raises(KommoError) as caught:
            await kommo.request("POST", "/leads", json=[])
        assert (caught.value.status, caught.value.left) == (307, False)
        assert other.got == []


async def test_a_refused_connection_is_tried_again_and_has_not_left(connected: Connect) -> None:
    kommo = await connected(f"http://127.0.0.1:{free_port()}")
    sent = []

    async def before_send() -> None:
        sent.append(1)

    with pytest.raises(KommoError) as caught:
        await kommo.request("POST", "/leads", json=[], before_send=before_send)
    assert (caught.value.error_class, caught.value.left, sent) == (ErrorClass.EXTERNAL_SERVICE, False, [])


async def test_an_unknown_host_has_not_left(connected: Connect) -> None:
    kommo = await connected("https://nowhere.invalid")
    with pytest.raises(KommoError) as caught:
        await kommo.request("POST", "/leads", json=[])
    assert (caught.value.error_class, caught.value.left) == (ErrorClass.EXTERNAL_SERVICE, False)


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    kommo_settings: Settings, pool: Any, connected: Connect
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with serving(otherwise=answer(200, {}), tls=tls) as server:
        await connected(server.base_url)
        async with KommoClients(kommo_settings, pool) as own:
            with pytest.raises(KommoError) as caught:
                await own.client(ACCOUNT).request("POST", "/leads", json=[])
        assert (caught.value.left, server.got) == (False, [])


async def test_over_tls_all_is_the_same(kommo_settings: Settings, pool: Any, connected: Connect) -> None:
    authority = trustme.CA()
    tls, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(trust)
    async with serving(answer(200, {"ok": 1}), tls=tls) as server, KommoClients(kommo_settings, pool, tls=trust) as own:
        kommo = await connected(server.base_url)
        kommo = await own.of(kommo.account_id)
        assert (await kommo.request("GET", "/account")).body == {"ok": 1}


async def test_what_before_send_raises_is_raised_and_no_byte_has_left(connected: Connect) -> None:
    class Lost(Exception):
        pass

    async def before_send() -> None:
        raise Lost

    async with serving(otherwise=answer(200, {})) as server:
        kommo = await connected(server.base_url)
        with pytest.raises(Lost):
            await kommo.request("POST", "/leads", json=[], before_send=before_send)
        assert server.connections == 1, "it is called when the connection is there"
        await asyncio.sleep(0.05)
        assert server.got == []
        assert (await kommo.request("POST", "/leads", json=[])).status == 200


async def test_before_send_is_asked_before_each_attempt(connected: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAUSE_AFTER_429", 0.01)
    asked = []

    async def before_send() -> None:
        asked.append(len(server.got))

    async with serving(answer(429, "slow down"), answer(429, {"retry_after": 0}), answer(200, {})) as server:
        kommo = await connected(server.base_url)
        await kommo.request("POST", "/leads", json=[], before_send=before_send)
    assert asked == [0, 1, 2]


async def test_an_unpacked_body_is_bounded_in_memory(connected: Connect) -> None:
    bomb = gzip.compress(b" " * (4 * MOST_BYTES))
    async with serving(otherwise=answer(200, bomb, {"Content-Encoding": "gzip"})) as server:
        kommo = await connected(server.base_url)
        await kommo.credentials()
        tracemalloc.start()
        try:
            with pytest.raises(KommoError, match="Unreadable"):
                await kommo.request("POST", "/leads", json=[])
            assert tracemalloc.get_traced_memory()[1] < 3 * MOST_BYTES
        finally:
            tracemalloc.stop()


ACCOUNTS = 14
"""So many that their connections are more than one pool of httpx's has, 100."""


@pytest.mark.parametrize("patience", [60.0])
async def test_accounts_that_hang_hold_up_no_other(clients: KommoClients, connected: Connect) -> None:
    """Each fills its own connections only, also where all are behind one address."""
    async with serving(otherwise=hang) as bad, serving(otherwise=answer(200, {})) as good:
        hanging = [await connected(bad.base_url, number) for number in range(1, 1 + ACCOUNTS)]
        calls = [asyncio.create_task(kommo.request("POST", "/leads", json=[])) for kommo in hanging for _ in range(12)]
        while len(bad.got) < ACCOUNTS * CONNECTIONS:
            await asyncio.sleep(0.01)
        kommo = await connected(good.base_url)
        for _ in range(20):
            await kommo.request("POST", "/leads", json=[])
        assert len(bad.got) == bad.connections == ACCOUNTS * CONNECTIONS, "no account has more at once"
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
