"""GET /integrations/disabled on a real Kafka: what it answers, what is stored, and what ingest makes of it."""

from __future__ import annotations

import time
from typing import Any

import httpx
import orjson
import pytest

from gateway.process import gateway
from runtime.logs import logging_to
from runtime.settings import Settings
from schemas.decoder import decode
from schemas.delivery import read_delivery
from streams.accounts import AccountSettings, write_account
from tests.integration.gateway.support import gateway_with, records, stored
from tests.support.gateway import NO_KAFKA, client_of, opened, path
from tests.support.waiting import eventually, running
from tests.unit.gateway.test_integrations import CLIENT, OTHER, OTHER_SECRET, SECRET, signed, wrong_queries

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOOR = "/integrations/disabled"
AGENT = {"user-agent": "amoService-oAuth-Code-Sender/1.0"}


async def test_a_genuine_call_is_stored_without_its_signature_and_becomes_an_event(
    client: httpx.AsyncClient, settings: Settings, account: int
) -> None:
    other, before = account + 1, time.time_ns() // 1000
    for door in (DOOR, DOOR + "/"):
        answer = await client.get(f"{door}?{signed(account)}", headers=AGENT)
        assert (answer.status_code, answer.content) == (200, b"")
    assert (await client.get(f"{DOOR}?{signed(other, OTHER, OTHER_SECRET)}", headers=AGENT)).status_code == 200
    found = await records(settings, account, other)
    deliveries = [read_delivery(item.key, item.value, item.headers) for item in found]
    assert sorted((item.account_id, item.body.decode()) for item in deliveries) == [
        *[(account, f"client_uuid={CLIENT}&account_id={account}")] * 2,
        (other, f"client_uuid={OTHER}&account_id={other}"),
    ]
    assert {item.door for item in deliveries} == {"integration-disabled"}
    assert {item.user_agent for item in deliveries} == {AGENT["user-agent"]}
    assert {item.remote_address for item in deliveries} == {"127.0.0.1"}
    assert len({item.delivery_id for item in deliveries}) == 3
    assert all(before <= item.received_us <= time.time_ns() // 1000 for item in deliveries)
    for delivery in deliveries:
        decoded = decode(delivery)
        assert decoded.rejections == []
        event = orjson.loads(decoded.events[0].value)
        assert event["type"] == "kommo.integration.disabled"
        assert event["accountid"] == str(delivery.account_id)
        assert "signature" not in decoded.events[0].value.decode()


async def test_whatever_is_not_genuine_gets_one_answer(
    client: httpx.AsyncClient, settings: Settings, account: int
) -> None:
    before = await stored(settings)
    wrong = [*wrong_queries(), signed(account) + "&x=" + "y" * 40_000]
    wrong.remove(signed(32720107, OTHER, OTHER_SECRET))  # genuine here: both are known
    answers = [await client.get(f"{DOOR}{slash}?{query}") for query in wrong for slash in ("", "/")]
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    assert len({(answer.content, tuple(sorted(answer.headers))) for answer in answers}) == 1
    assert (await client.get(f"{DOOR}/more?{signed(account)}")).status_code == 404
    assert await stored(settings) == before


async def test_other_methods_are_refused(client: httpx.AsyncClient, settings: Settings, account: int) -> None:
    before = await stored(settings)
    for method in ("HEAD", "POST", "PUT", "DELETE", "PATCH"):
        for slash in ("", "/"):
            answer = await client.request(method, f"{DOOR}{slash}?{signed(account)}")
            assert (method, answer.status_code, answer.headers["allow"]) == (method, 405, "GET")
    assert await stored(settings) == before


async def test_a_closed_account_and_revoked_addresses_do_not_matter(
    client: httpx.AsyncClient, settings: Settings, account: int
) -> None:
    await write_account(settings, account, AccountSettings(closed=True, lowest_generation=9))

    async def closed() -> bool:
        return (await client.post(path(settings, account), content=b"")).status_code == 404

    await eventually(closed)
    before = len(await records(settings, account))
    assert (await client.get(f"{DOOR}?{signed(account)}")).status_code == 200
    assert len(await records(settings, account)) == before + 1


async def test_without_the_setting_nothing_is_genuine(settings: Settings, account: int) -> None:
    async with gateway_with(settings, integrations=None) as own, client_of(own) as client:
        before = await stored(own)
        assert (await client.get(f"{DOOR}?{signed(account)}")).status_code == 404
        assert await stored(own) == before


async def test_no_signature_or_secret_is_ever_logged(settings: Settings, account: int, tmp_path: Any) -> None:
    settings = settings.model_copy(update={"log_level": "DEBUG", "log_format": "json"})
    queries = [signed(account), signed(account) + "&x=1&x=2", signed(account + 1, secret="another secret than that")]
    with (tmp_path / "log").open("w+") as stream, logging_to(settings, stream):
        async with gateway_with(settings) as own, client_of(own) as client:
            for query in queries:
                for method in ("GET", "POST", "HEAD"):
                    await client.request(method, f"{DOOR}?{query}")
                    await client.request(method, f"/elsewhere?{query}")
        away = own.model_copy(update={"kafka_bootstrap_servers": NO_KAFKA})
        async with running(lambda stop: gateway(away, stop)), client_of(away) as client:
            await opened(away)
            assert (await client.get(f"{DOOR}?{queries[0]}")).status_code == 503
    lines = (tmp_path / "log").read_text()
    assert "accepted" in lines
    for secret in (SECRET, OTHER_SECRET, "signature", *(query.split("signature=")[1][:64] for query in queries)):
        assert secret not in lines
