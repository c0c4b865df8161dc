"""The gateway on a real Kafka: what it answers, and that what it accepted is in the log exactly as received."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from gateway.commands import _address
from gateway.process import gateway
from runtime.logs import logging_to
from runtime.settings import Settings
from schemas.delivery import MAX_BODY_BYTES, read_delivery
from streams.accounts import AccountSettings, write_account
from streams.topics import WEBHOOKS, physical
from tests.integration.gateway.conftest import INTEGRATIONS
from tests.integration.gateway.support import FORM, gateway_with, records, stored
from tests.support.gateway import client_of, is_ready, opened, path, shown
from tests.support.installation import delete_topics, installation
from tests.support.servers import OwnServers, Servers
from tests.support.waiting import eventually, running
from tests.unit.gateway.test_integrations import signed

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_accepted_delivery_is_in_the_log_exactly_as_received(
    client: httpx.AsyncClient, settings: Settings, account: int
) -> None:
    bodies = [b"leads%5Badd%5D%5B0%5D%5Bid%5D=1", b"", bytes(range(256)) * 40, b"\xff\xfe not a form", b"a=b\r\n"]
    before = time.time_ns() // 1000
    for number, body in enumerate(bodies):
        slash = "/" if number % 2 else ""
        headers = {**FORM, "user-agent": "amoCRM-Webhooks/3.0", "x-amocrm-requestid": f"r{number}"}
        answer = await client.post(path(settings, account) + slash, content=body, headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
    deliveries = [read_delivery(item.key, item.value, item.headers) for item in await records(settings, account)]
    assert [item.body for item in deliveries] == bodies
    assert [item.request_id for item in deliveries] == [f"r{number}" for number in range(len(bodies))]
    assert {item.account_id for item in deliveries} == {account}
    assert {item.user_agent for item in deliveries} == {"amoCRM-Webhooks/3.0"}
    assert {item.content_type for item in deliveries} == {FORM["content-type"]}
    assert {item.remote_address for item in deliveries} == {"127.0.0.1"}
    assert len({item.delivery_id for item in deliveries}) == len(bodies)
    assert all(before <= item.received_us <= time.time_ns() // 1000 for item in deliveries)


async def test_bodies_up_to_one_mebibyte_are_taken_and_larger_ones_refused(
    client: httpx.AsyncClient, settings: Settings, account: int
) -> None:
    async def stream(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 65536):
            yield b"\x01" * min(65536, size - start)

    address, before = path(settings, account), await stored(settings)
    assert (await client.post(address, content=b"\x01" * MAX_BODY_BYTES)).status_code == 200
    assert (await client.post(address, content=b"\x01" * (MAX_BODY_BYTES + 1))).status_code == 413
    assert (await client.post(address, content=stream(MAX_BODY_BYTES))).status_code == 200
    assert (await client.post(address, content=stream(MAX_BODY_BYTES * 4))).status_code == 413
    with contextlib.suppress(httpx.TransportError):  # the connection ends while the client is still sending
        assert (await client.post(address, content=stream(MAX_BODY_BYTES * 20))).status_code == 413
    assert [len(item.value) for item in await records(settings, account)] == [MAX_BODY_BYTES] * 2
    assert await stored(settings) == before + 2


async def test_unknown_forged_revoked_and_malformed_tokens_get_one_answer(
    client: httpx.AsyncClient, settings: Settings, account: int
) -> None:
    closed = account + 1
    await write_account(settings, account, AccountSettings(lowest_generation=2))
    await write_account(settings, closed, AccountSettings(closed=True))

    async def learnt() -> bool:
        answers = [await client.post(path(settings, item), content=b"") for item in (account, closed)]
        return {answer.status_code for answer in answers} == {404}

    await eventually(learnt)
    before = await stored(settings)  # the empty ones, sent before it was known that their addresses are revoked
    genuine = path(settings, account, generation=2)
    forged = genuine[:-1] + ("A" if genuine[-1] != "A" else "B")
    wrong = [
        path(settings, account),
        path(settings, closed),
        forged,
        "/webhooks/",
        "/webhooks/x",
        "/webhooks/" + "a" * 9000,
        "/",
        "/x",
    ]
    answers = {(a.status_code, a.content) for a in [await client.post(item, content=b"a=1") for item in wrong]}
    assert len(answers) == 1
    assert next(iter(answers))[0] == 404
    assert (await client.post(genuine, content=b"a=1")).status_code == 200
    assert await stored(settings) == before + 1
    assert [item.value for item in await records(settings, account, closed) if item.value] == [b"a=1"]


async def test_revoking_ends_the_addresses_of_one_account_only(
    client: httpx.AsyncClient, settings: Settings, account: int
) -> None:
    settings = settings.model_copy(update={"gateway_url": str(client.base_url).rstrip("/")})
    first, other = await _address(settings, account, False), await _address(settings, account + 1, False)
    second = await _address(settings, account, True)

    async def gone() -> bool:
        return (await client.post(first, content=b"a=1")).status_code == 404

    await eventually(gone, 5)
    assert (await client.post(second, content=b"a=1")).status_code == 200
    assert (await client.post(other, content=b"a=1")).status_code == 200
    assert await _address(settings, account, False) == second


async def test_other_methods_are_refused(client: httpx.AsyncClient, settings: Settings, account: int) -> None:
    before = await stored(settings)
    for method in ("GET", "PUT", "DELETE", "HEAD", "PATCH"):
        answer = await client.request(method, path(settings, account))
        assert (method, answer.status_code, answer.headers["allow"]) == (method, 405, "POST")
    assert await stored(settings) == before


async def test_a_body_that_stalls_is_cut_off_and_counted(settings: Settings, account: int) -> None:
    async with gateway_with(settings, gateway_body_seconds=0.3) as own:
        before = await stored(own)
        assert shown()[2] == 0
        reader, writer = await asyncio.open_connection("127.0.0.1", own.gateway_port)
        writer.write(f"POST {path(own, account)} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc".encode())
        answer = await asyncio.wait_for(reader.read(), 5)  # to its end: the connection is closed
        assert answer.startswith(b"HTTP/1.1 408 ")
        writer.close()
        await eventually(lambda: shown()[2] == 1)
        assert await stored(own) == before


async def test_a_client_that_leaves_in_the_middle_stores_nothing(
    client: httpx.AsyncClient, settings: Settings, account: int
) -> None:
    before = await stored(settings)
    _reader, writer = await asyncio.open_connection("127.0.0.1", settings.gateway_port)
    writer.write(f"POST {path(settings, account)} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc".encode())
    await writer.drain()
    writer.close()
    assert (await client.post(path(settings, account), content=b"a=1")).status_code == 200
    assert [item.value for item in await records(settings, account)] == [b"a=1"]
    assert await stored(settings) == before + 1


@pytest.mark.kills_servers
async def test_without_an_acknowledgement_it_answers_503_in_time_and_recovers(
    mortal_servers: OwnServers, account: int
) -> None:
    """Kafka is killed once: what webhooks and the call of a disabled integration are answered meanwhile, and after."""
    settings = installation(mortal_servers, mortal_servers.database_url).model_copy(
        update={"integrations": INTEGRATIONS}
    )

    async def timed(request: Any) -> float:
        began = time.monotonic()
        answer = await request
        assert answer.status_code == 503
        assert answer.json()["error_class"] == "external_service"
        return time.monotonic() - began

    async def not_ready() -> bool:
        return "kafka" in (await client.get("/readyz")).json().get("not_ready", {})

    async with running(lambda stop: gateway(settings, stop)), client_of(settings) as client:
        await opened(settings)
        webhooks = [path(settings, account + number) for number in (1, 1, 1, 2)]
        mortal_servers.embedded.kafka.kill()
        try:
            posts = [timed(client.post(address, content=b"lost=1")) for address in webhooks]
            took = await asyncio.gather(*posts, timed(client.get(f"/integrations/disabled?{signed(account)}")))
            assert max(took) < 1.9  # Kommo waits 2 s
            assert shown() == (0, 0, 3)  # each account counts its own
            await eventually(not_ready)
        finally:
            mortal_servers.embedded.kafka.start()

        async def accepted(request: Any) -> bool:
            return bool((await request()).status_code == 200)

        await eventually(lambda: accepted(lambda: client.post(webhooks[0], content=b"kept=1")), 30)
        await eventually(lambda: accepted(lambda: client.get(f"/integrations/disabled?{signed(account)}")), 30)
        await eventually(lambda: is_ready(client), 30)
        assert b"kept=1" in [item.value for item in await records(settings, account + 1)]
        assert await records(settings, account)
    await delete_topics(settings)


async def test_no_token_is_ever_logged(settings: Settings, account: int, tmp_path: Any) -> None:
    settings = settings.model_copy(update={"log_level": "DEBUG", "log_format": "json"})
    with (tmp_path / "log").open("w+") as stream, logging_to(settings, stream):
        async with gateway_with(settings) as own, client_of(own) as client:
            token = path(own, account)
            for address in (token, token + "/", token + "x", token + "?a=1"):
                await client.post(address, content=b"a=1")
                await client.get(address)
    lines = (tmp_path / "log").read_text()
    assert "accepted" in lines
    assert token.rpartition(".")[2] not in lines
    assert KEY_SECRET not in lines


KEY_SECRET = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"


@pytest.mark.parametrize("filler", [b"y" * 4096, b"X-n: yyyy\r\n" * 400], ids=["one header", "many headers"])
async def test_a_head_without_an_end_is_cut_off(client: httpx.AsyncClient, settings: Settings, filler: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", settings.gateway_port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nx: ")
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 4_000_000 and not reader.at_eof():
            writer.write(filler)
            await writer.drain()
            sent += len(filler)
            assert (await asyncio.wait_for(client.get("/livez"), 2)).status_code == 200
    assert sent < 1_000_000
    writer.close()


async def test_a_whole_head_with_a_body_behind_it_is_no_endless_head(
    client: httpx.AsyncClient, settings: Settings, account: int
) -> None:
    headers = {f"x-{number}": "y" * 500 for number in range(60)}
    answer = await client.post(path(settings, account), content=b"a" * MAX_BODY_BYTES, headers=headers)
    assert answer.status_code == 200


async def test_a_delivery_that_the_broker_refuses_does_not_stop_those_after_it(
    shared_servers: Servers, account: int
) -> None:
    settings = installation(shared_servers, shared_servers.database_url)  # its topic's own configuration is replaced
    async with running(lambda stop: gateway(settings, stop)), client_of(settings) as client:
        await opened(settings)
        address = path(settings, account)
        assert (await client.post(address, content=b"a=1")).status_code == 200
        await _set_max_message_bytes(settings, 10)

        async def refused() -> bool:
            return (await client.post(address, content=b"lost=1")).status_code == 503

        await eventually(refused)
        await _set_max_message_bytes(settings, 2 * 1024 * 1024)

        async def taken() -> bool:
            return (await client.post(address, content=b"kept=1")).status_code == 200

        await eventually(taken, 10)
        assert [(await client.post(address, content=b"after=1")).status_code for _ in range(10)] == [200] * 10
    await delete_topics(settings)


async def _set_max_message_bytes(settings: Settings, size: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    configs = {"max.message.bytes": str(size)}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, physical(settings, WEBHOOKS), configs)])
    await admin.close()
