"""/api/v1/commands: giving commands, who may, what is refused; the list, and a command with its story."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import uuid
from typing import Any

import httpx
import jsonschema
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import SecretStr

from agents.ingest import ingest
from agents.kommo.credentials import Credentials, CredentialStore, Pair
from agents.kommo.vault import Vault
from agents.migrations import migrate_missing
from agents.worker import worker
from dashboard.giving import Pace
from dashboard.parameters import COMMANDS as COMMANDS_PARAMETERS
from gateway.process import gateway
from gateway.tokens import Keyring, Token
from projections.projector import projector
from runtime.postgres import connect
from runtime.settings import Settings
from schemas.command import Command, id_of_key
from simulator.api import Limits, simulated_kommo
from streams.topics import COMMANDS, ensure_topics, physical
from tests.integration.dashboard.support import NOON, ONE, TWO, Board, Rows, kafka_of, migrated, open_board
from tests.integration.dashboard.test_session import cookie_of
from tests.integration.dashboard.test_wrong_requests import WRONG, problem
from tests.support.installation import delete_topics, installation
from tests.support.ports import free_port
from tests.support.servers import Servers
from tests.support.waiting import eventually, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/api/v1/commands"
HOUR = dt.timedelta(hours=1)
NOTE: dict[str, Any] = {"entity_type": "lead", "entity_id": 7, "text": "Called back"}
ASKED: dict[str, Any] = {"action": "add_note", "account": ONE, "data": NOTE}


async def give(board: Board, token: str, body: Any = None, **headers: str) -> httpx.Response:
    sent = {"Authorization": f"Bearer {token}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await board.client.post(PATH, json=ASKED if body is None else body, headers=sent)


async def written(settings: Settings) -> list[Any]:
    """Every record of kommo.commands since the test began."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        name = physical(settings, COMMANDS)
        partitions = [TopicPartition(name, number) for number in range(settings.commands_partitions)]
        consumer.assign(partitions)
        first, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        found: list[Any] = []
        while len(found) < sum(ends.values()) - sum(first.values()):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += batch
        return found
    finally:
        await consumer.stop()


# ---- giving ---------------------------------------------------------------------------------------------------------


async def test_a_command_is_in_kafka_when_it_is_answered(door: Board, rows: Rows, kafka: Settings) -> None:
    token = await rows.token(ONE, commands=True)
    after = str(uuid.uuid4())
    more = {"after": after, "expires": "2027-01-01T00:00:00+02:00", "correlation_id": "c-1", "causation_id": "e-1"}
    answer = await give(door, token, {**ASKED, "data": {**NOTE, "entity_id": "after"}, **more})
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert told == {"id": told["id"], "location": f"{PATH}/{told['id']}"}
    assert answer.headers["location"] == told["location"]
    assert answer.headers["cache-control"] == "private, no-store"
    (record,) = await written(kafka)
    command = Command.from_json(record.value)
    assert (command.id, command.account_id, command.name) == (told["id"], ONE, "add_note")
    assert command.data() == {**NOTE, "entity_id": "after"}
    assert (command.after, command.correlation_id, command.causation_id) == (after, "c-1", "e-1")
    assert command.expires == dt.datetime(2026, 12, 31, 22, tzinfo=dt.UTC)
    assert record.key == command.key == f"{ONE}/lead/new:{after}".encode()
    assert command.source == f"/kommo-streams/dashboard/{token[4:20]}"  # who gave it, never the secret
    assert token.rpartition("_")[2] not in record.value.decode()


async def test_what_is_not_said_or_null_has_its_default(door: Board, rows: Rows, kafka: Settings) -> None:
    token = await rows.token(commands=True)
    answer = await give(door, token, {**ASKED, "after": None, "expires": None, "correlation_id": None})
    command = Command.from_json((await written(kafka))[0].value)
    assert (command.after, command.expires, command.causation_id) == (None, None, None)
    assert command.correlation_id == command.id == answer.json()["id"]


