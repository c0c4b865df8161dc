"""GET /integrations/disabled on a real Kafka: what it answers, what is stored, and what ingest makes of it."""

from __future__ import annotations

import time
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

from gateway.disabled import DisabledDoor
from gateway.intake import Intake
from gateway.integrations import Integrations
from gateway.process import gateway
from runtime.logs import logging_to
from runtime.process import StartError
from runtime.settings import Settings
from schemas.decoder import decode
from schemas.delivery import Delivery, read_delivery
from streams.accounts import AccountSettings, write_account
from tests.integration.gateway.support import ACCOUNT, NO_KAFKA, is_ready, opened, path, records
from tests.support.servers import OwnServers, Servers
from tests.support.waiting import eventually, running
from tests.unit.gateway.test_integrations import CLIENT, OTHER, OTHER_SECRET, SECRET, signed, wrong_queries

DOOR = "/integrations/disabled"
AGENT = {"user-agent": "amoService-oAuth-Code-Sender/1.0"}


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"integrations": SecretStr(f"{CLIENT}:{SECRET},{OTHER}:{OTHER_SECRET}")})


async def test_a_genuine_call_is_stored_without_its_signature_and_becomes_an_event(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    before = time.time_ns() // 1000
    for door in (DOOR, DOOR + "/"):
        answer = await client.get(f"{door}?{signed(ACCOUNT)}", headers=AGENT)
        assert (answer.status_code, answer.content) == (200, b"")
    assert (await client.get(f"{DOOR}?{signed(5, OTHER, OTHER_SECRET)}", headers=AGENT)).status_code == 200
    deliveries = [read_delivery(item.key, item.value, item.headers) for item in await records(settings)]
    assert sorted((item.account_id, item.body.decode()) for item in deliveries) == [
        (5, f"client_uuid={OTHER}&account_id=5"),
        *[(ACCOUNT, f"client_uuid={CLIENT}&account_id={ACCOUNT}")] * 2,
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


async def test_whatever_is_not_genuine_gets_one_answer(client: httpx.AsyncClient, settings: Settings) -> None:
    wrong = [*wrong_queries(), signed(ACCOUNT) + "&x=" + "y" * 40_000]
    wrong.remove(signed(32720107, OTHER, OTHER_SECRET))  # genuine here: both are known
    answers = [await client.get(f"{DOOR}{slash}?{query}") for query in wrong for slash in ("", "/")]
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    assert len({(answer.content, tuple(sorted(answer.headers))) for answer in answers}) == 1
    assert (await client.get(f"{DOOR}/more?{signed(ACCOUNT)}")).status_code == 404
    assert await records(settings) == []


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_refused(client: httpx.AsyncClient, settings: Settings, method: str) -> None:
    for slash in ("", "/"):
        answer = await client.request(method, f"{DOOR}{slash}?{signed(ACCOUNT)}")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET"
    assert await records(settings) == []


async def test_a_closed_account_and_revoked_addresses_do_not_matter(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    await write_account(settings, ACCOUNT, AccountSettings(closed=True, lowest_generation=9))

    async def closed() -> bool:
        return (await client.post(path(settings), content=b"")).status_code == 404

    await eventually(closed)
    stored = len(await records(settings))
    assert (await client.get(f"{DOOR}?{signed(ACCOUNT)}")).status_code == 200
    assert len(await records(settings)) == stored + 1


async def test_without_the_setting_nothing_is_genuine(servers: Servers, settings: Settings) -> None:
    settings = settings.model_copy(update={"integrations": None})
    async with running(lambda stop: gateway(settings, stop)):
        await opened(settings)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.gateway_port}") as client:
            assert (await client.get(f"{DOOR}?{signed(ACCOUNT)}")).status_code == 404
    assert await records(settings) == []


async def test_a_wrong_setting_ends_the_start(settings: Settings) -> None:
    settings = settings.model_copy(update={"integrations": SecretStr(f"{SECRET}:{CLIENT}")})
    with pytest.raises(StartError, match="INTEGRATIONS") as error:
        async with running(lambda stop: gateway(settings, stop)):
            pass
    assert SECRET not in str(error.value)


async def test_without_kafka_a_genuine_call_gets_503_and_others_404(settings: Settings) -> None:
    settings = settings.model_copy(update={"kafka_bootstrap_servers": NO_KAFKA})
    async with running(lambda stop: gateway(settings, stop)):
        await opened(settings)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.gateway_port}") as client:
            answer = await client.get(f"{DOOR}?{signed(ACCOUNT)}")
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert (await client.get(f"{DOOR}?{signed(ACCOUNT, secret=OTHER_SECRET)}")).status_code == 404


async def test_nothing_is_written_before_the_topics_are_known_to_be_there(settings: Settings) -> None:
    stored: list[Delivery] = []

    async def store(delivery: Delivery) -> None:
        stored.append(delivery)  # a broker might make the topic for it, with other settings than ours

    door = DisabledDoor(Integrations.from_settings(settings), Intake(store, ack_seconds=1), ready=lambda: False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://gateway") as client:
        assert (await client.get(f"{DOOR}?{signed(ACCOUNT)}")).status_code == 503
    assert stored == []


@pytest.mark.kills_servers
async def test_without_an_acknowledgement_it_answers_503_in_time_and_recovers(
    mortal_servers: OwnServers, client: httpx.AsyncClient, settings: Settings
) -> None:
    mortal_servers.embedded.kafka.kill()
    try:
        start = time.monotonic()
        answer = await client.get(f"{DOOR}?{signed(ACCOUNT)}")
        assert answer.status_code == 503
        assert answer.json()["error_class"] == "external_service"
        assert time.monotonic() - start < 1.9
    finally:
        mortal_servers.embedded.kafka.start()

    async def accepted() -> bool:
        return (await client.get(f"{DOOR}?{signed(7)}")).status_code == 200

    await eventually(accepted, 30)
    assert b"7" in [item.key for item in await records(settings)]


async def test_no_signature_or_secret_is_ever_logged(settings: Settings, tmp_path: Any) -> None:
    settings = settings.model_copy(update={"log_level": "DEBUG", "log_format": "json"})
    queries = [signed(ACCOUNT), signed(ACCOUNT) + "&x=1&x=2", signed(5, secret="another secret than that")]
    with (tmp_path / "log").open("w+") as stream, logging_to(settings, stream):
        async with running(lambda stop: gateway(settings, stop)):
            await opened(settings)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.gateway_port}") as client:
                await eventually(lambda: is_ready(client))
                for query in queries:
                    for method in ("GET", "POST", "HEAD"):
                        await client.request(method, f"{DOOR}?{query}")
                        await client.request(method, f"/elsewhere?{query}")
        settings = settings.model_copy(update={"kafka_bootstrap_servers": NO_KAFKA})
        async with running(lambda stop: gateway(settings, stop)):
            await opened(settings)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.gateway_port}") as client:
                assert (await client.get(f"{DOOR}?{queries[0]}")).status_code == 503
    lines = (tmp_path / "log").read_text()
    assert "accepted" in lines
    for secret in (SECRET, OTHER_SECRET, "signature", *(query.split("signature=")[1][:64] for query in queries)):
        assert secret not in lines
