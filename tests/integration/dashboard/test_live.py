from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from dashboard import access
from dashboard import live as live_streams
from dashboard.database import DatabaseAway
from projections.queries import View
from tests.integration.dashboard.support import NOON, ONE, TWO, Board, Rows, live, open_board
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def board(own_board: Board) -> Board:
    """Streams are of one test only."""
    return own_board


async def test_a_change_is_pushed_within_a_second_as_a_whole_page(board: Board, rows: Rows) -> None:
    token = await rows.token(ONE)
    async with live(board, token) as stream:
        assert await stream.next("status") == ("status", {"reading": True, "reason": ""})
        for number in range(3):
            event = await rows.activity(summary=f"number {number}")
            committed = time.monotonic()
            _, page = await stream.next("activity")
            assert time.monotonic() - committed < 1
            assert page["items"][0]["event_id"] == str(event)
            assert len(page["items"]) == number + 1
        await rows.update(title="now")
        _, page = await stream.next("recent_updates")
        assert page["items"][0]["title"] == "now"
        # The lists agree with what was pushed, although they are cached.
        assert await board.items("/api/v1/recent-updates", token) == page["items"]


async def test_all_streams_share_one_poll_and_one_read(
    board: Board, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, other = await rows.token(ONE), await rows.token()
    reads: list[object] = []
    from dashboard.pages import Pages

    read = Pages.read

    async def counted(self: Pages, *args: object) -> bytes:
        reads.append(args[0])
        return await read(self, *args)  # type: ignore[arg-type]

    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(live(board, who)) for who in [token] * 3 + [other] * 3]
        for stream in streams:
            await stream.next("activity")
        await asyncio.sleep(0.5)
        monkeypatch.setattr(Pages, "read", counted)
        await rows.activity()
        for stream in streams:
            _, page = await stream.next("activity")
            assert len(page["items"]) == 1
        await asyncio.sleep(0.5)
        assert len(reads) == 2  # the activity log, for two sets of accounts; nothing while nothing moves


@pytest.mark.parametrize(("one", "other"), [(ONE, TWO), (TWO, ONE)])  # whichever is looked at first
async def test_a_page_that_takes_too_long_keeps_no_other_tenant_from_theirs(
    board: Board, rows: Rows, monkeypatch: pytest.MonkeyPatch, one: int, other: int
) -> None:
    from dashboard.pages import Pages

    fresh, failing = Pages.fresh, [one]

    async def slow_for_some(self: Pages, view: View, accounts: tuple[int, ...] | None, limit: int) -> bytes:
        if accounts is not None and accounts[0] in failing:
            raise DatabaseAway("a query took too long")
        return await fresh(self, view, accounts, limit)

    async with live(board, await rows.token(one)) as slow, live(board, await rows.token(other)) as quick:
        for stream in (slow, quick):
            await stream.next("activity")
        monkeypatch.setattr(Pages, "fresh", slow_for_some)
        for account in (one, other):
            await rows.activity(account, summary="news")
        _, page = await quick.next("activity")
        assert [item["summary"] for item in page["items"]] == ["news"]
        failing.clear()  # and the other gets its own as soon as it can be read
        _, page = await slow.next("activity")
        assert [item["summary"] for item in page["items"]] == ["news"]


async def test_a_stream_that_is_closed_is_forgotten(board: Board, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.live.MOST_CLIENTS", 1)
    token = await rows.token(ONE)
    async with live(board, token) as stream:
        await stream.next()
        refused = await board.get("/api/v1/live", token)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.headers["content-type"] == "application/problem+json"

    async def free() -> bool:
        async with board.client.stream("GET", "/api/v1/live", headers={"Authorization": f"Bearer {token}"}) as answer:
            return answer.status_code == 200

    await eventually(free, 3)


async def test_a_stream_ends_soon_after_its_token(board: Board, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    assert access.REMEMBERED_SECONDS + live_streams._CHECK_SECONDS <= 5
    monkeypatch.setattr(access, "REMEMBERED_SECONDS", 0.3)
    monkeypatch.setattr(live_streams, "_CHECK_SECONDS", 0.3)
    revoked, expired = await rows.token(ONE), await rows.token(ONE)
    async with live(board, revoked) as one, live(board, expired) as two:
        await one.next("activity")
        await two.next("activity")
        for text, column in ((revoked, "revoked_at"), (expired, "expires_at")):
            await rows.connection.execute(f"UPDATE kommo.access_tokens SET {column} = now() WHERE id = $1", text[4:20])
        assert await one.ended(5)
        assert await two.ended(5)
    for text in (revoked, expired):
        assert (await board.get("/api/v1/activity", text)).status_code == 401


async def test_streams_end_when_the_process_does(board: Board, rows: Rows) -> None:
    async with live(board, await rows.token()) as one, live(board, await rows.token()) as two:
        await one.next("activity")
        await two.next("activity")
        began = time.monotonic()
        board.stop.set()
        assert await one.ended(1)
        assert await two.ended(1)
        await asyncio.wait_for(asyncio.shield(board.task), 4)
        assert time.monotonic() - began < 3


async def test_a_client_that_does_not_read_holds_up_nobody(board: Board, rows: Rows) -> None:
    token = await rows.token()
    host, _, port = board.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    request = f"GET /api/v1/live HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(request.encode())
    async with live(board, token) as stream:
        await stream.next("activity")
        for number in range(10):  # far more than sockets hold
            await rows.activity(summary="x" * 100_000, at=NOON.replace(minute=number))
            await stream.next("activity")
        began = time.monotonic()
        board.stop.set()
        await asyncio.wait_for(asyncio.shield(board.task), 8)
        assert time.monotonic() - began < 7
    writer.close()
    del reader


async def test_a_quiet_stream_beats(rows: Rows, tables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.live.HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr("dashboard.live._CHECK_SECONDS", 0.1)
    async with open_board(tables) as board:
        headers = {"Authorization": f"Bearer {await rows.token()}"}
        async with board.client.stream("GET", "/api/v1/live", headers=headers) as answer, asyncio.timeout(5):
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            async for line in answer.aiter_lines():
                if line == ": still here":
                    break