async def test_the_same_key_of_an_account_is_the_same_command(door: Board, rows: Rows) -> None:
    token = await rows.token(ONE, TWO, commands=True)

    async def given(key: str | None, account: int = ONE) -> str:
        headers = {} if key is None else {"Idempotency_Key": key}
        answer = await give(door, token, {**ASKED, "account": account}, **headers)
        assert answer.status_code == 202, answer.text
        found: str = answer.json()["id"]
        return found

    assert await given("order 17") == await given("order 17") == id_of_key(ONE, "order 17")
    assert await given("order 17", TWO) == id_of_key(TWO, "order 17")
    assert len({await given("order 17"), await given("order 17", TWO), await given("order 18"), await given(None)}) == 4
    assert await given(None) != await given(None)
    assert await given("k" * 128) == id_of_key(ONE, "k" * 128)


async def test_a_key_that_stands_for_another_command_is_answered_409(door: Board, rows: Rows, kafka: Settings) -> None:
    token = await rows.token(ONE, commands=True)
    await rows.command(command_id=id_of_key(ONE, "order 17"), action="add_note", data=json.dumps(NOTE))
    assert (await give(door, token, ASKED, Idempotency_Key="order 17")).status_code == 202
    for other in ({"data": {**NOTE, "text": "other"}}, {"action": "update_lead", "data": {"lead_id": 7, "price": 1}}):
        told = problem(await give(door, token, {**ASKED, **other}, Idempotency_Key="order 17"), 409)
        assert id_of_key(ONE, "order 17") in told["detail"]
    assert len(await written(kafka)) == 1


@pytest.mark.parametrize("key", ["", "k" * 129, "tab\there", "é"])
async def test_a_key_that_is_none_is_refused(board: Board, rows: Rows, key: str) -> None:
    headers = [(b"authorization", f"Bearer {await rows.token(commands=True)}".encode())]
    answer = await board.client.post(PATH, json=ASKED, headers=[*headers, (b"idempotency-key", key.encode())])
    assert [wrong["field"] for wrong in problem(answer, 400)["errors"]] == ["Idempotency-Key"]
    twice = [(b"idempotency-key", b"one"), (b"idempotency-key", b"two")]
    problem(await board.client.post(PATH, json=ASKED, headers=[*headers, *twice]), 400)


_WRONG_BODIES: list[tuple[dict[str, Any], str, str]] = [
    ({"action": "drop_tables"}, "action", "add_note"),
    ({"action": 5}, "action", "add_note"),
    ({"action": ["add_note"]}, "action", "add_note"),
    ({"action": None}, "action", "missing"),
    ({"account": "31337"}, "account", "31337"),
    ({"account": True}, "account", "31337"),
    ({"account": 0}, "account", "31337"),
    ({"account": 10**18}, "account", "31337"),
    ({"data": None}, "data", "missing"),
    ({"data": []}, "data", "object"),
    ({"data": {**NOTE, "text": ""}}, "data.text", "at least 1"),
    ({"data": {"entity_type": "lead", "entity_id": 7}}, "data.text", "required"),
    ({"data": {**NOTE, "entity_id": "7"}}, "data.entity_id", "whole number"),
    ({"data": {**NOTE, "color": "red"}}, "data.color", "not permitted"),
    ({"data": {**NOTE, "text": "a\0b"}}, "data.text", "U+0000"),
    ({"data": {**NOTE, "entity_id": "after"}}, "after", "name the command"),
    ({"after": "soon"}, "after", "pattern"),
    ({"after": 5}, "after", "string"),
    ({"expires": "tomorrow"}, "expires", "zone"),
    ({"expires": "2027-01-01T00:00:00"}, "expires", "timezone"),
    ({"expires": "2020-01-01T00:00:00Z"}, "expires", "has passed"),
    ({"correlation_id": "x" * 129}, "correlation_id", "128"),
    ({"correlation_id": "a\nb"}, "correlation_id", "pattern"),
    ({"causation_id": 7}, "causation_id", "string"),
    ({"id": str(uuid.uuid4())}, "id", "not known"),
]


