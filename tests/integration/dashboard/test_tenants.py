from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import redis.asyncio as redis

from projections.queries import ACTIVITY
from tests.integration.dashboard.support import ONE, TWO, Board, Rows, live, open_board

pytestmark = pytest.mark.asyncio(loop_scope="module")

THIRD = 4  # nobody's token names it
LISTS = ("/api/v1/activity", "/api/v1/recent-updates")


async def two_tenants(rows: Rows) -> None:
    for account in (ONE, TWO, THIRD):
        await rows.activity(account, summary=f"of {account}")
        await rows.update(account, summary=f"of {account}")


def accounts_of(page: dict[str, Any]) -> set[int]:
    return {item["account_id"] for item in page["items"]}


async def test_a_token_reads_its_own_accounts_only(board: Board, rows: Rows) -> None:
    await two_tenants(rows)
    mine, theirs, both, all_ = [await rows.token(*who) for who in ((ONE,), (TWO,), (ONE, TWO), ())]
    none = await rows.token(999)
    expected = [(mine, {ONE}), (theirs, {TWO}), (both, {ONE, TWO}), (all_, {ONE, TWO, THIRD}), (none, set())]
    for _ in range(2):  # the second time from the cache
        for path in LISTS:
            for token, accounts in expected:
                page = (await board.get(path, token)).json()
                assert accounts_of(page) == accounts
                assert len(page["items"]) == len(accounts)  # each row once
                wide = {"type": "kommo.lead.updated", "since": "2020-01-01T00:00:00Z", "entity": "lead/1"}
                assert accounts_of((await board.get(path, token, **wide)).json()) == accounts
            assert accounts_of((await board.get(path, both, account=TWO)).json()) == {TWO}
            assert accounts_of((await board.get(path, all_, account=TWO)).json()) == {TWO}


async def test_a_token_without_accounts_reads_nothing(board: Board, rows: Rows) -> None:
    await two_tenants(rows)
    token = await rows.token()
    await rows.connection.execute("UPDATE kommo.access_tokens SET accounts = '{}'")
    for path in LISTS:
        assert (await board.get(path, token)).json() == {"items": [], "next_cursor": None}


async def test_the_cache_keeps_tenants_and_installations_apart(
    board: Board, rows: Rows, redis_url: str, new_rows: tuple[Rows, str]
) -> None:
    await two_tenants(rows)
    assert len(await board.items("/api/v1/activity", await rows.token(ONE))) == 1
    cache = redis.from_url(redis_url)
    keys = [key.decode() async for key in cache.scan_iter("kommo-streams:*")]
    await cache.aclose()
    assert [key.partition(":activity_log:")[2] for key in keys] == [f"v{ACTIVITY.version}:{ONE}:50"]
    other_rows, database = new_rows  # another installation, with the same account and the same Redis
    token = await other_rows.token(ONE)
    async with open_board(database, redis_url) as other:
        assert await other.items("/api/v1/activity", token) == []


async def test_a_cached_page_is_served_and_is_gone_after_a_second(
    board: Board, rows: Rows, cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await rows.token(ONE)
    with monkeypatch.context() as patch:
        patch.setattr("dashboard.pages.CACHE_MILLISECONDS", 60_000)
        await rows.activity(summary="first")
        assert len(await board.items("/api/v1/activity", token)) == 1
        await rows.activity(summary="second")
        assert len(await board.items("/api/v1/activity", token)) == 1
        assert len(await board.items("/api/v1/activity", token, limit=49)) == 2
    await cache.flushdb()
    assert len(await board.items("/api/v1/activity", token)) == 2
    times = [await cache.pttl(key) async for key in cache.scan_iter(f"*:activity_log:v{ACTIVITY.version}:{ONE}:*")]
    assert all(0 <= time <= 1000 for time in times if time != -2)  # a second old at most
    await rows.activity(summary="third")
    async with asyncio.timeout(3):
        while len(await board.items("/api/v1/activity", token)) == 2:
            await asyncio.sleep(0.05)


async def test_waiting_for_another_tenants_event_tells_nothing(rows: Rows, tables: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("dashboard.process.WAIT_SECONDS", 0.2)
    event = await rows.activity(TWO)
    await rows.position("recent_updates", 10)
    async with open_board(tables) as board:
        token = await rows.token(ONE)
        for path in LISTS:
            theirs = await board.get(path, token, wait_for=event)
            nobodys = await board.get(path, token, wait_for="00000000-0000-8000-8000-000000000000")
            assert theirs.status_code == nobodys.status_code == 504
            nobody = "00000000-0000-8000-8000-000000000000"
            assert theirs.text.replace(str(event), "X") == nobodys.text.replace(nobody, "X")
            assert (await board.get(path, await rows.token(), account=ONE, wait_for=event)).status_code == 504
        board.services.waiting._seconds = 10.0
        for path in LISTS:
            assert (await board.get(path, await rows.token(TWO), wait_for=event)).status_code == 200


async def test_a_live_stream_tells_of_its_own_accounts_only(own_board: Board, rows: Rows) -> None:
    board = own_board
    mine, all_ = await rows.token(ONE), await rows.token()
    async with live(board, mine) as stream, live(board, all_, account=TWO) as other:
        for _ in range(4):
            await two_tenants(rows)
        for opened, account in ((stream, ONE), (other, TWO)):
            lines, updates = 0, 0
            while lines < 4 or updates < 1:  # each message on the way counts
                name, told = await opened.next()
                if name != "status":
                    assert accounts_of(told) <= {account}
                    lines = len(told["items"]) if name == "activity" else lines
                    updates = len(told["items"]) if name == "recent_updates" else updates


async def test_a_session_sees_its_accounts(board: Board, rows: Rows) -> None:
    await two_tenants(rows)
    expected = [((ONE,), [ONE], [ONE]), ((), None, sorted((ONE, TWO, THIRD)))]
    for accounts, granted, seen in expected:
        answer: httpx.Response = await board.client.post("/session", json={"code": await rows.code(*accounts)})
        assert answer.status_code == 204
        told = json.loads((await board.client.get("/session")).content)
        assert told == {"accounts": granted, "seen": seen, "commands": False}
        assert accounts_of((await board.client.get("/api/v1/activity")).json()) == set(seen)
