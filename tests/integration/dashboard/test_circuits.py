"""/api/v1/circuits: where Kommo does not answer, also where no worker has ever run."""

from __future__ import annotations

import datetime as dt
from typing import Any

import jsonschema
import pytest

from tests.integration.dashboard.support import NOON, ONE, TWO, Board, Rows, agents_migrated, open_board
from tests.integration.dashboard.test_wrong_requests import problem

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/api/v1/circuits"
MINUTE = dt.timedelta(minutes=1)


def told(items: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(item["account_id"], item["kind"]) for item in items]


async def test_without_a_worker_there_are_none_and_with_one_those_of_the_token(new_rows: tuple[Rows, str]) -> None:
    rows, database = new_rows
    all_, one, both, other = [await rows.token(*who) for who in ((), (ONE,), (ONE, TWO), (999,))]
    async with open_board(database) as board:
        assert (await board.get(PATH, all_)).json() == {"items": []}
        assert (await board.get("/readyz")).status_code == 200
        await agents_migrated(database)  # a worker starts
        assert await board.items(PATH, all_) == []
        await rows.circuit(TWO, "notes", NOON, NOON + MINUTE)
        await rows.circuit(ONE, "leads", NOON - MINUTE, NOON)
        await rows.circuit(ONE, "calls", NOON, NOON + 2 * MINUTE)
        await rows.circuit(4, "leads", NOON + MINUTE, NOON + 2 * MINUTE)
        answer = await board.get(PATH, one)
        assert answer.headers["cache-control"] == "private, no-store"
        assert answer.json() == {
            "items": [
                {"account_id": ONE, "kind": "leads", "since": "2026-05-04T11:59:00Z", "until": "2026-05-04T12:00:00Z"},
                {"account_id": ONE, "kind": "calls", "since": "2026-05-04T12:00:00Z", "until": "2026-05-04T12:02:00Z"},
            ]
        }
        everything = [(ONE, "leads"), (ONE, "calls"), (TWO, "notes"), (4, "leads")]
        assert told(await board.items(PATH, all_)) == everything
        assert told(await board.items(PATH, both)) == everything[:3]
        assert told(await board.items(PATH, all_, account=TWO)) == [(TWO, "notes")]
        assert told(await board.items(PATH, other)) == []
        await rows.connection.execute("UPDATE kommo.access_tokens SET accounts = '{}' WHERE accounts = '{999}'")
        assert told(await board.items(PATH, other)) == []
        document = (await board.client.get("/openapi.json")).json()
        operation = document["paths"][PATH]["get"]
        assert [parameter["name"] for parameter in operation["parameters"]] == ["account"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": document["components"]})
        assert list(document["components"]["schemas"]["Circuit"]["properties"]) == list(answer.json()["items"][0])


async def test_the_answer_is_bounded(new_rows: tuple[Rows, str], monkeypatch: pytest.MonkeyPatch) -> None:
    own_rows, database = new_rows
    monkeypatch.setattr("dashboard.circuits.MOST_CIRCUITS", 2)
    await agents_migrated(database)
    for number, kind in enumerate(("tasks", "leads", "notes")):
        await own_rows.circuit(ONE, kind, NOON - number * MINUTE, NOON)
    async with open_board(database) as board:
        found = await board.items(PATH, await own_rows.token())
    assert told(found) == [(ONE, "notes"), (ONE, "leads")]


async def test_tables_that_are_not_for_this_user_are_no_outage(new_rows: tuple[Rows, str]) -> None:
    own_rows, database = new_rows
    await agents_migrated(database)
    await own_rows.circuit(ONE, "leads", NOON, NOON)
    token = await own_rows.token()
    await own_rows.connection.execute(
        "CREATE ROLE reader_of_a_dashboard LOGIN PASSWORD 'x';"
        "GRANT USAGE ON SCHEMA kommo, kommo_projections TO reader_of_a_dashboard;"
        "GRANT SELECT ON ALL TABLES IN SCHEMA kommo, kommo_projections TO reader_of_a_dashboard;"
        "REVOKE ALL ON kommo.circuits FROM reader_of_a_dashboard"
    )
    try:
        place = database.partition("://")[2].rpartition("@")[2]
        async with open_board(f"postgresql://reader_of_a_dashboard:x@{place}") as board:
            assert await board.items(PATH, token) == []
            assert (await board.get("/readyz")).status_code == 200
    finally:
        await own_rows.connection.execute("DROP OWNED BY reader_of_a_dashboard; DROP ROLE reader_of_a_dashboard")


async def test_what_is_refused(board: Board, rows: Rows) -> None:
    problem(await board.get(PATH), 401)
    problem(await board.get(PATH, await rows.token(ONE), account=TWO), 403)
    members = problem(await board.get(f"{PATH}?account=x&limit=5", await rows.token()), 400)
    assert [wrong["name"] for wrong in members["parameters"]] == ["account", "limit"]