async def test_each_wrong_field_is_named_and_nothing_is_sent(door: Board, rows: Rows, kafka: Settings) -> None:
    token = await rows.token(commands=True)
    for change, field, said in _WRONG_BODIES:
        members = problem(await give(door, token, {**ASKED, **change}), 400)
        assert [wrong["field"] for wrong in members["errors"]] == [field], change
        assert said in members["errors"][0]["detail"], (change, members)
        assert members["detail"].startswith(f"{field}: ")
        assert members["error_class"] == "validation"
    members = problem(await give(door, token, {"acount": 1, "data": {}}), 400)
    assert [wrong["field"] for wrong in members["errors"]] == ["acount", "action", "account"]
    problem(await give(door, token, []), 400)
    assert await written(kafka) == []


async def test_other_bodies_and_parameters_are_refused(board: Board, rows: Rows) -> None:
    bearer = {"Authorization": f"Bearer {await rows.token(commands=True)}"}
    json_type = {"Content-Type": "application/json"}
    large = b'{"data": "' + b"x" * (64 * 1024) + b'"}'
    for content, headers, status in (
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {}, 415),
        (large, json_type, 413),
        (b"{", json_type, 400),
        (b"\xff", json_type, 400),
        (b"[" * 5000, json_type, 400),
    ):
        problem(await board.client.post(PATH, content=content, headers={**bearer, **headers}), status)
    answer = await board.client.post(f"{PATH}?dry=1", json=ASKED, headers=bearer)
    assert [wrong["name"] for wrong in problem(answer, 400)["parameters"]] == ["dry"]


# ---- who may --------------------------------------------------------------------------------------------------------


async def test_only_who_has_the_right_and_the_account_may_give_a_command(
    door: Board, rows: Rows, kafka: Settings
) -> None:
    problem(await door.client.post(PATH, json=ASKED), 401)
    problem(await give(door, "kst_0123456789abcdef_" + "a" * 43), 401)
    members = problem(await give(door, await rows.token()), 403)
    assert "--commands" in members["detail"]
    members = problem(await give(door, await rows.token(TWO, commands=True)), 403)
    assert members["errors"] == [{"field": "account", "detail": "is not an account of this token"}]
    members = problem(await give(door, await rows.token(TWO, commands=True), {**ASKED, "data": {}}), 403)
    revoked = await rows.token(commands=True)
    await rows.connection.execute("UPDATE kommo.access_tokens SET revoked_at = now()")
    problem(await give(door, revoked), 401)
    problem(await give(door, await rows.code(commands=True)), 401)
    assert await written(kafka) == []
    assert (await give(door, await rows.token(TWO, ONE, commands=True))).status_code == 202


async def test_a_session_gives_commands_only_from_the_dashboards_own_page(
    door: Board, rows: Rows, kafka: Settings
) -> None:
    async def session(**rights: bool) -> dict[str, str]:
        answer = await door.client.post("/session", json={"code": await rows.code(ONE, **rights)})
        door.client.cookies.clear()
        return {"Cookie": f"kommo_streams_session={cookie_of(answer)[0]}"}

    reads, commands = await session(), await session(commands=True)
    for cookie, right in ((reads, False), (commands, True)):
        shown = (await door.client.get("/session", headers=cookie)).json()
        assert shown["commands"] is right
    problem(await door.client.post(PATH, json=ASKED, headers=reads), 403)
    for foreign in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        problem(await door.client.post(PATH, json=ASKED, headers={**commands, **foreign}), 403)
    form = {"Content-Type": "text/plain", **commands}  # what a form of another site can send
    problem(await door.client.post(PATH, content=b"{}", headers=form), 415)
    assert await written(kafka) == []
    own = {"Origin": door.url, "Sec-Fetch-Site": "same-origin", **commands}
    answer = await door.client.post(PATH, json=ASKED, headers=own)
    assert answer.status_code == 202, answer.text
    # A token is shown on purpose: nothing sends it by itself.
    token = await rows.token(commands=True)
    assert (await give(door, token, None, Origin="https://app.example")).status_code == 202


