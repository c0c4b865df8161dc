from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
import pytest_asyncio
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.integration.dashboard.support import NOON, ONE, TWO, Board, Rows

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTS = ("/api/v1/activity", "/api/v1/recent-updates")


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """See that an answer is a problem document, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    members: dict[str, Any] = answer.json()
    assert members["status"] == status
    assert members["title"]
    assert members["type"] == f"urn:kommo-streams:error:{members['error_class']}"
    assert members["correlation_id"] == answer.headers["x-correlation-id"]
    assert members["detail"]
    assert members["error_class"] in {"validation", "authentication", "authorization", "not_found", "database"}
    return members


WRONG = [
    ("account=0", "account", "31337"),
    ("account=-1", "account", "31337"),
    ("account=1.0", "account", "31337"),
    ("account=%201", "account", "31337"),
    ("account=1_0", "account", "31337"),
    ("account=%D9%A1", "account", "31337"),  # an Arabic digit
    ("account=9223372036854775808", "account", "31337"),
    ("account=", "account", "31337"),
    ("account=1&account=1", "account", "once"),
    ("entity=", "entity", "lead/123"),
    ("entity=lead/", "entity", "lead/123"),
    ("entity=/1", "entity", "lead/123"),
    ("entity=lead/a%20b", "entity", "lead/123"),
    ("entity=lead/%00", "entity", "lead/123"),
    ("entity=lead/1%0a", "entity", "lead/123"),
    ("entity=Lead", "entity", "lead/123"),
    ("type=lead.added", "type", "/openapi.json"),
    ("type=kommo.lead.added&type=x", "type", "/openapi.json"),
    ("type=", "type", "/openapi.json"),
    ("since=yesterday", "since", "RFC 3339"),
    ("since=2026-01-01", "since", "RFC 3339"),
    ("since=2026-01-01T00:00:00", "since", "zone"),
    ("since=2026-01-01T00:00:00+01:00", "since", "%2B"),  # the + is a space
    ("since=2026-02-30T00:00:00Z", "since", "exists"),
    ("since=2026-01-01T25:00:00Z", "since", "exists"),
    ("since=0001-01-01T00:00:00%2B14:00", "since", "exists"),
    ("until=1767225600", "until", "RFC 3339"),
    ("since=2026-01-02T00:00:00Z&until=2026-01-02T00:00:00Z", "until", "later than since"),
    ("limit=0", "limit", "1 to 500"),
    ("limit=501", "limit", "1 to 500"),
    ("limit=ten", "limit", "1 to 500"),
    ("limit=5&limit=6", "limit", "once"),
    ("limit=99999999999999999999", "limit", "1 to 500"),
    ("cursor=", "cursor", "next_cursor"),
    ("cursor=%00", "cursor", "next_cursor"),
    ("cursor=!!!", "cursor", "next_cursor"),
    (f"cursor={'A' * 2000}", "cursor", "next_cursor"),
    ("cursor=AAAA", "cursor", "cursor"),
    ("cursor=%D0%96", "cursor", "next_cursor"),
    ("wait_for=1", "wait_for", "UUID"),
    ("wait_for=%7B00000000-0000-0000-0000-000000000000%7D", "wait_for", "UUID"),
    ("acount=1", "acount", "account, entity, type"),
    ("=1", "", "account, entity, type"),
]


async def test_every_wrong_parameter_is_named_with_what_is_accepted(board: Board, rows: Rows) -> None:
    token = await rows.token()
    for path in LISTS:
        for query, name, accepted in WRONG:
            members = problem(await board.get(f"{path}?{query}", token), 400)
            assert [wrong["name"] for wrong in members["parameters"]] == [name], query
            assert accepted in members["parameters"][0]["detail"], query
            assert f"parameter {name} " in members["detail"]


async def test_all_wrong_parameters_are_named_at_once(board: Board, rows: Rows) -> None:
    members = problem(await board.get("/api/v1/activity?limit=0&foo=1&since=x", await rows.token()), 400)
    assert [wrong["name"] for wrong in members["parameters"]] == ["limit", "foo", "since"]
    live = problem(await board.get("/api/v1/live?limit=5", await rows.token()), 400)
    assert [wrong["name"] for wrong in live["parameters"]] == ["limit"]


async def test_a_cursor_fits_only_its_own_query(board: Board, rows: Rows) -> None:
    token, other = await rows.token(), await rows.token(ONE)
    for _ in range(3):
        await rows.activity()
    for number in range(3):
        await rows.update(entity=f"lead/{number}")
    for path, foreign in (LISTS, LISTS[::-1]):
        cursor = (await board.get(path, token, limit=1)).json()["next_cursor"]
        assert len(await board.items(path, token, limit=2, cursor=cursor)) == 2  # another limit is no other query
        for answer in (
            await board.get(foreign, token, cursor=cursor),
            await board.get(path, token, cursor=cursor, account=ONE),
            await board.get(path, token, cursor=cursor, entity="lead"),
            await board.get(path, token, cursor=cursor, type="kommo.lead.updated"),
            await board.get(path, token, cursor=cursor, since="2026-01-01T00:00:00Z"),
            await board.get(path, token, cursor=cursor, until="2027-01-01T00:00:00Z"),
            await board.get(path, other, cursor=cursor),
        ):
            assert "another query" in problem(answer, 400)["parameters"][0]["detail"]


async def test_a_cursor_that_was_changed_is_refused(board: Board, rows: Rows) -> None:
    token = await rows.token()
    await rows.activity()
    await rows.activity()
    cursor = (await board.get("/api/v1/activity", token, limit=1)).json()["next_cursor"]
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for place in ("null", "[]", "{}", '["x","1","y"]', "[1,2,3]", '["2026-05-04T12:00:00","1",7]', "", "\xff"):
        forged = base64.urlsafe_b64encode(raw[:12] + place.encode("latin-1")).decode().rstrip("=")
        problem(await board.get("/api/v1/activity", token, cursor=forged), 400)


async def test_another_tenants_account_is_forbidden_not_empty(board: Board, rows: Rows) -> None:
    token = await rows.token(ONE)
    for path in (*LISTS, "/api/v1/live"):
        members = problem(await board.get(path, token, account=TWO), 403)
        assert members["parameters"][0]["name"] == "account"


@pytest_asyncio.fixture(loop_scope="module")
async def answers_without_rights(board: Board, rows: Rows) -> dict[str, httpx.Response]:
    valid, session = await rows.token(), await rows.token(kind="session")
    expired = await rows.token(expires_at=NOON.replace(year=2020))
    revoked = await rows.token()
    await rows.connection.execute("UPDATE kommo.access_tokens SET revoked_at = now() WHERE id = $1", revoked[4:20])
    bearers = {
        "unknown": "kst_0123456789abcdef_" + "a" * 43,
        "wrong secret": valid[:-1] + ("a" if valid[-1] != "a" else "b"),
        "expired": expired,
        "revoked": revoked,
        "malformed": "hello",
        "nothing": "-",
        "session as token": session,
        "code as token": await rows.code(),
        "other script": "kst_0123456789abcdef_" + "é" * 43,
    }
    answers = {
        name: await board.client.get(
            "/api/v1/activity", headers=[(b"authorization", f"Bearer {text}".encode("latin-1"))]
        )
        for name, text in bearers.items()
    }
    answers["basic"] = await board.client.get("/api/v1/activity", headers={"Authorization": f"Basic {valid}"})
    answers["none"] = await board.client.get("/api/v1/activity")
    answers["token as cookie"] = await board.client.get(
        "/api/v1/activity", headers={"Cookie": f"kommo_streams_session={valid}"}
    )
    answers["wrong bearer beside a good cookie"] = await board.client.get(
        "/api/v1/activity", headers={"Authorization": "Bearer x", "Cookie": f"kommo_streams_session={session}"}
    )
    return answers


async def test_every_bad_credential_gets_the_same_answer(answers_without_rights: dict[str, httpx.Response]) -> None:
    bodies = set()
    for name, answer in answers_without_rights.items():
        assert problem(answer, 401)["error_class"] == "authentication", name
        assert answer.headers["www-authenticate"].startswith("Bearer")
        bodies.add(answer.content)
    assert len(bodies) == 1


async def test_what_is_not_there_and_what_cannot_be_done_are_problems_too(board: Board, rows: Rows) -> None:
    for path in ("/nothing", "/api/v1/activity/", "/api/v2/activity", "/static/..%2fapp.py", "/static/", "/docs"):
        problem(await board.get(path), 404)
    answer = await board.client.post("/api/v1/activity")
    problem(answer, 405)
    assert answer.headers["allow"] == "GET"
    problem(await board.client.delete("/session"), 405)
    problem(await board.client.post("/"), 405)


async def test_openapi_is_valid_and_describes_every_answer(board: Board) -> None:
    document = (await board.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()
    assert set(document["components"]["securitySchemes"]) == {"token", "session"}
    for path in LISTS:
        operation = document["paths"][path]["get"]
        assert [parameter["name"] for parameter in operation["parameters"]] == [
            *("account", "entity", "type", "since", "until", "limit", "cursor", "wait_for")
        ]
        assert {"200", "400", "401", "403", "500", "503", "504"} == set(operation["responses"])
        assert operation["security"] == [{"token": []}, {"session": []}]
        for status, response in operation["responses"].items():
            kind = "application/json" if status == "200" else "application/problem+json"
            assert list(response["content"]) == [kind]
    assert "kommo.lead.status_changed" in str(document["paths"]["/api/v1/activity"]["get"]["parameters"])


async def test_answers_fit_their_openapi_schema(board: Board, rows: Rows) -> None:
    import jsonschema

    token = await rows.token()
    await rows.activity(changes={"name": {"from": None, "to": "x"}})
    await rows.activity()
    await rows.update(title=None)
    document = (await board.client.get("/openapi.json")).json()
    for path in LISTS:
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate((await board.get(path, token)).json(), {**schema, "components": document["components"]})
    schema = {"$ref": "#/components/schemas/ProblemDetails", "components": document["components"]}
    jsonschema.validate((await board.get("/api/v1/activity?limit=0", token)).json(), schema)


async def test_every_answer_carries_the_security_headers(board: Board, rows: Rows) -> None:
    for path in ("/", "/static/page.js", "/static/page.css", "/nothing", "/api/v1/activity", "/openapi.json"):
        headers = (await board.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    listed = await board.get("/api/v1/activity", await rows.token())
    assert listed.headers["cache-control"] == "private, no-store"
    page = await board.get("/")
    again = await board.client.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_an_unforeseen_failure_is_a_problem_that_tells_nothing(
    board: Board, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_args: object) -> None:
        raise RuntimeError("a secret")

    lines: list[str] = []
    monkeypatch.setattr("projections.queries.page", broken)
    monkeypatch.setattr("dashboard.app.log.exception", lambda line, **_fields: lines.append(line), raising=False)
    answer = await board.get("/api/v1/activity?limit=7", await rows.token())
    assert lines == ["a request failed"]
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["error_class"] == "internal"
    assert "secret" not in answer.text
