from __future__ import annotations

import asyncio
from http.cookies import SimpleCookie

import httpx
import pytest

from tests.integration.dashboard.support import ONE, Board, Rows, open_board
from tests.integration.dashboard.test_wrong_requests import problem

pytestmark = pytest.mark.asyncio(loop_scope="module")


def cookie_of(answer: httpx.Response) -> tuple[str, dict[str, str]]:
    jar = SimpleCookie(answer.headers["set-cookie"])
    morsel = jar["kommo_streams_session"]
    return morsel.value, {key: str(value) for key, value in morsel.items() if value}


async def test_a_code_becomes_a_session_of_its_accounts(board: Board, rows: Rows) -> None:
    await rows.activity(ONE)
    answer = await board.client.post("/session", json={"code": await rows.code(ONE)})
    assert (answer.status_code, answer.content) == (204, b"")
    value, attributes = cookie_of(answer)
    assert value.startswith("kst_")
    assert attributes == {"path": "/", "max-age": "43200", "httponly": "True", "samesite": "strict"}
    assert len((await board.client.get("/api/v1/activity")).json()["items"]) == 1
    kept = await rows.connection.fetch("SELECT * FROM kommo.access_tokens")
    assert [row["kind"] for row in kept] == ["session"]
    assert value.split("_", 2)[2] not in str(kept)  # base64url may hold a _ of its own


async def test_the_cookie_is_secure_where_the_page_is(rows: Rows, tables: str) -> None:
    async with open_board(tables, dashboard_url="https://dashboard.example") as board:
        answer = await board.client.post(
            "/session", json={"code": await rows.code()}, headers={"Origin": "https://dashboard.example"}
        )
        assert cookie_of(answer)[1]["secure"] == "True"


async def test_of_many_who_show_a_code_at_once_one_gets_in(own_board: Board, rows: Rows) -> None:
    board = own_board  # which counts wrong codes
    code = await rows.code()
    answers = await asyncio.gather(*(board.client.post("/session", json={"code": code}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [204] + [401] * 7
    assert await rows.connection.fetchval("SELECT count(*) FROM kommo.access_tokens") == 1


async def test_codes_that_are_none_are_refused_and_then_counted(own_board: Board, rows: Rows) -> None:
    board = own_board
    right, old = await rows.code(), await rows.code()
    await rows.connection.execute("UPDATE kommo.access_tokens SET expires_at = now() WHERE id = $1", old[4:20])
    wrong = right[:-1] + ("a" if right[-1] != "a" else "b")
    bodies = set()
    for code in (old, wrong, await rows.token(), await rows.token(kind="session"), "", "kst_", "x" * 2000):
        answer = await board.client.post("/session", json={"code": code})
        problem(answer, 401)
        assert "set-cookie" not in answer.headers
        bodies.add(answer.content)
    assert len(bodies) == 1
    assert (await board.client.post("/session", json={"code": right})).status_code == 204  # a wrong try uses none up
    for _ in range(3):
        await board.client.post("/session", json={"code": "x"})
    answer = await board.client.post("/session", json={"code": await rows.code()})
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 61


async def test_other_sites_and_other_bodies_get_nothing(board: Board, rows: Rows) -> None:
    code = await rows.code()
    good = f'{{"code": "{code}"}}'.encode()
    json_type = {"Content-Type": "application/json"}
    cases: list[tuple[bytes, dict[str, str], int]] = [
        (good, {"Content-Type": "text/plain"}, 415),
        (good, {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (good, {}, 415),
        (good, {**json_type, "Origin": "https://evil.example"}, 403),
        (good, {**json_type, "Origin": "null"}, 403),
        (good, {**json_type, "Sec-Fetch-Site": "cross-site"}, 403),
        (good, {**json_type, "Sec-Fetch-Site": "same-site"}, 403),
        (b"{", json_type, 400),
        (b"[]", json_type, 400),
        (b'{"code": 1}', json_type, 400),
        (b'{"code": "x", "more": 1}', json_type, 400),
        (b'"' + b"x" * 5000 + b'"', json_type, 413),
    ]
    for body, headers, status in cases:
        answer = await board.client.post("/session", content=body, headers=headers)
        problem(answer, status)
        assert "set-cookie" not in answer.headers
    own = {**json_type, "Origin": board.url, "Sec-Fetch-Site": "same-origin"}
    assert (await board.client.post("/session", content=good, headers=own)).status_code == 204
    assert (await board.client.post("/session/end", headers={"Origin": "https://evil.example"})).status_code == 403
    assert (await board.client.get("/session")).status_code == 200


async def test_signing_out_ends_the_session_everywhere_soon(board: Board, rows: Rows) -> None:
    answer = await board.client.post("/session", json={"code": await rows.code()})
    kept = cookie_of(answer)[0]
    assert (await board.client.get("/session")).status_code == 200
    answer = await board.client.post("/session/end", json={})
    assert answer.status_code == 204
    assert cookie_of(answer)[1]["max-age"] == "0" or "expires" in cookie_of(answer)[1]
    problem(await board.client.get("/session"), 401)
    # Whoever kept the cookie has nothing.
    problem(await board.client.get("/session", headers={"Cookie": f"kommo_streams_session={kept}"}), 401)


@pytest.mark.parametrize("credential", ["session", "api"])
async def test_a_revoked_credential_is_refused_within_five_seconds(
    rows: Rows, tables: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, credential: str
) -> None:
    from dashboard import access

    assert access.REMEMBERED_SECONDS <= 5
    monkeypatch.setattr("dashboard.access.REMEMBERED_SECONDS", 0.3)
    async with open_board(tables, redis_url) as board:
        text = await rows.token(kind=credential)
        headers = {"session": {"Cookie": f"kommo_streams_session={text}"}, "api": {"Authorization": f"Bearer {text}"}}
        assert (await board.client.get("/api/v1/activity", headers=headers[credential])).status_code == 200
        await rows.connection.execute("UPDATE kommo.access_tokens SET revoked_at = now()")
        async with asyncio.timeout(2):
            while (await board.client.get("/api/v1/activity", headers=headers[credential])).status_code == 200:
                await asyncio.sleep(0.02)