async def test_too_many_commands_of_one_token_are_put_off(
    kafka: Settings, rows: Rows, tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.giving.Pace", lambda: Pace(rate=0.01, burst=2))
    one, other = await rows.token(commands=True), await rows.token(commands=True)
    async with open_board(tables, **kafka_of(kafka)) as board:
        answers = [await give(board, one) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202, 202, 429]
        assert (answers[-1].json()["error_class"], answers[-1].headers["retry-after"]) == ("rate_limit", "1")
        assert (await give(board, other)).status_code == 202


# ---- without Kafka --------------------------------------------------------------------------------------------------


async def test_without_kafka_a_command_is_answered_503_and_reading_goes_on(
    rows: Rows, tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.outbound.SEND_SECONDS", 1.0)
    token = await rows.token(commands=True)
    known = await rows.command()
    async with open_board(tables, kafka_bootstrap_servers=f"127.0.0.1:{free_port()}") as board:
        answers = await asyncio.gather(*(give(board, token, Idempotency_Key="k") for _ in range(3)))
        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["error_class"] == "external_service"
            assert "Idempotency-Key" in answer.json()["detail"]
            assert answer.json()["id"] == id_of_key(ONE, "k")
            assert int(answer.headers["retry-after"]) > 0
        assert [item["command_id"] for item in await board.items(PATH, token)] == [known]
        assert (await board.get("/readyz")).status_code == 200


async def test_a_topic_that_is_not_there_yet_is_a_kafka_that_is_away_and_then_comes(
    servers: Servers, rows: Rows, tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.outbound.SEND_SECONDS", 1.5)
    settings = installation(servers, tables)
    token = await rows.token(commands=True)
    async with open_board(tables, **kafka_of(settings)) as board:
        assert (await give(board, token)).status_code == 503
        await ensure_topics(settings)

        async def taken() -> bool:
            return (await give(board, token)).status_code == 202

        await eventually(taken, 20)
    await delete_topics(settings)


async def test_wrong_settings_of_kafka_are_no_reason_not_to_read(rows: Rows, tables: str) -> None:
    token = await rows.token(commands=True)
    async with open_board(tables, kafka_security_protocol="SASL_SSL") as board:
        assert (await give(board, token)).status_code == 503
        assert await board.items(PATH, token) == []


# ---- the list -------------------------------------------------------------------------------------------------------


async def test_a_command_is_listed_whole(board: Board, rows: Rows) -> None:
    event = uuid.uuid4()
    name = await rows.command(
        action="create_lead",
        entity_id="new:x",
        status="waiting",
        attempts=2,
        error_class="external_service",
        error="Kommo did not answer",
        next_attempt_at=NOON + HOUR,
        duration_ms=340,
        total_ms=2**40,
        entities='{"lead": 7}',
        after="0192f3c1",
        data='{"name": "Ж", "price": 5}',
        correlation_id="c",
        event_id=event,
    )
    assert await board.items(PATH, await rows.token(ONE)) == [
        {
            "account_id": ONE,
            "command_id": name,
            "action": "create_lead",
            "entity_type": "lead",
            "entity_id": "new:x",
            "state": "waiting",
            "attempts": 2,
            "error_class": "external_service",
            "error": "Kommo did not answer",
            "next_attempt_at": "2026-05-04T13:00:00Z",
            "admitted_at": "2026-05-04T12:00:00Z",
            "ended_at": None,
            "duration_ms": 340,
            "total_ms": 2**40,
            "entities": {"lead": 7},
            "decision": None,
            "after": "0192f3c1",
            "data": {"name": "Ж", "price": 5},
            "correlation_id": "c",
            "occurred_at": "2026-05-04T12:00:00Z",
            "event_id": str(event),
        }
    ]


async def test_each_filter_restricts_the_commands(board: Board, rows: Rows) -> None:
    token = await rows.token()
    for number, (account, columns) in enumerate(
        [
            (ONE, {}),
            (ONE, {"status": "unknown", "entity_type": "contact", "entity_id": "7"}),
            (ONE, {"status": "failed", "action": "create_lead", "entity_id": "new:2"}),
            (TWO, {"status": "waiting", "action": "create_lead"}),
        ]
    ):
        await rows.command(account, NOON + number * HOUR, command_id=str(number), **columns)

    async def found(**params: object) -> str:
        return "".join(item["command_id"] for item in await board.items(PATH, token, **params))

    assert await found() == "3210"
    assert await found(account=ONE) == "210"
    assert await found(state="unknown") == "1"
    assert await found(state="waiting") == "3"
    assert await found(action="create_lead") == "32"
    assert await found(entity="contact") == "1"
    assert await found(entity="lead/new:2") == "2"
    assert await found(since=(NOON + HOUR).isoformat(), until=(NOON + 3 * HOUR).isoformat()) == "21"
    assert await found(account=ONE, action="create_lead", state="failed", entity="lead") == "2"


async def test_pages_of_commands_show_each_once_and_a_wait_is_for_this_list(board: Board, rows: Rows) -> None:
    wanted = {await rows.command((ONE, TWO)[number % 2], NOON + number % 3 * HOUR) for number in range(20)}
    await rows.command(4)
    token, seen, cursor = await rows.token(ONE, TWO), [], None
    while True:
        answer = (await board.get(PATH, token, limit=3, **({"cursor": cursor} if cursor else {}))).json()
        seen += [(item["occurred_at"], item["account_id"], item["command_id"]) for item in answer["items"]]
        if (cursor := answer["next_cursor"]) is None:
            break
    assert seen == sorted(seen, reverse=True)
    assert ({name for _, _, name in seen}, len(seen)) == (wanted, 20)
    event = await rows.activity(partition=3)
    waiting = asyncio.create_task(board.get(PATH, token, wait_for=event))
    await eventually(lambda: waiting.done() or board.services.waiting._waiters)
    await asyncio.sleep(0.1)  # three looks: they show that it waits, and if they were late, nothing fails
    assert not waiting.done()
    await rows.position("commands", 1, partition=3)
    assert len((await waiting).json()["items"]) == 20


async def test_every_wrong_parameter_of_the_list_is_named(board: Board, rows: Rows) -> None:
    token = await rows.token()
    shared = [wrong for wrong in WRONG if wrong[1] in ("account", "entity", "since", "until", "limit", "cursor")]
    here = [
        ("state=done", "state", "waiting, succeeded, failed or unknown"),
        ("action=delete_lead", "action", "add_note"),
        ("type=kommo.command.failed", "type", "account, entity, state, action"),
    ]
    for query, name, accepted in [*shared, *here]:
        members = problem(await board.get(f"{PATH}?{query}", token), 400)
        assert [wrong["name"] for wrong in members["parameters"]] == [name], query
        assert accepted in members["parameters"][0]["detail"], query


# ---- a command and its story ----------------------------------------------------------------------------------------


async def test_a_command_has_its_story_with_the_webhooks_it_caused(board: Board, rows: Rows) -> None:
    name = await rows.command(correlation_id="c-1")
    await rows.effect(name, NOON + HOUR)
    own: dict[str, Any] = {"entity": f"command/{name}", "type": "kommo.command.succeeded"}
    await rows.activity(at=NOON, summary="began", **own)
    await rows.activity(at=NOON - HOUR, summary="led to it", correlation_id="c-1", entity="contact/5")
    await rows.activity(at=NOON + HOUR, summary="its webhook")
    await rows.activity(at=NOON + 2 * HOUR, summary="another's")
    await rows.activity(TWO, NOON, summary="another tenant's", correlation_id="c-1")
    token = await rows.token(ONE)
    answer = await board.get(f"{PATH}/{name.upper()}", token)
    assert answer.headers["cache-control"] == "private, no-store"
    told = answer.json()
    assert (told["command_id"], told["state"]) == (name, "succeeded")
    assert [(line["summary"], line["caused_by"]) for line in told["story"]] == [
        ("led to it", None),
        ("began", None),
        ("its webhook", name),
    ]
    lines = {item["summary"]: item["caused_by"] for item in await board.items("/api/v1/activity", token)}
    assert lines == {"led to it": None, "began": None, "its webhook": name, "another's": None}


async def test_a_command_that_is_not_there_says_that_it_may_come(board: Board, rows: Rows) -> None:
    name = await rows.command(ONE)
    for token in (await rows.token(TWO), await rows.token(999)):
        members = problem(await board.get(f"{PATH}/{name}", token), 404)  # another tenant's is as good as none
        assert "not be taken on yet" in members["detail"]
    problem(await board.get(f"{PATH}/{uuid.uuid4()}", await rows.token()), 404)
    problem(await board.get(f"{PATH}/{name}", await rows.token(ONE), account=TWO), 403)
    problem(await board.get(f"{PATH}/{name}", await rows.token(), account=TWO), 404)
    assert (await board.get(f"{PATH}/{name}", await rows.token(), account=ONE)).status_code == 200
    problem(await board.get(f"{PATH}/{name}"), 401)
    for query, wrong in (("wait=11", "wait"), ("wait=x", "wait"), ("limit=5", "limit")):
        members = problem(await board.get(f"{PATH}/{name}?{query}", await rows.token()), 400)
        assert [found["name"] for found in members["parameters"]] == [wrong]
    members = problem(await board.get(f"{PATH}/5", await rows.token()), 400)
    assert members["parameters"][0]["name"] == "command_id"


async def test_a_wait_ends_with_the_command_or_with_its_time(
    board: Board, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.stories.POLL_SECONDS", 0.02)
    token, name = await rows.token(), str(uuid.uuid4())
    loop = asyncio.get_running_loop()
    waiting = [asyncio.create_task(board.get(f"{PATH}/{name}", token, wait=10)) for _ in range(2)]
    await eventually(lambda: board.services.stories._waiting == 2)
    await rows.command(command_id=name, status="waiting")
    none = asyncio.create_task(board.get(f"{PATH}/{uuid.uuid4()}", token, wait=1))
    began = loop.time()
    assert (await board.get(f"{PATH}/{name}", token, wait=1)).json()["state"] == "waiting"
    assert 0.9 < loop.time() - began < 5
    assert not any(task.done() for task in waiting)
    await rows.connection.execute("UPDATE kommo_projections.commands_v1 SET status = 'unknown'")
    async with asyncio.timeout(5):
        assert [(await task).json()["state"] for task in waiting] == ["unknown"] * 2
    problem(await none, 404)
    monkeypatch.setattr("dashboard.stories.MOST_WAITING", 0)
    assert (await board.get(f"{PATH}/{uuid.uuid4()}", token, wait=1)).status_code == 503
    assert (await board.get(f"{PATH}/{name}", token, wait=1)).status_code == 200  # nothing to wait for


async def test_who_waits_is_answered_when_the_dashboard_stops(rows: Rows, tables: str) -> None:
    name, token = await rows.command(status="waiting"), await rows.token()
    async with open_board(tables) as board:
        waiting = asyncio.create_task(board.get(f"{PATH}/{name}", token, wait=10))
        await eventually(lambda: board.services.stories._waiting == 1)
        board.stop.set()
        async with asyncio.timeout(4):
            assert (await waiting).json()["state"] == "waiting"


# ---- OpenAPI --------------------------------------------------------------------------------------------------------


async def test_openapi_describes_the_commands_and_the_answers_fit(door: Board, rows: Rows) -> None:
    token = await rows.token(commands=True)
    name = await rows.command(entities='{"lead": 7}', data="{}", ended_at=NOON, status="failed", error="x")
    await rows.command(status="waiting", next_attempt_at=NOON)
    await rows.activity(entity=f"command/{name}", type="kommo.command.failed")
    document = (await door.client.get("/openapi.json")).json()

    def fits(answer: httpx.Response, path: str, method: str) -> None:
        response = document["paths"][path][method]["responses"][str(answer.status_code)]
        ((_, content),) = response["content"].items()
        jsonschema.validate(answer.json(), {**content["schema"], "components": document["components"]})

    listed = await door.get(PATH, token)
    fits(listed, PATH, "get")
    (item,) = [document["components"]["schemas"]["Command"]]
    assert list(item["properties"]) == list(listed.json()["items"][0])
    fits(await door.get(f"{PATH}/{name}", token), f"{PATH}/{{command_id}}", "get")
    fits(await door.get(f"{PATH}/{uuid.uuid4()}", token), f"{PATH}/{{command_id}}", "get")
    fits(await give(door, token), PATH, "post")
    fits(await give(door, token, {**ASKED, "data": {}}), PATH, "post")
    told = [parameter["name"] for parameter in document["paths"][PATH]["get"]["parameters"]]
    assert told == [parameter.name for parameter in COMMANDS_PARAMETERS]
    post = document["paths"][PATH]["post"]
    assert [parameter["name"] for parameter in post["parameters"]] == ["Idempotency-Key"]
    assert post["security"] == [{"token": []}, {"session": []}]
    schema = post["requestBody"]["content"]["application/json"]
    jsonschema.validate(schema["example"], schema["schema"])
    assert (await give(door, token, schema["example"])).status_code == 202


# ---- the whole way --------------------------------------------------------------------------------------------------


async def test_the_whole_way_from_the_request_to_kommos_own_webhook(servers: Servers, settings: Settings) -> None:
    """A command given over HTTP changes the simulated Kommo, whose webhook is known as its effect."""
    database = settings.database_url.get_secret_value()
    await migrated(database)
    address = f"http://127.0.0.1:{settings.gateway_port}/webhooks/{Keyring.from_settings(settings).sign(Token(ONE, 1))}"
    connection = await connect(settings, application="test")
    await migrate_missing(connection)
    rows = Rows(connection)
    async with contextlib.AsyncExitStack() as stack:
        kommo = await stack.enter_async_context(simulated_kommo(addresses={ONE: address}, limits=Limits(rate=None)))
        store = CredentialStore(connection, Vault.from_settings(settings))
        await store.put(Credentials(ONE, kommo.base_url, Pair(SecretStr(kommo.token(ONE)), None)))
        await ensure_topics(settings)
        for main in (gateway, ingest, worker, projector):
            await stack.enter_async_context(running(lambda stop, main=main: main(settings, stop)))  # type: ignore[misc]
        board = await stack.enter_async_context(open_board(database, **kafka_of(settings)))
        token = await rows.token(ONE, commands=True)

        async def ended(body: dict[str, Any], **headers: str) -> dict[str, Any]:
            answer = await give(board, token, body, **headers)
            assert answer.status_code == 202, answer.text
            location = answer.json()["location"]

            async def told() -> Any:
                found = await board.get(location, token, wait=10)
                return found.json() if found.status_code == 200 and found.json()["state"] != "waiting" else None

            command: dict[str, Any] = await eventually(told, 60)
            return command

        async def caused(command: dict[str, Any], kind: str) -> dict[str, Any]:
            async def told() -> Any:
                story = (await board.get(f"{PATH}/{command['command_id']}", token)).json()["story"]
                return next((line for line in story if line["event_type"] == kind), None)

            line: dict[str, Any] = await eventually(told, 30)
            return line

        lead = {"action": "create_lead", "account": ONE, "data": {"name": "Kitchen", "price": 900}}
        made = await ended(lead, Idempotency_Key="kitchen")
        assert (made["state"], made["action"], made["data"]) == ("succeeded", "create_lead", lead["data"])
        identifier = made["entities"]["lead"]
        added = await caused(made, "kommo.lead.added")
        assert (added["entity_id"], added["caused_by"]) == (str(identifier), made["command_id"])
        note = {**ASKED, "data": {**NOTE, "entity_id": identifier}}
        noted = await ended(note)
        line = await caused(noted, "kommo.note.added")
        assert line["caused_by"] == noted["command_id"]
        assert "Called back" in line["summary"]
        own = [line["event_type"] for line in (await board.get(f"{PATH}/{noted['command_id']}", token)).json()["story"]]
        assert {"kommo.command.admitted", "kommo.command.succeeded"} <= set(own)
        refused = await ended({**note, "data": {**note["data"], "entity_id": 2**40}})
        assert (refused["state"], refused["error_class"]) == ("failed", "validation")
        assert (await ended(lead, Idempotency_Key="kitchen"))["command_id"] == made["command_id"]
        assert len(kommo.ledger.of(ONE, "lead", "created")) == 1
    await connection.close()
