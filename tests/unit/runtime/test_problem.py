"""Every HTTP door answers errors alike: problem+json with an id that is in the log too, and nothing that is secret."""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiokafka.errors import KafkaConnectionError
from pydantic import SecretStr
from structlog.testing import capture_logs

from agents.ingest import ingest
from dashboard.process import dashboard
from gateway.door import Door
from gateway.intake import Intake
from gateway.process import gateway
from gateway.tokens import Keyring, Token
from gateway.watch import AnswerWatch
from projections.projector import projector
from runtime.health import Health, Receive, Scope, Send, with_health
from runtime.metrics import ANSWERS
from runtime.problem import CONTENT_TYPE, TYPE, Problem, guarded, title_of, unforeseen
from runtime.process import HEAD_BYTES, serving
from runtime.settings import Settings
from schemas.delivery import MAX_BODY_BYTES, Delivery
from schemas.errors import ErrorClass
from streams.accounts import Accounts
from tests.support.installation import KEYS
from tests.support.ports import free_port
from tests.support.waiting import eventually, running

MINE = "request-of:mine.5"
BESIDE_THE_DOORS = pytest.mark.asyncio(loop_scope="module")
MEMBERS = {"type", "title", "status", "detail", "error_class", "correlation_id"}


@dataclass(frozen=True, slots=True)
class Doors:
    """The doors of all processes, of which no server is there: each a client; and a genuine webhook address."""

    gateway: httpx.AsyncClient
    ingest: httpx.AsyncClient
    projector: httpx.AsyncClient
    dashboard: httpx.AsyncClient
    webhooks: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doors() -> AsyncIterator[Doors]:
    ports = [free_port() for _ in range(4)]
    settings = Settings(
        kafka_bootstrap_servers="127.0.0.1:1",
        database_url=SecretStr(f"postgresql://kommo:hunter2@127.0.0.1:{free_port()}/kommo"),
        gateway_keys=SecretStr(KEYS),
        gateway_port=ports[0],
        ingest_port=ports[1],
        projector_port=ports[2],
        dashboard_port=ports[3],
    )
    async with contextlib.AsyncExitStack() as stack:
        for main in (gateway, ingest, projector, dashboard):
            await stack.enter_async_context(running(lambda stop, main=main: main(settings, stop)))  # type: ignore[misc]
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False))
            for port in ports
        ]
        for client in clients:

            async def lives(client: httpx.AsyncClient = client) -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return (await client.get("/livez")).status_code == 200
                return False

            await eventually(lives)
        token = Keyring.from_settings(settings).sign(Token(5, 1))
        yield Doors(*clients, webhooks=f"/webhooks/{token}")


