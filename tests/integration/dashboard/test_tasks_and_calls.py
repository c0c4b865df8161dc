"""/api/v1/tasks and /api/v1/calls: what they answer, restricted and paged; who may read it, and what is refused."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import uuid
from typing import Any

import jsonschema
import pytest

from dashboard.parameters import CALLS as CALLS_PARAMETERS
from dashboard.parameters import TASKS as TASKS_PARAMETERS
from projections.queries import CALLS, TASKS, Filter, View, page_query
from tests.integration.dashboard.support import NOON, ONE, TWO, Board, Rows, open_board
from tests.integration.dashboard.test_wrong_requests import WRONG, problem

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTS = {"/api/v1/tasks": "task_id", "/api/v1/calls": "call_id"}
HOUR = dt.timedelta(hours=1)
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


async def insert(rows: Rows, path: str, account: int, at: dt.datetime, name: str, **columns: Any) -> None:
    if path == "/api/v1/tasks":
        await rows.task(account, at, task_id=name, **columns)
    else:
        await rows.call(account, at, call_id=name, **columns)


# ---- answers --------------------------------------------------------------------------------------------------------


async def test_a_task_is_answered_whole(board: Board, rows: Rows) -> None:
    event = uuid.uuid4()
    await rows.task(
        task_id="5",
        text="Ж",
        task_type=1,
        entity_type="lead",
        entity_id="00012",
        deadline=NOON + HOUR,
        result="done",
        created_at=NOON - HOUR,
        reopened_at=NOON,
        url="https://a.kommo.com/todo/list/",
        event_id=event,
        responsible_user_id=2**53 + 1,
    )
    (item,) = await board.items("/api/v1/tasks", await rows.token())
    overdue = item.pop("overdue")
    assert overdue is (dt.datetime.now(dt.UTC) > NOON + HOUR)
    assert item == {
        "account_id": ONE,
        "task_id": "5",
        "state": "open",
        "text": "Ж",
        "task_type": 1,
        "entity_type": "lead",
        "entity_id": "00012",
        "responsible_user_id": 2**53 + 1,
        "deadline": "2026-05-04T13:00:00Z",
        "result": "done",
        "created_at": "2026-05-04T11:00:00Z",
        "completed_at": None,
        "reopened_at": "2026-05-04T12:00:00Z",
        "occurred_at": "2026-05-04T12:00:00Z",
        "url": "https://a.kommo.com/todo/list/",
        "event_id": str(event),
    }


async def test_a_call_is_answered_whole(board: Board, rows: Rows) -> None:
    event = uuid.uuid4()
    await rows.call(
        TWO,
        call_id="u-1",
        phone="+4930555",
        outcome="busy",
        result="later",
        source="pbx",
        recording_url="https://pbx.example/1.mp3",
        responsible_user_id=7,
        event_id=event,
        url="https://a.kommo.com/leads/detail/1",
    )
    assert await board.items("/api/v1/calls", await rows.token()) == [
        {
            "account_id": TWO,
            "call_id": "u-1",
            "entity_type": "lead",
            "entity_id": "1",
            "direction": "in",
            "phone": "+4930555",
            "duration_seconds": 65,
            "outcome": "busy",
            "result": "later",
            "source": "pbx",
            "recording_url": "https://pbx.example/1.mp3",
            "responsible_user_id": 7,
            "occurred_at": "2026-05-04T12:00:00Z",
            "event_id": str(event),
            "url": "https://a.kommo.com/leads/detail/1",
        }
    ]


async def test_each_filter_restricts_the_tasks(board: Board, rows: Rows) -> None:
    token = await rows.token()
    on = {"entity_type": "lead", "entity_id": "1"}
    for number, (account, columns) in enumerate(
        [
            (ONE, {"deadline": NOW - HOUR, **on}),
            (ONE, {"deadline": NOW + HOUR, "responsible_user_id": 8, **on}),
            (ONE, {"deadline": NOW - HOUR, "status": "completed", "entity_type": "contact", "entity_id": "1"}),
            (ONE, {"deadline": None, "responsible_user_id": None}),
            (TWO, {"deadline": NOW - 2 * HOUR, "status": "deleted", "responsible_user_id": 0}),
        ]
    ):
        await rows.task(account, NOON + number * HOUR, task_id=str(number), **columns)

    async def found(**params: object) -> str:
        return "".join(item["task_id"] for item in await board.items("/api/v1/tasks", token, **params))

    assert await found() == "43210"
    assert await found(account=ONE) == "3210"
    assert await found(entity="lead") == "10"
    assert await found(entity="lead/1") == "10"
    assert await found(entity="lead/2") == ""
    assert await found(state="open") == "310"
    assert await found(state="completed") == "2"
    assert await found(state="deleted") == "4"
    assert await found(responsible=7) == "20"
    assert await found(responsible=0) == "4"
    assert await found(overdue="true") == "0"
    assert await found(overdue="false") == "4321"
    assert await found(since=NOW.isoformat()) == "1"
    assert await found(until=NOW.isoformat()) == "420"
    assert await found(since=(NOW - HOUR).isoformat(), until=(NOW + HOUR).isoformat()) == "20"
    assert await found(state="open", responsible=7, overdue="true", entity="lead/1", account=ONE) == "0"


async def test_each_filter_restricts_the_calls(board: Board, rows: Rows) -> None:
    token = await rows.token()
    for number, (account, columns) in enumerate(
        [
            (ONE, {}),
            (ONE, {"direction": "out", "recording_url": "https://a/1"}),
            (TWO, {"direction": None, "entity_type": "contact", "entity_id": "7"}),
        ]
    ):
        await rows.call(account, NOON + number * HOUR, call_id=str(number), **columns)

    async def found(**params: object) -> str:
        return "".join(item["call_id"] for item in await board.items("/api/v1/calls", token, **params))

    assert await found() == "210"
    assert await found(account=TWO) == "2"
    assert await found(entity="lead") == "10"
    assert await found(entity="contact/7") == "2"
    assert await found(direction="in") == "0"
    assert await found(direction="out") == "1"
    assert await found(recording="true") == "1"
    assert await found(recording="false") == "20"
    assert await found(since="2026-05-04T13:00:00Z") == "21"
    assert await found(until="2026-05-04T13:00:00Z", recording="false") == "0"


# ---- paging ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("accounts", [(), (ONE,), (ONE, TWO)], ids=["all", "one", "two"])
async def test_paging_shows_each_row_once_in_one_order(
    board: Board, rows: Rows, path: str, accounts: tuple[int, ...]
) -> None:
    chance = random.Random(5)
    token = await rows.token(*accounts)
    wanted = set()
    for number in range(50):
        account, name = chance.choice((ONE, TWO)), f"{number % 25} ж\"'"
        if (account, name) not in wanted:
            await insert(rows, path, account, NOON + dt.timedelta(minutes=chance.randrange(4)), name)
            wanted.add((account, name))
    seen: list[tuple[str, int, str]] = []
    cursor: str | None = None
    while True:
        params = {"limit": chance.randint(1, 9)} | ({"cursor": cursor} if cursor else {})
        answer = (await board.get(path, token, **params)).json()
        seen += [(item["occurred_at"], item["account_id"], item[LISTS[path]]) for item in answer["items"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
        await insert(rows, path, ONE, NOON + HOUR, f"new {len(seen)}")  # comes in meanwhile, before the place
    places = [(at, account) for at, account, _ in seen]
    assert places == sorted(places, reverse=True)
    expected = {pair for pair in wanted if not accounts or pair[0] in accounts}
    assert len(seen) == len({(account, name) for _, account, name in seen})
    assert {(account, name) for _, account, name in seen} == expected


@pytest.mark.parametrize("name", ["ж" * 128, '"' * 128, "\U0001f600" * 128])
async def test_a_cursor_holds_the_longest_names_a_call_has(board: Board, rows: Rows, name: str) -> None:
    await rows.call(call_id=name)
    await rows.call(call_id="0", at=NOON - HOUR)
    token = await rows.token()
    cursor = (await board.get("/api/v1/calls", token, limit=1)).json()["next_cursor"]
    assert [item["call_id"] for item in await board.items("/api/v1/calls", token, cursor=cursor)] == ["0"]


# Half of the rows are ONE's, and of these each filter below leaves a few.
_MANY = """
CREATE TEMPORARY TABLE many AS
SELECT i, CASE WHEN i % 2 = 0 THEN 31337 WHEN i % 1000 = 1 THEN 42042 ELSE 100000 + i % 300 END AS account,
       timestamptz '2026-03-01' + i * interval '10 minutes' AS at
