from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.integration.dashboard.support import ONE, Board, Rows, Stream, live, open_board
from tests.integration.dashboard.test_wrong_requests import problem
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Wire:
    """A TCP relay to a server that can be cut, or left open and silent."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = 0

    @property
    def url(self) -> str:
        user = self._target.netloc.rpartition("@")[0]
        return urlunsplit(self._target._replace(netloc=f"{user}@127.0.0.1:{self.port}"))

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Refuse connections and reset those there are."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    def hang(self) -> None:
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, away = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers |= {writer, away}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pump(reader, away), self._pump(there, writer))
        self._writers -= {writer, away}
        for one in (writer, away):
            one.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self._flows.wait()
            target.write(data)
            await target.drain()
        target.transport.abort()


@contextlib.asynccontextmanager
async def wire_to(url: str) -> AsyncIterator[Wire]:
    wire = Wire(url)
    await wire.open()
    try:
        yield wire
    finally:
        wire.flow()
        await wire.cut()


async def readiness(board: Board) -> tuple[int, dict[str, str]]:
    answer = await board.client.get("/readyz")
    return answer.status_code, answer.json().get("not_ready", {})


async def test_without_redis_everything_works(rows: Rows, tables: str) -> None:
    await rows.activity()
    token = await rows.token()
    async with open_board(tables, None) as board:
        assert len(await board.items("/api/v1/activity", token)) == 1


async def test_redis_may_go_away_hang_and_come_back(rows: Rows, tables: str, redis_url: str) -> None:
    token = await rows.token()
    async with wire_to(redis_url) as wire, open_board(tables, wire.url) as board:
        for number, change in enumerate((lambda: None, wire.hang, wire.flow), start=1):
            change()
            await rows.activity()
            began = time.monotonic()
            # The limits differ, so that no answer comes from the cache.
            assert len(await board.items("/api/v1/activity", token, limit=100 + number)) == number
            assert time.monotonic() - began < 1
        await wire.cut()
        assert len(await board.items("/api/v1/activity", token, limit=200)) == 3
        assert (await readiness(board))[0] == 200


async def test_the_database_may_go_away_and_come_back(
    rows: Rows, tables: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.database._PROBE_SECONDS", 0.1)
    token = await rows.token(ONE)
    async with wire_to(tables) as wire, open_board(wire.url, redis_url) as board, live(board, token) as stream:
        await rows.activity()
        while not (await stream.next("activity"))[1]["items"]:
            pass
        await wire.cut()
        for path in ("/api/v1/activity?limit=9", "/api/v1/recent-updates?limit=9"):
            members = problem(await board.get(path, token), 503)
            assert members["error_class"] == "database"
        unavailable = await board.get("/api/v1/activity?wait_for=00000000-0000-8000-8000-000000000000", token)
        assert unavailable.headers["retry-after"] == "1"
        problem(unavailable, 503)
        problem(await board.client.post("/session", json={"code": "x"}), 503)
        _, status = await stream.next("status")
        assert status["reading"] is False
        assert "database" in status["reason"]
        code, reasons = await readiness(board)
        assert (code, list(reasons)) == (503, ["database"])
        assert (await board.client.get("/livez")).status_code == 200
        assert (await board.client.get("/")).status_code == 200

        await rows.activity()
        await wire.open()
        await told_of_both(stream)

        async def ready() -> bool:
            return (await readiness(board))[0] == 200

        await eventually(ready)
        assert len(await board.items("/api/v1/activity", token, limit=9)) == 2


async def told_of_both(stream: Stream) -> None:
    """See that the stream says that it reads again, and what happened meanwhile."""
    reading, lines = False, 0
    while not reading or lines < 2:
        name, told = await stream.next(seconds=10)
        reading = told["reading"] if name == "status" else reading
        lines = len(told["items"]) if name == "activity" else lines


async def test_a_token_is_not_called_wrong_while_the_database_is_away(rows: Rows, tables: str) -> None:
    token = await rows.token()
    async with wire_to(tables) as wire, open_board(wire.url) as board:
        await wire.cut()
        problem(await board.get("/api/v1/activity", token), 503)
        problem(await board.get("/api/v1/activity", "kst_0123456789abcdef_" + "a" * 43), 503)


async def test_a_start_before_the_database_and_its_tables(
    rows: Rows, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.database._PROBE_SECONDS", 0.1)
    async with wire_to(database) as wire:
        await wire.cut()
        async with open_board(wire.url, ready=False) as board:

            async def says(word: str) -> bool:
                code, reasons = await readiness(board)
                return code == 503 and word in reasons.get("database", "")

            await eventually(lambda: says("away"))
            await wire.open()
            await eventually(lambda: says("kommo-streams init"))
            problem(await board.get("/api/v1/activity", "x"), 401)  # its own tables it has made itself


async def test_metrics_are_there(board: Board) -> None:
    assert "kommo_streams_cache_total" in (await board.client.get("/metrics")).text
