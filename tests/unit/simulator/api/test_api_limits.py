from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest

from simulator.api import Limits, simulated_kommo
from simulator.api.errors import Refused
from simulator.api.limits import Gatekeeper
from tests.unit.simulator.api.support import ACCOUNT, OTHER, client, kommo_and_client


def refused(gate: Gatekeeper, account: int, address: str, now: float) -> int:
    try:
        gate.admit_address(address, now)
        gate.admit(account, address, now)
    except Refused as answer:
        return answer.status
    return 200


def test_seven_a_second_are_let_in_however_they_come() -> None:
    gate = Gatekeeper(Limits(block_after=1000))
    assert [refused(gate, ACCOUNT, "a", 10.0) for _ in range(9)] == [200] * 7 + [429] * 2
    assert refused(gate, OTHER, "a", 10.0) == 200
    assert refused(gate, ACCOUNT, "a", 10.8) == 429
    assert [refused(gate, ACCOUNT, "a", 11.0) for _ in range(8)] == [200] * 7 + [429]
    spaced = [refused(gate, OTHER, "a", 20 + number / 7) for number in range(200)]
    assert set(spaced) == {200}
    hurried = [refused(gate, OTHER, "a", 60 + number / 14) for number in range(280)]
    assert 140 <= hurried.count(200) <= 160  # 20 seconds


def test_too_much_excess_blocks_the_address_of_whoever_goes_on() -> None:
    gate = Gatekeeper(Limits(rate=1, block_after=3, block_window=10, block_seconds=60))
    found = [refused(gate, ACCOUNT, "a", 5.0) for _ in range(6)]
    assert found == [200, 429, 429, 429, 429, 403]
    assert refused(gate, OTHER, "a", 6.0) == 403
    assert refused(gate, OTHER, "b", 6.0) == 200
    assert refused(gate, OTHER, "a", 64.9) == 403
    assert refused(gate, OTHER, "a", 65.0) == 200
    slow = [refused(gate, ACCOUNT, "c", 100 + 4 * number + part) for number in range(20) for part in (0, 0.1)]
    assert slow.count(429) == 20
    assert 403 not in slow


async def test_the_eighth_request_of_a_second_is_answered_429(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.api.door.monotonic", lambda: 10.0)  # all of this in one moment
    async with simulated_kommo() as kommo, client(kommo) as http, client(kommo, OTHER) as other:
        answers = await asyncio.gather(*(http.get("/account") for _ in range(10)))
        assert sorted(answer.status_code for answer in answers) == [200] * 7 + [429] * 3
        told = next(answer for answer in answers if answer.status_code == 429).json()
        assert (told["title"], told["status"], told["retry_after"]) == ("Too Many Requests", 429, 1)
        assert (await other.get("/account")).status_code == 200


async def test_nothing_is_done_by_a_request_too_many() -> None:
    async with kommo_and_client(limits=Limits(rate=0.1)) as (kommo, http):
        assert (await http.post("/leads", json=[{"name": "A"}])).status_code == 200
        assert (await http.post("/leads", json=[{"name": "B"}])).status_code == 429
        assert [effect.item["name"] for effect in kommo.ledger.effects] == ["A"]


async def test_a_429_may_be_no_json() -> None:
    async with kommo_and_client(limits=Limits(rate=0.1, json_429=False)) as (_, http):
        await http.get("/account")
        answer = await http.get("/account")
    assert answer.status_code == 429
    assert answer.headers["content-type"].startswith("text/html")
    with pytest.raises(ValueError):
        answer.json()


async def test_a_blocked_address_gets_plain_403_to_everything_and_others_do_not() -> None:
    limits = Limits(rate=0.1, block_after=2, block_seconds=3600)
    async with kommo_and_client(limits=limits) as (kommo, http), client(kommo, OTHER) as other:
        statuses = [(await http.get("/account")).status_code for _ in range(5)]
        assert statuses == [200, 429, 429, 429, 403]
        blocked = await other.get("/account")
        assert (blocked.status_code, blocked.text) == (403, "403 Forbidden")
        own = kommo.integration
        token = await other.post(f"{kommo.base_url}/oauth2/access_token", json={"client_id": own.client_id})
        assert token.status_code == 403
        with contextlib.suppress(httpx.ConnectError):  # a machine without a second loopback address
            async with client(kommo, OTHER, address="127.0.0.2") as elsewhere:
                assert (await elsewhere.get("/account")).status_code == 200
        await other.post(f"{kommo.base_url}/_simulator/unblock")
        async with client(kommo, 5) as third:
            assert (await third.get("/leads")).status_code == 204


async def test_without_limits_all_are_let_in() -> None:
    async with kommo_and_client() as (_, http):
        answers = await asyncio.gather(*(http.get("/account") for _ in range(60)))
    assert {answer.status_code for answer in answers} == {200}
