"""Which answers of a gateway on a real Kafka are counted as bad ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.watch import SLOW_SECONDS
from runtime.settings import Settings
from schemas.delivery import MAX_BODY_BYTES
from streams.accounts import AccountSettings, write_account
from tests.support.gateway import path, shown
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_every_kind_of_bad_answer_is_counted_and_no_other(
    client: httpx.AsyncClient, settings: Settings, account: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoked = path(settings, account + 1)
    await write_account(settings, account + 1, AccountSettings(closed=True))

    async def closed() -> bool:
        return (await client.post(revoked, content=b"")).status_code == 404

    await eventually(closed)
    address = path(settings, account)
    for good in (
        client.post(address, content=b"a=1"),
        client.get(address),
        client.post(address + "x"),
        client.get("/"),
    ):
        await good
    for _ in range(3):
        await client.post(revoked, content=b"a=1")
    assert shown() == (0, 0, 0)
    assert (await client.post(address, content=b"\x01" * (MAX_BODY_BYTES + 1))).status_code == 413
    assert shown()[2] == 1
    assert SLOW_SECONDS == 2.0  # longest Kommo waits
    monkeypatch.setattr("gateway.door.SLOW_SECONDS", 0.2)
    assert (await client.post(address, content=slowly(0.3))).status_code == 200
    assert shown()[2] == 2  # 200, and too late
    monkeypatch.setattr("gateway.door.SLOW_SECONDS", 10.0)
    assert (await client.post(address, content=slowly(0.3))).status_code == 200
    assert shown()[2] == 2
    _reader, writer = await asyncio.open_connection("127.0.0.1", settings.gateway_port)
    writer.write(f"POST {address} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc".encode())
    await writer.drain()
    writer.close()
    await eventually(lambda: shown()[2] == 3)
    text = (await client.get("/metrics")).text
    assert "kommo_streams_gateway_worst_account_bad_answers 3.0" in text
    assert 'kommo_streams_gateway_accounts_near_disabling{threshold="50"} 0.0' in text
    assert str(account) not in text


async def slowly(seconds: float) -> AsyncIterator[bytes]:
    yield b"a="
    await asyncio.sleep(seconds)
    yield b"1"
