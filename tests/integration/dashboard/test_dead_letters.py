"""/api/v1/deadletters: what was set aside, listed and whole; who may read it, and what is refused."""

from __future__ import annotations

import base64
import datetime as dt
import json
import random
import re
import uuid
from typing import Any

import jsonschema
import pytest

from dashboard import database
from dashboard.parameters import DEAD_LETTERS as PARAMETERS
from projections.queries import DEAD_LETTERS, ORIGINAL, VIEWS, Filter, page_query
from tests.integration.dashboard.support import NOON, ONE, TWO, Board, Rows, open_board
from tests.integration.dashboard.test_wrong_requests import WRONG, problem
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/api/v1/deadletters"
HOUR = dt.timedelta(hours=1)
LISTED = {
    "account_id": ONE,
    "occurred_at": "2026-05-04T12:00:00Z",
    "first_at": "2026-05-04T11:00:00Z",
    "error_class": "external_service",
    "reason": "Kommo did not answer, Ж",
    "reader": "commands",
    "attempts": 2**40,
    "topic": "kommo.commands",
    "original_partition": 3,
    "original_offset": 2**53 + 1,
    "item": "leads[0]",
    "correlation_id": "c-1",
    "log_partition": 1,
    "log_offset": 5,
}


async def full(rows: Rows, **columns: Any) -> str:
    told = {name: LISTED[name] for name in LISTED if name not in ("account_id", "occurred_at", "first_at")}
    return await rows.letter(first_at=NOON - HOUR, **{**told, **columns})


# ---- answers --------------------------------------------------------------------------------------------------------


async def test_a_letter_is_listed_without_the_original_and_told_with_it(board: Board, rows: Rows) -> None:
    name = await full(
        rows, key=b"31337/lead/7", value='{"ж": '.encode(), headers=json.dumps([["a", "1"], ["a", "2"], ["b", None]])
    )
    token = await rows.token(ONE)
    assert await board.items(PATH, token) == [{"letter_id": name, **LISTED}]
    answer = await board.get(f"{PATH}/{name.upper()}", token)
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.json() == {
        "letter_id": name,
        **LISTED,
        "key": "31337/lead/7",
        "key_is_base64": False,
        "value": '{"ж": ',
        "value_is_base64": False,
        "headers": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}, {"name": "b", "value": None}],
    }


_NO_TEXT = [b"\xff\x00", b"\xed\xa0\x80", b"\xc3", bytes(range(256))]
_TEXT = [b"", b"\x00\x1f\x7f", "\ufeff\U0001f600 \u202e".encode(), b"/w=="]


@pytest.mark.parametrize("raw", [None, *_TEXT, *_NO_TEXT], ids=repr)
async def test_the_original_comes_back_byte_for_byte(board: Board, rows: Rows, raw: bytes | None) -> None:
    name = await rows.letter(key=raw, value=raw)
    told = (await board.get(f"{PATH}/{name}", await rows.token())).json()
    for column in ("key", "value"):
        assert told[f"{column}_is_base64"] is (raw in _NO_TEXT)
        if raw is None:
            assert told[column] is None
        else:
            assert (base64.b64decode(told[column]) if raw in _NO_TEXT else told[column].encode()) == raw