FROM generate_series(0, 11999) AS i;
INSERT INTO kommo_projections.tasks_v1 (account_id, task_id, status, responsible_user_id, entity_type, entity_id,
                                        deadline, occurred_at, event_id, state)
SELECT account, i::text, CASE WHEN i % 400 = 0 THEN 'open' ELSE 'completed' END, i % 400, 'lead', (i % 2000)::text,
       now() - interval '1 minute', at, gen_random_uuid(), '{}' FROM many;
INSERT INTO kommo_projections.calls_v1 (account_id, call_id, entity_type, entity_id, direction, recording_url,
                                        occurred_at, event_id, state)
SELECT account, i::text, 'lead', (i % 2000)::text, 'in', CASE WHEN i % 400 = 0 THEN 'https://a' END, at,
       gen_random_uuid(), '{}' FROM many;
DROP TABLE many;
ANALYZE kommo_projections.tasks_v1; ANALYZE kommo_projections.calls_v1;
"""
_VALUES = {"state": "open", "responsible": 2, "overdue": True, "direction": "in", "recording": True}


async def test_the_first_page_reads_few_rows_of_many(new_rows: tuple[Rows, str]) -> None:
    rows, _ = new_rows
    await rows.connection.execute(_MANY)
    # Also when PostgreSQL has stopped planning for the values.
    await rows.connection.execute("SET plan_cache_mode = force_generic_plan")
    for view in (TASKS, CALLS):
        for accounts in (None, (ONE,), (TWO, 100001)):
            await _reads_few(rows, view, accounts)


async def _reads_few(rows: Rows, view: View, accounts: tuple[int, ...] | None) -> None:
    filters: list[dict[str, Any]] = [{}]
    if accounts == (ONE,):
        filters += [{"entity_type": "lead", "entity_id": "2"}]
        filters += [{"more": ((name, value),)} for name, value in _VALUES.items() if name in view.filters]
    for chosen in filters:
        query, arguments = page_query(view, Filter(accounts, **chosen), None, 51)
        plan = "\n".join(
            row[0] for row in await rows.connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {query}", *arguments)
        )
        shared = next(line for line in plan.splitlines() if "Buffers: shared" in line)
        blocks = sum(int(part.split("=")[1]) for part in shared.split() if "=" in part)
        assert "Seq Scan" not in plan, plan
        assert blocks < 100, plan


# ---- what is refused ------------------------------------------------------------------------------------------------

_WRONG_HERE = {
    "/api/v1/tasks": [
        ("state=closed", "state", "open, completed or deleted"),
        ("state=", "state", "open, completed or deleted"),
        ("state=open&state=open", "state", "once"),
        ("responsible=-1", "responsible", "11087123"),
        ("responsible=Anna", "responsible", "11087123"),
        ("responsible=9223372036854775808", "responsible", "11087123"),
        ("overdue=yes", "overdue", "true or false"),
        ("overdue=True", "overdue", "true or false"),
        ("type=kommo.task.added", "type", "account, entity, state"),
        ("direction=in", "direction", "account, entity, state"),
    ],
    "/api/v1/calls": [
        ("direction=up", "direction", "in or out"),
        ("recording=1", "recording", "true or false"),
        ("type=kommo.call.logged", "type", "account, entity, direction"),
        ("overdue=true", "overdue", "account, entity, direction"),
    ],
}


@pytest.mark.parametrize("path", LISTS)
async def test_every_wrong_parameter_is_named_with_what_is_accepted(board: Board, rows: Rows, path: str) -> None:
    token = await rows.token()
    shared = [wrong for wrong in WRONG if wrong[1] in ("account", "entity", "since", "until", "limit", "cursor")]
    for query, name, accepted in [*shared, *_WRONG_HERE[path]]:
        members = problem(await board.get(f"{path}?{query}", token), 400)
        assert [wrong["name"] for wrong in members["parameters"]] == [name], query
        assert accepted in members["parameters"][0]["detail"], query
    members = problem(await board.get(f"{path}?limit=0&foo=1&since=x&wait_for=x", token), 400)
    assert [wrong["name"] for wrong in members["parameters"]] == ["limit", "foo", "since", "wait_for"]


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("/api/v1/tasks", {"state": "open"}),
        ("/api/v1/tasks", {"overdue": "false"}),
        ("/api/v1/tasks", {"responsible": "7"}),
        ("/api/v1/calls", {"direction": "in"}),
        ("/api/v1/calls", {"recording": "false"}),
    ],
)
async def test_a_cursor_fits_only_its_own_query(board: Board, rows: Rows, path: str, other: dict[str, str]) -> None:
    token = await rows.token()
    for number in range(3):
        await insert(rows, path, ONE, NOON, str(number))
    for params, foreign in (({}, other), (other, {})):
        cursor = (await board.get(path, token, limit=1, **params)).json()["next_cursor"]
        assert len(await board.items(path, token, cursor=cursor, **params)) == 2
        answer = problem(await board.get(path, token, cursor=cursor, **foreign), 400)
        assert "another query" in answer["parameters"][0]["detail"]
        elsewhere = next(name for name in LISTS if name != path)
        problem(await board.get(elsewhere, token, cursor=cursor), 400)


# ---- tenants, cache, waiting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LISTS)
async def test_a_token_reads_its_own_accounts_only(board: Board, rows: Rows, path: str) -> None:
    for account in (ONE, TWO, 4):
        await insert(rows, path, account, NOON, "1")
    tokens = [(who, await rows.token(*who)) for who in ((ONE,), (TWO,), (ONE, TWO), (999,))]
    for _ in range(2):  # the second time from the cache
        for who, token in tokens:
            for params in ({}, {"limit": 7, "since": "2020-01-01T00:00:00Z"} if "calls" in path else {"state": "open"}):
                items = await board.items(path, token, **params)
                assert [item["account_id"] for item in items] == sorted({*who} & {ONE, TWO}, reverse=True)
    problem(await board.get(path, tokens[0][1], account=TWO), 403)
    problem(await board.get(path), 401)


async def test_a_first_page_is_cached_for_each_list_by_itself(
    board: Board, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.pages.CACHE_MILLISECONDS", 60_000)
    token = await rows.token(ONE)
    await rows.task()
    assert len(await board.items("/api/v1/tasks", token)) == 1
    assert await board.items("/api/v1/calls", token) == []
    await rows.task(task_id="2")
    await rows.call()
    assert len(await board.items("/api/v1/tasks", token)) == 1  # a second old at most
    assert len(await board.items("/api/v1/tasks", token, state="open")) == 2  # never cached


@pytest.mark.parametrize("path", LISTS)
async def test_a_wait_is_for_the_list_that_is_asked_for(board: Board, rows: Rows, path: str) -> None:
    token, event = await rows.token(), uuid.uuid4()
    other = next(name for name in LISTS if name != path).rpartition("/")[2]
    task = asyncio.create_task(board.get(path, token, wait_for=event))
    await rows.activity(partition=3)
    await rows.activity(event_id=event, partition=3)  # offset 1
    await rows.position("recent_updates", 2, partition=3)
    await rows.position(other, 2, partition=3)
    await rows.position(path.rpartition("/")[2], 1, partition=3)  # has read offset 0 only
    await asyncio.sleep(0.2)
    assert not task.done()
    await insert(rows, path, ONE, NOON, "seen")
    await rows.position(path.rpartition("/")[2], 2, partition=3)
    assert [item[LISTS[path]] for item in (await task).json()["items"]] == ["seen"]


@pytest.mark.parametrize("path", LISTS)
async def test_waiting_for_another_tenants_event_tells_nothing(
    rows: Rows, tables: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("dashboard.process.WAIT_SECONDS", 0.2)
    event = await rows.activity(TWO)
    await rows.position(path.rpartition("/")[2], 10)
    async with open_board(tables) as board:
        assert (await board.get(path, await rows.token(ONE), wait_for=event)).status_code == 504
        board.services.waiting._seconds = 10.0
        assert (await board.get(path, await rows.token(TWO), wait_for=event)).status_code == 200


# ---- OpenAPI --------------------------------------------------------------------------------------------------------


async def test_openapi_describes_both_lists_and_their_answers_fit(board: Board, rows: Rows) -> None:
    await rows.task()
    await rows.task(task_id="2", text=None, responsible_user_id=None, deadline=NOON, status="deleted")
    await rows.call()
    await rows.call(call_id="2", direction=None, duration_seconds=None)
    token = await rows.token()
    document = (await board.client.get("/openapi.json")).json()
    for path, accepted in (("/api/v1/tasks", TASKS_PARAMETERS), ("/api/v1/calls", CALLS_PARAMETERS)):
        operation = document["paths"][path]["get"]
        assert [told["name"] for told in operation["parameters"]] == [parameter.name for parameter in accepted]
        assert {"200", "400", "401", "403", "500", "503", "504"} == set(operation["responses"])
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        answer = (await board.get(path, token)).json()
        jsonschema.validate(answer, {**schema, "components": document["components"]})
        (item,) = [
            document["components"]["schemas"][reference["items"]["$ref"].rpartition("/")[2]]
            for reference in [
                document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]["items"]
            ]
        ]
        assert list(item["properties"]) == list(answer["items"][0])
        assert set(item["required"]) == set(item["properties"])