def problem(answer: httpx.Response, status: int, error_class: str) -> dict[str, Any]:
    """See that an answer is an error as all of them are, and return its members."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == CONTENT_TYPE
    members: dict[str, Any] = answer.json()
    assert members.keys() >= MEMBERS
    assert members["status"] == status
    assert members["error_class"] == error_class
    assert members["type"] == TYPE + error_class
    assert members["title"] == title_of(ErrorClass(error_class))
    assert members["detail"]
    assert members["correlation_id"] == answer.headers["x-correlation-id"]
    return members


@BESIDE_THE_DOORS
async def test_what_is_not_there_and_what_cannot_be_done(doors: Doors) -> None:
    for client in (doors.gateway, doors.ingest, doors.projector, doors.dashboard):
        for path in ("/nothing", "/api/v1/nothing", "/webhooks/k1.5.1.forged"):
            problem(await client.request("GET" if client is doors.dashboard else "POST", path), 404, "not_found")
        for path in ("/livez", "/readyz", "/metrics"):
            answer = await client.post(path)
            problem(answer, 405, "validation")
            assert answer.headers["allow"] == "GET, HEAD"
    problem(await doors.gateway.get(doors.webhooks), 405, "validation")
    problem(await doors.gateway.post("/integrations/disabled"), 405, "validation")
    problem(await doors.gateway.get("/integrations/disabled"), 404, "not_found")
    problem(await doors.dashboard.post("/api/v1/activity"), 405, "validation")
    problem(await doors.dashboard.get("/webhooks/x"), 404, "not_found")


@BESIDE_THE_DOORS
async def test_what_is_too_large_and_what_is_no_http(doors: Doors) -> None:
    json = {"content-type": "application/json"}
    problem(await doors.dashboard.post("/session", content=b"x" * 5000, headers=json), 413, "validation")
    problem(await doors.dashboard.post("/session", content=b"x"), 415, "validation")
    for client in (doors.gateway, doors.ingest, doors.dashboard):
        for request, status in (
            (b"what?\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nx: " + b"y" * (HEAD_BYTES + 1), 431),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
            writer.write(request)
            raw = await asyncio.wait_for(reader.read(), 20)  # to its end: the connection is closed
            writer.close()
            head, _, body = raw.partition(b"\r\n\r\n")
            headers = [tuple(line.split(b": ", 1)) for line in head.split(b"\r\n")[1:]]
            problem(httpx.Response(int(raw[9:12]), headers=headers, content=body), status, "validation")
            assert (b"connection", b"close") in headers


@BESIDE_THE_DOORS
async def test_a_server_that_is_away_is_answered_with_503_and_a_line_with_the_same_id(doors: Doors) -> None:
    asked = [
        (doors.gateway, "POST", doors.webhooks, "external_service"),
        (doors.dashboard, "GET", "/api/v1/activity", "database"),
        (doors.dashboard, "GET", "/session", "database"),
    ]
    for client, method, path, error_class in asked:
        with capture_logs() as lines:
            answer = await client.request(method, path, headers={"x-request-id": MINE})
        members = problem(answer, 503, error_class)
        assert members["correlation_id"] == MINE
        assert "retry-after" in answer.headers
        assert "hunter2" not in answer.text
        found = [line for line in lines if line.get("correlation_id") == MINE]
        assert [(line["event"], line["status"], line["error_class"]) for line in found] == [
            ("answered with an error", 503, error_class)
        ]
        assert found[0]["log_level"] == ErrorClass(error_class).facts.severity
        assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Request-Id": MINE}, MINE),
        ({"X-Amocrm-Requestid": "6f1f5a1c-5d3f-4c3f-9d4b-2d6c7a3a1b11"}, "6f1f5a1c-5d3f-4c3f-9d4b-2d6c7a3a1b11"),
        ({"X-Request-Id": MINE, "X-Amocrm-Requestid": "other"}, MINE),
        ({"X-Request-Id": "x" * 128}, "x" * 128),
        ({"X-Request-Id": "bad one", "X-Amocrm-Requestid": "good"}, "good"),
        ({"X-Request-Id": "x" * 129}, None),
        ({"X-Request-Id": ""}, None),
        ({"X-Request-Id": "a\tb"}, None),
        ({"X-Request-Id": '"><script>'}, None),
        ({"X-Request-Id": "\u043a\u043b\u044e\u0447".encode()}, None),
        ({}, None),
    ],
)
async def test_the_id_is_that_of_the_request_where_it_is_sane(headers: dict[str, Any], expected: str | None) -> None:
    app = guarded(with_health(Health()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        first, second = [
            problem(await client.get("/nothing", headers=headers), 404, "not_found")["correlation_id"] for _ in range(2)
        ]
    if expected is not None:
        assert first == second == expected
    else:
        assert first != second
        assert uuid.UUID(first).version == 4


def gateway_door(failure: Exception, stored: list[Delivery]) -> tuple[Door, str]:
    keys = Keyring.from_settings(Settings(gateway_keys=SecretStr(KEYS)))

    async def store(delivery: Delivery) -> None:
        stored.append(delivery)
        raise failure

    intake = Intake(store, ack_seconds=1)
    door = Door(keys, Accounts(), intake, AnswerWatch(), ready=lambda: True, body_seconds=5)
    return door, f"/webhooks/{keys.sign(Token(5, 1))}"


async def test_a_delivery_that_was_not_stored_is_named_by_its_own_id() -> None:
    for failure in (KafkaConnectionError("no broker"), ConnectionResetError("a"), TimeoutError()):
        stored: list[Delivery] = []
        door, path = gateway_door(failure, stored)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://x") as client:
            with capture_logs() as lines:
                answer = await client.post(path, content=b"a=1", headers={"x-amocrm-requestid": "kommos"})
        members = problem(answer, 503, "external_service")
        assert [item.delivery_id for item in stored] == [members["correlation_id"]]
        assert [line["correlation_id"] for line in lines] == [members["correlation_id"]]
        assert lines[0]["cause"].startswith(type(failure).__name__)


async def test_a_body_that_is_too_large() -> None:
    door, path = gateway_door(ValueError(), [])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://x") as client:
        problem(await client.post(path, content=b"x" * (MAX_BODY_BYTES + 1)), 413, "validation")


async def test_a_fault_of_ours_is_one_line_with_the_id_and_an_answer_that_tells_nothing() -> None:
    door, path = gateway_door(RuntimeError("a secret: hunter2"), [])
    async with (
        serving(door, "127.0.0.1", 0, "KOMMO_STREAMS_X") as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        with capture_logs() as lines:
            answer = await client.post(path, content=b"a=1", headers={"x-request-id": MINE})
            again = await client.post(path, content=b"a=1")
    assert problem(answer, 500, "internal")["correlation_id"] == MINE
    assert "hunter2" not in answer.text
    assert problem(again, 500, "internal")["correlation_id"] == lines[1]["correlation_id"]  # a new one, and one only
    assert [line["event"] for line in lines] == ["a request failed"] * 2
    assert (lines[0]["correlation_id"], lines[0]["error_class"], lines[0]["log_level"]) == (MINE, "internal", "error")
    assert lines[0]["exc_info"]


@BESIDE_THE_DOORS
async def test_answers_with_500_of_the_gateway_are_counted(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("gateway.tokens.Keyring.verify", broken)
    monkeypatch.setattr("gateway.integrations.Integrations.verify", broken)
    before = ANSWERS.labels("500")._value.get()
    with capture_logs():
        problem(await doors.gateway.post(doors.webhooks), 500, "internal")
        problem(await doors.gateway.get("/integrations/disabled"), 500, "internal")
    assert ANSWERS.labels("500")._value.get() == before + 2


async def test_a_fault_after_the_answer_began_is_a_line_and_the_end_of_the_connection() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        raise RuntimeError

    async with (
        serving(app, "127.0.0.1", 0, "KOMMO_STREAMS_X") as port,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        with capture_logs() as lines, pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"http://127.0.0.1:{port}/")
    assert [line["event"] for line in lines] == ["a request failed"]


def test_what_nobody_foresaw_is_answered_by_its_class() -> None:
    for error, status, error_class in [
        (ValueError("hunter2"), 500, "internal"),
        (Problem(400, "hunter2"), 500, "internal"),  # not the fault of whoever asked
        (ConnectionError("hunter2"), 503, "external_service"),
        (Problem(400, "hunter2", error_class=ErrorClass.DATABASE), 503, "database"),
    ]:
        found = unforeseen(error)
        assert (found.status, found.error_class) == (status, error_class)
        assert b"hunter2" not in found.body("x")
        assert ("retry-after" in found.headers) == (status == 503)


@pytest.mark.parametrize("error_class", ErrorClass)
def test_status_title_and_type_come_from_the_class(error_class: ErrorClass) -> None:
    found = Problem(None, "why", error_class=error_class, reason=5)
    assert found.status == error_class.facts.status
    assert found.members["type"] == f"urn:kommo-streams:error:{error_class}"
    assert re.fullmatch(r"[A-Z][^:.]{10,80}", found.members["title"])
    assert found.members["reason"] == 5