@pytest.mark.parametrize("part", [b"\x01", b"\xff", "ж".encode()], ids=["control characters", "bytes", "text"])
async def test_a_value_of_ten_mebibytes_is_told_whole_and_never_listed(board: Board, rows: Rows, part: bytes) -> None:
    value = part * (10 * 2**20 // len(part))
    name, token = await rows.letter(value=value), await rows.token()
    told = (await board.get(f"{PATH}/{name}", token)).json()
    assert (base64.b64decode(told["value"]) if told["value_is_base64"] else told["value"].encode()) == value
    for params in ({}, {"class": "validation"}):
        listed = await board.get(PATH, token, **params)
        assert [item["letter_id"] for item in listed.json()["items"]] == [name]
        assert len(listed.content) < 2000


async def test_each_filter_restricts_the_letters(board: Board, rows: Rows) -> None:
    token = await rows.token()
    for number, (account, columns) in enumerate(
        [
            (ONE, {}),
            (ONE, {"error_class": "internal", "reader": "activity_log.v2"}),
            (TWO, {"error_class": "internal", "reader": "Ж & co"}),
            (None, {}),
        ]
    ):
        await rows.letter(account, NOON + number * HOUR, letter_id=f"{number:032x}", **columns)

    async def found(**params: object) -> str:
        return "".join(item["letter_id"][-1] for item in await board.items(PATH, token, **params))

    assert await found() == "3210"
    assert await found(account=ONE) == "10"
    assert await found(**{"class": "internal"}) == "21"
    assert await found(**{"class": "rate_limit"}) == ""
    assert await found(reader="ingest") == "30"
    assert await found(reader="Ж & co") == "2"
    assert await found(since=(NOON + HOUR).isoformat(), until=(NOON + 3 * HOUR).isoformat()) == "21"
    assert await found(**{"class": "internal", "account": ONE, "reader": "activity_log.v2"}) == "1"
    assert await found(**{"class": "internal", "account": ONE, "reader": "ingest"}) == ""


# ---- paging ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accounts", [(), (ONE,), (ONE, TWO)], ids=["all", "one", "two"])
async def test_paging_shows_each_letter_once_newest_first(board: Board, rows: Rows, accounts: tuple[int, ...]) -> None:
    chance = random.Random(5)
    token = await rows.token(*accounts)
    wanted = set()
    for number in range(60):
        account = (ONE, TWO, None)[number % 3]
        name = await rows.letter(account, NOON + chance.randrange(4) * HOUR)
        if not accounts or account in accounts:
            wanted.add(name)
    seen: list[tuple[str, str]] = []
    cursor: str | None = None
    while True:
        params = {"limit": chance.randint(1, 9)} | ({"cursor": cursor} if cursor else {})
        answer = (await board.get(PATH, token, **params)).json()
        seen += [(item["occurred_at"], item["letter_id"]) for item in answer["items"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
        await rows.letter(ONE, NOON + 5 * HOUR)  # comes in meanwhile, before the place
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(wanted)
    assert {name for _, name in seen} == wanted


async def test_a_cursor_fits_only_its_own_query(board: Board, rows: Rows) -> None:
    token = await rows.token()
    for _ in range(3):
        await rows.letter()
    for other in ({"class": "validation"}, {"reader": "ingest"}, {"account": ONE}):
        for params, foreign in (({}, other), (other, {})):
            cursor = (await board.get(PATH, token, limit=1, **params)).json()["next_cursor"]
            assert len(await board.items(PATH, token, cursor=cursor, **params)) == 2
            answer = problem(await board.get(PATH, token, cursor=cursor, **foreign), 400)
            assert "another query" in answer["parameters"][0]["detail"]
    cursor = (await board.get(PATH, token, limit=1)).json()["next_cursor"]
    problem(await board.get("/api/v1/commands", token, cursor=cursor), 400)
    problem(await board.get(PATH, await rows.token(ONE), cursor=cursor), 400)


_MANY = """
INSERT INTO kommo_projections.dead_letters_v1
SELECT md5(i::text), CASE i % 4 WHEN 0 THEN 31337 WHEN 1 THEN 42042 WHEN 2 THEN 100000 + i % 300 END,
       timestamptz '2026-03-01' + i * interval '10 minutes', now(), CASE WHEN i % 400 = 0 THEN 'internal'
       ELSE 'validation' END, 'x', 'ingest', 1, 't', 0, i, '', '', 'k', 'v', '[]', 0, i
FROM generate_series(0, 11999) AS i;
ANALYZE kommo_projections.dead_letters_v1;
"""


async def test_the_first_page_reads_few_rows_of_many(new_rows: tuple[Rows, str]) -> None:
    rows, _ = new_rows
    await rows.connection.execute(_MANY)
    await rows.connection.execute("SET plan_cache_mode = force_generic_plan")
    for accounts in (None, (ONE,), (TWO, 100002)):
        await _reads_few(rows, accounts)


async def _reads_few(rows: Rows, accounts: tuple[int, ...] | None) -> None:
    filters: list[tuple[tuple[str, Any], ...]] = [()] + ([(("class", "internal"),)] if accounts == (ONE,) else [])
    for more in filters:
        query, arguments = page_query(DEAD_LETTERS, Filter(accounts, more=more), None, 51)
        assert not re.search("|".join(rf"\b{column}\b" for column in ORIGINAL), query)
        found = await rows.connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {query}", *arguments)
        plan = "\n".join(row[0] for row in found)
        shared = next(line for line in plan.splitlines() if "Buffers: shared" in line)
        assert "Seq Scan" not in plan, plan
        assert sum(int(part.split("=")[1]) for part in shared.split() if "=" in part) < 120, plan


# ---- tenants --------------------------------------------------------------------------------------------------------


async def test_a_token_reads_its_own_letters_only(board: Board, rows: Rows) -> None:
    names = {account: await rows.letter(account) for account in (ONE, TWO, 4, None)}
    tokens = [(who, await rows.token(*who)) for who in ((ONE,), (TWO,), (ONE, TWO), (999,), ())]
    await rows.connection.execute("UPDATE kommo.access_tokens SET accounts = '{}' WHERE accounts = '{999}'")
    tokens.append(((998,), await rows.token(998)))
    for _ in range(2):  # the second time from the cache
        for who, token in tokens:
            mine = {name for account, name in names.items() if not who or account in who}
            for params in ({}, {"class": "validation", "since": "2020-01-01T00:00:00Z"}):
                items = await board.items(PATH, token, **params)
                assert {item["letter_id"] for item in items} == mine
                assert len(items) == len(mine)
            for name in names.values():
                answer = await board.get(f"{PATH}/{name}", token)
                assert answer.status_code == (200 if name in mine else 404)
    problem(await board.get(PATH, tokens[0][1], account=TWO), 403)
    problem(await board.get(PATH), 401)


async def test_another_tenants_letter_is_answered_like_none(board: Board, rows: Rows) -> None:
    theirs, nobodys, none = await rows.letter(TWO), await rows.letter(None), uuid.uuid4().hex
    token = await rows.token(ONE)
    answers = [await board.get(f"{PATH}/{name}", token) for name in (theirs, nobodys, none)]
    told = {answer.text.replace(name, "X") for answer, name in zip(answers, (theirs, nobodys, none), strict=True)}
    assert len(told) == 1
    problem(answers[0], 404)
    all_ = await rows.token()
    problem(await board.get(f"{PATH}/{theirs}", token, account=TWO), 403)
    problem(await board.get(f"{PATH}/{theirs}", all_, account=ONE), 404)
    problem(await board.get(f"{PATH}/{nobodys}", all_, account=ONE), 404)
    assert (await board.get(f"{PATH}/{theirs}", all_, account=TWO)).status_code == 200
    assert (await board.get(f"{PATH}/{nobodys}", all_)).json()["account_id"] is None
    problem(await board.get(f"{PATH}/{theirs}"), 401)


# ---- what is refused ------------------------------------------------------------------------------------------------


async def test_every_wrong_parameter_is_named_with_what_is_accepted(board: Board, rows: Rows) -> None:
    token = await rows.token()
    shared = [wrong for wrong in WRONG if wrong[1] in ("account", "since", "until", "limit", "cursor")]
    here = [
        ("class=wrong", "class", "validation, authentication"),
        ("class=", "class", "or internal"),
        ("class=internal&class=internal", "class", "once"),
        ("reader=", "reader", "activity_log.v2"),
        ("reader=%00", "reader", "activity_log.v2"),
        (f"reader={'x' * 101}", "reader", "activity_log.v2"),
        ("entity=lead", "entity", "account, class, reader, since, until, limit, cursor"),
    ]
    for query, name, accepted in [*shared, *here]:
        members = problem(await board.get(f"{PATH}?{query}", token), 400)
        assert [wrong["name"] for wrong in members["parameters"]] == [name], query
        assert accepted in members["parameters"][0]["detail"], query
    name = await rows.letter()
    for path, wrong in (
        (f"{PATH}/5", "letter_id"),
        (f"{PATH}/{uuid.uuid4()}", "letter_id"),
        (f"{PATH}/{name}?a=", "a"),
    ):
        members = problem(await board.get(path, token), 400)
        assert [found["name"] for found in members["parameters"]] == [wrong]


async def test_no_event_can_be_waited_for_among_letters(board: Board, rows: Rows) -> None:
    """They are of another topic: that a place in it was read says nothing of an event."""
    token = await rows.token()
    event = await rows.activity()
    name = await rows.letter()
    for path in (PATH, f"{PATH}/{name}"):
        members = problem(await board.get(path, token, wait_for=event), 400)
        assert [wrong["name"] for wrong in members["parameters"]] == ["wait_for"]
    assert DEAD_LETTERS not in VIEWS


# ---- health and OpenAPI ---------------------------------------------------------------------------------------------


async def test_without_its_view_the_dashboard_is_not_ready(
    rows: Rows, tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database._PROBE_SECONDS <= 1
    monkeypatch.setattr(database, "_PROBE_SECONDS", 0.05)
    async with open_board(tables) as board:

        async def ready() -> int:
            return (await board.get("/readyz")).status_code

        await rows.connection.execute("ALTER VIEW kommo.dead_letters RENAME TO elsewhere")
        try:
            await eventually(lambda: _is(ready, 503))
            assert "kommo-streams init" in (await board.get("/readyz")).text
        finally:
            await rows.connection.execute("ALTER VIEW kommo.elsewhere RENAME TO dead_letters")
        await eventually(lambda: _is(ready, 200))


async def _is(ready: Any, status: int) -> bool:
    return bool(await ready() == status)


async def test_openapi_describes_the_letters_and_the_answers_fit(board: Board, rows: Rows) -> None:
    names = [await full(rows, headers='[["a", "1"], ["b", null]]'), await rows.letter(None, key=None, value=b"\xff")]
    await rows.letter(original_partition=None, original_offset=None, value=None)
    token = await rows.token()
    document = (await board.client.get("/openapi.json")).json()
    whole = f"{PATH}/{{letter_id}}"
    listed = await board.get(PATH, token)
    answers = [(listed, PATH), *[(await board.get(f"{PATH}/{name}", token), whole) for name in names]]
    answers.append((await board.get(f"{PATH}/{uuid.uuid4().hex}", token), whole))
    for answer, path in answers:
        ((_, content),) = document["paths"][path]["get"]["responses"][str(answer.status_code)]["content"].items()
        jsonschema.validate(answer.json(), {**content["schema"], "components": document["components"]})
    schemas = document["components"]["schemas"]
    assert list(schemas["DeadLetter"]["properties"]) == list(listed.json()["items"][0])
    assert list(schemas["DeadLetterWhole"]["properties"]) == list(answers[1][0].json())
    assert set(schemas["DeadLetterWhole"]["required"]) == set(schemas["DeadLetterWhole"]["properties"])
    told = [parameter["name"] for parameter in document["paths"][PATH]["get"]["parameters"]]
    assert told == [parameter.name for parameter in PARAMETERS]
    assert "504" not in document["paths"][PATH]["get"]["responses"]
    nothing = problem(await board.get("/api/v1/nothing"), 404)
    assert PATH in nothing["detail"]
    assert "/api/v1/circuits" in nothing["detail"]
