"""Requests as Kommo wants them, what is tried again in place, pages, the rate, and the circuits."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import json
import time
from email.utils import format_datetime
from typing import Any

import pytest

from agents.kommo import client as client_module
from agents.kommo.client import embedded
from agents.kommo.clients import KommoClients
from agents.kommo.problems import KommoError
from runtime.settings import Settings
from schemas.errors import ErrorClass
from tests.integration.agents.kommo.conftest import NO_TLS, Connect
from tests.support.credentials import ACCOUNT, TOKEN, credentials
from tests.support.raw_server import answer, reset, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_request_as_it_is_on_the_wire(connected: Connect) -> None:
    async with serving(
        answer(200, {"id": 1}), answer(200, gzip.compress(b"[2]"), {"Content-Encoding": "gzip"})
    ) as server:
        kommo = await connected(server.base_url)
        first = await kommo.request(
            "POST", "/leads/5/notes", json=[{"name": "Größe"}], params={"with": "a b", "x": [1, 2]}
        )
        second = await kommo.request("GET", "/account")
    assert (first.status, first.body, second.body) == (200, {"id": 1}, [2])
    posted, read = server.got
    assert (posted.method, posted.target) == ("POST", "/api/v4/leads/5/notes?with=a+b&x=1&x=2")
    assert posted.headers["authorization"] == f"Bearer {TOKEN}"
    assert posted.headers["content-type"] == "application/json"
    assert json.loads(posted.body) == [{"name": "Größe"}]
    assert (read.body, "content-type" in read.headers) == (b"", False)
    assert posted.connection == read.connection, "a connection is used again"


@pytest.mark.parametrize(
    "path",
    ["", "leads", "/", "/leads?x=1", "/../x", "/leads/../x", "/leads/%2e", "//x", "https://x", "/a b", "/a/"],
)
async def test_a_path_is_plain(path: str, clients: KommoClients) -> None:
    with pytest.raises(ValueError, match="path"):
        await clients.client(ACCOUNT).request("GET", path)


async def test_nothing_is_an_answer_unless_it_must_be_there(connected: Connect) -> None:
    async with serving(otherwise=answer(204)) as server:
        kommo = await connected(server.base_url)
        empty = await kommo.request("GET", "/leads")
        assert (empty.status, empty.body) == (204, None)
        with pytest.raises(KommoError) as caught:
            await kommo.request("GET", "/leads/1", must_exist=True)
        assert (caught.value.error_class, caught.value.status) == (ErrorClass.NOT_FOUND, 204)
        assert kommo.circuits.states() == {"leads": "closed"}


async def test_what_is_taken_is_an_answer_whatever_it_says(connected: Connect) -> None:
    async with serving(answer(202), answer(202, "taken"), answer(202, {"a": 1})) as server:
        kommo = await connected(server.base_url)
        bodies = [(await kommo.request("POST", "/bots/1/run", json={})).body for _ in range(3)]
    assert bodies == [None, None, {"a": 1}]


async def test_kommos_clock_is_known_from_any_answer(connected: Connect) -> None:
    ahead = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(minutes=10)
    date = {"Date": format_datetime(ahead, usegmt=True)}
    async with serving(answer(404, {}, date), answer(200, {}, date), answer(200, {}, {"Date": "now"})) as server:
        kommo = await connected(server.base_url)
        assert kommo.offset is None
        with pytest.raises(KommoError):
            await kommo.request("GET", "/leads/1")
        assert kommo.offset is not None
        assert abs(kommo.offset - dt.timedelta(minutes=10)) < dt.timedelta(seconds=5)
        assert (await kommo.request("GET", "/account")).date == ahead
        assert (await kommo.request("GET", "/account")).date is None


PASSING = {"reset": reset, "500": answer(500), "504": answer(504), "429": answer(429), "half": answer(200, '{"a"')}


@pytest.mark.parametrize("deed", PASSING.values(), ids=PASSING)
async def test_a_read_is_tried_three_times(deed: Any, connected: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAUSE_AFTER_429", 0.01)
    async with serving(deed, deed, answer(200, {"ok": 1}), otherwise=deed) as server:
        kommo = await connected(server.base_url)
        assert (await kommo.request("GET", "/leads")).body == {"ok": 1}
        with pytest.raises(KommoError):
            await kommo.request("POST", "/leads", json={}, read=True)
        assert len(server.got) == 6


@pytest.mark.parametrize("status", [400, 402, 403, 404, 405, 422])
async def test_what_stays_refused_is_not_tried_again(status: int, connected: Connect) -> None:
    async with serving(otherwise=answer(status, {})) as server:
        kommo = await connected(server.base_url)
        with pytest.raises(KommoError):
            await kommo.request("GET", "/leads")
        assert len(server.got) == 1


async def test_a_429_is_obeyed_also_by_other_requests_of_the_account(connected: Connect) -> None:
    async with serving(answer(429, {"retry_after": 1}), otherwise=answer(200, {})) as server:
        kommo = await connected(server.base_url)
        first = asyncio.create_task(kommo.request("POST", "/leads", json=[]))
        while not server.got:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        await kommo.request("POST", "/contacts", json=[])
        await first
    assert min(got.at for got in server.got[1:]) - server.got[0].at >= 0.99


async def test_a_429_for_long_is_not_waited_for(connected: Connect) -> None:
    async with serving(answer(429, "Too many", {"Retry-After": "6"}), otherwise=answer(200, {})) as server:
        kommo = await connected(server.base_url)
        for _ in range(2):  # the second is not even sent
            began = time.monotonic()
            with pytest.raises(KommoError) as caught:
                await kommo.request("POST", "/leads", json=[])
            assert time.monotonic() - began < 1
            assert (caught.value.error_class, caught.value.left) == (ErrorClass.RATE_LIMIT, False)
            assert caught.value.retry_after == pytest.approx(6, abs=1)
        assert len(server.got) == 1


async def test_a_block_of_the_address_stops_every_account(connected: Connect, clients: KommoClients) -> None:
    async with serving(answer(403, "403 Forbidden"), otherwise=answer(200, {})) as server:
        one = await connected(server.base_url)
        two = await connected(server.base_url, 2)
        for kommo in (one, two):
            with pytest.raises(KommoError) as caught:
                await kommo.request("GET", "/leads")
            assert (caught.value.blocked, caught.value.error_class) == (True, ErrorClass.RATE_LIMIT)
        assert len(server.got) == 1
        assert 40 < clients.address.state.blocked_seconds <= 60
        assert one.circuits.states() == {"leads": "closed"}


async def test_excess_of_two_accounts_slows_the_address(connected: Connect, clients: KommoClients) -> None:
    async with serving(otherwise=answer(429, {"retry_after": 60})) as server:
        for number in (1, 2):
            kommo = await connected(server.base_url, number)
            assert clients.address.state.rate is None
            with pytest.raises(KommoError):
                await kommo.request("GET", "/leads")
    assert clients.address.state.rate == pytest.approx(1, abs=0.1)


async def test_seven_a_second_and_no_more_reach_kommo(kommo_settings: Settings, pool: Any) -> None:
    seven = kommo_settings.model_copy(update={"kommo_rate": 7})
    async with (
        KommoClients(seven, pool, tls=NO_TLS) as clients,
        serving(otherwise=answer(200, {}, delay=0.02)) as server,
    ):
        await clients.store.put(credentials(server.base_url))
        kommo = await clients.of(ACCOUNT)
        began = time.monotonic()
        await asyncio.gather(*(kommo.request("GET", "/leads") for _ in range(14)))
        assert time.monotonic() - began < 1.9
    times = [got.at for got in server.got]
    assert len(times) == 14
    # The wire may bring two a little closer together than they were sent.
    assert all(later - first > 0.9 for first, later in zip(times, times[7:], strict=False))


@pytest.mark.parametrize("patience", [0.5])
async def test_who_waits_for_his_own_account_is_no_failure(kommo_settings: Settings, pool: Any) -> None:
    """Twenty requests at fourteen a second take longer than Kommo may take for an answer, half a second here."""
    slow = kommo_settings.model_copy(update={"kommo_rate": 14})
    async with KommoClients(slow, pool, tls=NO_TLS) as clients, serving(otherwise=answer(200, {})) as server:
        await clients.store.put(credentials(server.base_url))
        kommo = await clients.of(ACCOUNT)
        await asyncio.gather(*(kommo.request("POST", "/leads", json=[]) for _ in range(20)))
        assert len(server.got) == 20


async def test_a_circuit_opens_for_its_kind_only(connected: Connect) -> None:
    async with serving(otherwise=answer(500)) as server:
        kommo = await connected(server.base_url)
        for _ in range(5):
            with pytest.raises(KommoError):
                await kommo.request("POST", "/leads", json=[])
        with pytest.raises(KommoError, match="not sent") as caught:
            await kommo.request("POST", "/leads", json=[])
        assert (caught.value.left, caught.value.error_class) == (False, ErrorClass.EXTERNAL_SERVICE)
        assert caught.value.retry_after is not None
        assert 20 < caught.value.retry_after <= 30
        assert len(server.got) == 5
        server.otherwise = answer(200, {})
        await kommo.request("POST", "/leads/1/notes", json=[])
        assert kommo.circuits.states() == {"leads": "open", "notes": "closed"}


async def test_pages_are_followed_to_their_end(connected: Connect) -> None:
    async with serving() as server:

        def page(number: int, last: bool = False) -> Any:
            links = (
                {}
                if last
                else {"next": {"href": f"{server.base_url}/api/v4/leads?page={number + 1}&x%5B%5D=a&x%5B%5D=b"}}
            )
            return answer(200, {"_page": number, "_links": links, "_embedded": {"leads": [{"id": number}], "x": 1}})

        server.deeds = [page(1), page(2), page(3, last=True)]
        kommo = await connected(server.base_url)
        found = [page async for page in kommo.pages("/leads", {"filter[id][]": [1, 2]})]
        assert [item["id"] for page in found for item in embedded(page, "leads")] == [1, 2, 3]
        assert [got.target for got in server.got] == [
            "/api/v4/leads?filter%5Bid%5D%5B%5D=1&filter%5Bid%5D%5B%5D=2&limit=250",
            "/api/v4/leads?page=2&x%5B%5D=a&x%5B%5D=b",
            "/api/v4/leads?page=3&x%5B%5D=a&x%5B%5D=b",
        ]
        server.deeds = [page(1), answer(204)]
        assert len([page async for page in kommo.pages("/leads")]) == 1, "a list may end with a 204"
        server.deeds = [answer(204)]
        assert [page async for page in kommo.pages("/leads")] == []


@pytest.mark.parametrize(
    "href",
    [
        "https://evil.example/api/v4/leads?page=2",
        "http://127.0.0.1:1/api/v4/leads?page=2",
        "http://127.0.0.1@evil.example/api/v4/leads",
        "//evil.example/api/v4/leads",
        "{base}/oauth2/access_token",
        "{base}/api/v4/../../oauth2",
        "http://[",
        "{base}/api/v4",
    ],
)
async def test_a_next_page_elsewhere_gets_no_token(href: str, connected: Connect) -> None:
    async with serving() as server:
        link = {"next": {"href": href.replace("{base}", server.base_url)}}
        server.otherwise = answer(200, {"_links": link, "_embedded": {"leads": []}})
        kommo = await connected(server.base_url)
        with pytest.raises(KommoError, match="next page"):
            _ = [page async for page in kommo.pages("/leads")]
        assert len(server.got) == 1


async def test_pages_that_go_in_a_circle_end(connected: Connect) -> None:
    async with serving() as server:
        link = {"next": {"href": f"{server.base_url}/api/v4/leads?page=2"}}
        server.otherwise = answer(200, {"_links": link, "_embedded": {"leads": []}})
        kommo = await connected(server.base_url)
        with pytest.raises(KommoError, match="there before"):
            _ = [page async for page in kommo.pages("/leads")]


@pytest.mark.parametrize("body", [[], '"x"', 1, {"_links": 1}, {"_embedded": {"leads": {}}}, {"_links": {"next": []}}])
async def test_a_page_of_another_form_does_no_harm(body: Any, connected: Connect) -> None:
    async with serving(otherwise=answer(200, body)) as server:
        kommo = await connected(server.base_url)
        if isinstance(body, dict):
            assert [embedded(page, "leads") async for page in kommo.pages("/leads")] == [[]]
        else:
            with pytest.raises(KommoError, match="no object"):
                _ = [page async for page in kommo.pages("/leads")]


async def test_a_client_of_an_account_is_one_and_says_if_it_is_not_connected(clients: KommoClients) -> None:
    with pytest.raises(KommoError, match="account connect") as caught:
        await clients.of(ACCOUNT)
    assert caught.value.error_class is ErrorClass.AUTHENTICATION
    known = clients.known(ACCOUNT)
    assert known is not None  # its circuits are kept
    await clients.store.put(credentials("http://127.0.0.1:1"))
    found = await asyncio.gather(*(clients.of(ACCOUNT) for _ in range(5)))
    assert {id(kommo) for kommo in found} == {id(known)}


async def test_many_accounts_leave_no_pools_behind(
    clients: KommoClients, connected: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.kommo.wire.UNUSED_SECONDS", 0.05)
    async with serving(otherwise=answer(200, {})) as server:
        for number in range(1, 6):
            kommo = await connected(server.base_url, number)
            await kommo.request("GET", "/account")
        await asyncio.sleep(0.06)
        await kommo.request("GET", "/account")
        transport: Any = clients._http._transport
        assert list(transport._pools) == [5]
        kommo = await connected(server.base_url, 1)
        assert (await kommo.request("GET", "/account")).status == 200
