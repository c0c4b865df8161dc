from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import pytest

from tests.integration.dashboard.support import Board, Rows, open_board
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def waiting(board: Board, path: str, token: str, event: uuid.UUID) -> asyncio.Task[Any]:
    waiters = board.services.waiting._waiters
    others = set(waiters)
    task = asyncio.create_task(board.get(path, token, wait_for=event))
    await eventually(lambda: task.done() or waiters - others)
    assert not task.done(), task.result().text
    return task


async def test_activity_waits_until_the_event_is_committed(board: Board, rows: Rows) -> None:
    token, event = await rows.token(), uuid.uuid4()
    assert await board.items("/api/v1/activity", token) == []  # and is in the cache
    task = await waiting(board, "/api/v1/activity", token, event)
    await rows.activity(event_id=event)
    committed = time.monotonic()
    answer = await task
    assert time.monotonic() - committed < 0.5
    assert [item["event_id"] for item in answer.json()["items"]] == [str(event)]
    # The answer without a wait must not be older than what was just read.
    assert [item["event_id"] for item in await board.items("/api/v1/activity", token)] == [str(event)]


async def test_recent_updates_waits_for_its_own_position(board: Board, rows: Rows) -> None:
    token, event = await rows.token(), uuid.uuid4()
    task = await waiting(board, "/api/v1/recent-updates", token, event)
    await rows.activity(partition=3)
    await rows.activity(event_id=event, partition=3)  # offset 1
    await rows.position("recent_updates", 99, partition=2)
    await rows.position("recent_updates", 1, partition=3)  # has read offset 0 only
    await asyncio.sleep(0.15)
    assert not task.done()
    await rows.update(title="seen", move=False)
    await rows.position("recent_updates", 2, partition=3)
    assert [item["title"] for item in (await task).json()["items"]] == ["seen"]
    assert (await board.get("/api/v1/activity", token, wait_for=event)).status_code == 200


async def test_a_wait_goes_with_filters_and_finds_a_hidden_delete(board: Board, rows: Rows) -> None:
    token = await rows.token()
    first = await rows.activity(type="kommo.lead.deleted")
    second = await rows.activity(type="kommo.lead.deleted")
    answer = await board.get("/api/v1/activity", token, wait_for=second, type="kommo.lead.deleted", limit=1)
    assert [item["event_id"] for item in answer.json()["items"]] == [str(first)]


async def test_a_wait_ends_with_504_and_holds_no_connection(
    rows: Rows, tables: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.process.WAIT_SECONDS", 100.0)
    async with open_board(tables, redis_url, database_pool_size=2) as board:
        token = await rows.token()
        tasks = [asyncio.create_task(board.get("/api/v1/activity", token, wait_for=uuid.uuid4())) for _ in range(30)]
        await eventually(lambda: len(board.services.waiting._waiters) == 30)
        assert (await board.get("/api/v1/activity", token, limit=3)).status_code == 200
        assert not any(task.done() for task in tasks)
        board.services.waiting._seconds = 0.2
        answer = await board.get("/api/v1/activity", token, wait_for=uuid.uuid4())
        assert answer.status_code == 504
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["parameters"][0]["name"] == "wait_for"
        board.services.waiting.close()
        assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [503] * 30


async def test_too_many_waits_are_refused_at_once(board: Board, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.waiting.MOST_WAITING", 2)
    token, event = await rows.token(), uuid.uuid4()
    tasks = [await waiting(board, "/api/v1/activity", token, event) for _ in range(2)]
    answer = await board.get("/api/v1/activity", token, wait_for=event)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    await rows.activity(event_id=event)
    assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [200, 200]
    assert (await board.get("/api/v1/activity", token, wait_for=event)).status_code == 200


async def test_those_who_wait_are_sent_away_at_the_end(own_board: Board, rows: Rows) -> None:
    board = own_board
    task = await waiting(board, "/api/v1/activity", await rows.token(), uuid.uuid4())
    began = time.monotonic()
    board.stop.set()
    assert (await task).status_code == 503

    async def ended() -> bool:
        return board.task.done()

    await eventually(ended, 4)
    assert time.monotonic() - began < 3
