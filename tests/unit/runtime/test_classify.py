"""Every error has a class, by its type and status; the errors here are raised by the libraries themselves."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiosmtplib
import asyncpg
import httpx
import pytest
import redis.asyncio as redis
from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka
from pydantic import BaseModel, SecretStr, ValidationError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.exceptions import HTTPException

from runtime.classify import BY_STATUS, MAX_CHARACTERS, TYPES, class_of_status, classify, describe, failing_as
from runtime.postgres import connect, open_pool
from runtime.problem import Problem
from runtime.process import StartError
from runtime.settings import Settings
from schemas.command import CommandError
from schemas.delivery import DeliveryError
from schemas.errors import FACTS, ErrorClass
from schemas.event import EventError, NewerEventError
from tests.support import ROOT
from tests.support.ports import free_port
from tests.support.raising import raised, raised_by

VALIDATION, AUTHENTICATION, AUTHORIZATION, NOT_FOUND, RATE_LIMIT, EXTERNAL, DATABASE, INTERNAL = ErrorClass


@contextlib.asynccontextmanager
async def answering(*replies: bytes, seconds: float = 0) -> AsyncIterator[int]:
    """A server that says one reply at the beginning and after each thing it is told, then closes; yields its port."""
    serving = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.CancelledError):
            for reply in replies:
                if reply:
                    writer.write(reply)
                    await writer.drain()
                if not await reader.read(65536):
                    break
            await asyncio.sleep(seconds)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)


@pytest.mark.parametrize("name", [*TYPES, *BY_STATUS])
def test_every_name_of_the_table_is_a_type_that_calls_itself_so(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    assert issubclass(found, BaseException)
    assert f"{found.__module__}.{found.__qualname__}" == name


def test_no_library_is_imported_for_the_sake_of_its_errors() -> None:
    heavy = {name.partition(".")[0] for name in [*TYPES, *BY_STATUS]} - {"schemas", "runtime", "builtins", "asyncio"}
    heavy = heavy - {"ssl", "pydantic_core"} | {"sentry_sdk"}
    code = f"import sys, runtime.classify, runtime.sentry; print(sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout == b"[]\n"
    assert "asyncpg" in heavy


async def test_a_database_that_is_away_is_known_as_one_by_its_connection() -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = Settings(database_url=SecretStr(f"postgresql://{address}/x"))
    error = await raised(connect(settings, application="test"))
    assert isinstance(error, OSError)
    assert classify(error) is DATABASE
    pool = await open_pool(settings, application="test")
    assert classify(await raised(pool.fetch("SELECT 1"))) is DATABASE
    await pool.close()
    assert classify(await raised(asyncpg.connect(f"postgresql://{address}/x"))) is EXTERNAL


async def test_a_redis_that_is_away() -> None:
    away = redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 1))
    error = await raised(away.get("x"))
    assert isinstance(error, redis.ConnectionError)
    assert classify(error) is DATABASE


STATUSES = {
    301: EXTERNAL,
    400: VALIDATION,
    401: AUTHENTICATION,
    402: AUTHORIZATION,
    403: AUTHORIZATION,
    404: NOT_FOUND,
    405: VALIDATION,
    408: EXTERNAL,
    410: NOT_FOUND,
    413: VALIDATION,
    422: VALIDATION,
    425: EXTERNAL,
    429: RATE_LIMIT,
    500: EXTERNAL,
    502: EXTERNAL,
    503: EXTERNAL,
    504: EXTERNAL,
}


async def test_statuses_of_an_answer() -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for status, expected in STATUSES.items():
            reply = b"HTTP/1.1 %d X\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n" % status
            async with answering(b"", reply) as port:
                answer = await client.get(f"http://127.0.0.1:{port}/x")
            assert classify(raised_by(answer.raise_for_status)) is expected, status
            assert class_of_status(status) is expected
            assert classify(HTTPException(status)) is expected


async def test_requests_without_an_answer() -> None:
    gzip = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc"
    again = b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"
    async with (
        answering(b"", b"", seconds=60) as silent,
        answering(b"", b"what?\r\n\r\n") as babbling,
        answering(b"", gzip) as packed,
        answering(b"", *[again] * 5) as around,
        httpx.AsyncClient(trust_env=False, timeout=20, follow_redirects=True, max_redirects=3) as client,
    ):
        expected: list[tuple[str, type[Exception], ErrorClass]] = [
            (f"http://127.0.0.1:{free_port()}/", httpx.ConnectError, EXTERNAL),
            (f"http://127.0.0.1:{silent}/", httpx.ReadTimeout, EXTERNAL),
            (f"http://127.0.0.1:{babbling}/", httpx.RemoteProtocolError, EXTERNAL),
            (f"https://127.0.0.1:{babbling}/", httpx.ConnectError, EXTERNAL),
            (f"http://127.0.0.1:{packed}/", httpx.DecodingError, EXTERNAL),
            (f"http://127.0.0.1:{around}/", httpx.TooManyRedirects, EXTERNAL),
            ("http://127.0.0.1:port/", httpx.InvalidURL, VALIDATION),
            ("ftp://127.0.0.1/", httpx.UnsupportedProtocol, VALIDATION),
        ]
        for url, kind, error_class in expected:
            timeout = httpx.Timeout(20, read=0.2 if kind is httpx.ReadTimeout else 20)
            error = await raised(client.get(url, timeout=timeout))
            assert isinstance(error, kind), url
            assert classify(error) is error_class, url
        error = await raised(client.get(f"http://127.0.0.1:{silent}/", headers={"x": "a\nb"}))
        assert isinstance(error, httpx.LocalProtocolError)
        assert classify(error) is INTERNAL


async def test_errors_of_kafka_without_one() -> None:
    away = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{free_port()}")
    error = await raised(away.start())
    await away.stop()
    assert isinstance(error, kafka.KafkaConnectionError)
    assert classify(error) is EXTERNAL
    by_type = {
        VALIDATION: [kafka.RecordTooLargeError, kafka.RecordListTooLargeError],
        AUTHENTICATION: [kafka.SaslAuthenticationFailed, kafka.AuthenticationFailedError],
        AUTHORIZATION: [kafka.TopicAuthorizationFailedError, kafka.GroupAuthorizationFailedError],
        EXTERNAL: [kafka.NotLeaderForPartitionError, kafka.KafkaTimeoutError, kafka.UnknownTopicOrPartitionError],
    }
    for expected, kinds in by_type.items():
        for kind in kinds:
            assert classify(kind()) is expected, kind


OK = b"250 ok\r\n"
GREETING, HELLO = b"220 mail.example\r\n", b"250-mail.example\r\n250 AUTH PLAIN\r\n"
MAILS: dict[tuple[bytes, ...], ErrorClass] = {
    (b"554 no service\r\n",): EXTERNAL,
    (b"421 too busy\r\n",): EXTERNAL,
    (GREETING, b"550 no\r\n", b"550 no\r\n"): EXTERNAL,
    (GREETING, HELLO, b"535 wrong password\r\n"): AUTHENTICATION,
    (GREETING, HELLO, b"454 try later\r\n"): EXTERNAL,
    (GREETING, HELLO, b"235 ok\r\n", b"530 sign in\r\n", OK): AUTHENTICATION,
    (GREETING, HELLO, b"235 ok\r\n", b"553 not you\r\n", OK): VALIDATION,
    (GREETING, HELLO, b"235 ok\r\n", OK, b"550 no such user\r\n", OK): VALIDATION,
    (GREETING, HELLO, b"235 ok\r\n", OK, b"450 try later\r\n", OK): EXTERNAL,
    (GREETING, HELLO, b"235 ok\r\n", OK, OK, b"354 go\r\n", b"554 spam\r\n", OK): VALIDATION,
    (GREETING, HELLO, b"235 ok\r\n", OK, OK, b"354 go\r\n", b"452 full\r\n", OK): EXTERNAL,
    (GREETING,): EXTERNAL,
}  # fmt: skip


@pytest.mark.parametrize("replies", MAILS)
async def test_errors_of_a_mail_server(replies: tuple[bytes, ...]) -> None:
    mail = "Subject: x\r\n\r\nx"
    async with answering(*replies) as port:
        error = await raised(
            aiosmtplib.send(
                mail,
                sender="a@example.com",
                recipients=["b@example.com"],
                hostname="127.0.0.1",
                port=port,
                start_tls=False,
                username="u",
                password="p",
                timeout=20,
            )
        )
    assert isinstance(error, aiosmtplib.SMTPException), error
    assert classify(error) is MAILS[replies], repr(error)


def test_of_several_recipients_one_for_whom_it_may_pass_decides() -> None:
    gone, full = aiosmtplib.SMTPRecipientRefused(550, "x", "a@b"), aiosmtplib.SMTPRecipientRefused(452, "x", "c@d")
    assert classify(aiosmtplib.SMTPRecipientsRefused([gone, gone])) is VALIDATION
    assert classify(aiosmtplib.SMTPRecipientsRefused([gone, full])) is EXTERNAL


async def test_errors_of_networks() -> None:
    async def late() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(1)

    async def cut_off() -> None:
        async with answering(b"abc") as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                writer.write_eof()
                await reader.readexactly(9)

    async def plain() -> None:
        async with answering(b"not TLS, for sure\r\n") as port:
            await asyncio.open_connection("127.0.0.1", port, ssl=True)

    def at_a_missing_socket() -> None:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect("/nothing/of/this/name")

    assert classify(await raised(late())) is EXTERNAL
    assert classify(await raised(cut_off())) is EXTERNAL
    error = await raised(plain())
    assert isinstance(error, ssl.SSLError)
    assert classify(error) is EXTERNAL
    assert classify(raised_by(lambda: socket.create_connection(("127.0.0.1", free_port())))) is EXTERNAL
    assert classify(raised_by(at_a_missing_socket)) is EXTERNAL


def test_where_the_network_is_known_it_names_the_class() -> None:
    def away() -> None:
        with failing_as(DATABASE), failing_as(AUTHENTICATION):
            raise ConnectionResetError

    def wrong() -> None:
        with failing_as(DATABASE):
            raise ValueError

    assert classify(raised_by(away)) is AUTHENTICATION  # the nearest knows best
    assert classify(raised_by(wrong)) is INTERNAL


class Telling(Exception):
    def __init__(self, error_class: Any) -> None:
        self.error_class = error_class


def test_our_own_errors() -> None:
    class Model(BaseModel):
        number: int

    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"number": "x"})
    assert classify(caught.value) is VALIDATION
    for kind in (EventError, DeliveryError, CommandError, StartError):
        assert classify(kind("x")) is VALIDATION, kind
    assert classify(NewerEventError("x")) is INTERNAL
    for error_class in ErrorClass:
        assert classify(Telling(error_class)) is error_class
        assert classify(Problem(500, "x", error_class=error_class)) is error_class
    assert classify(Telling("database")) is INTERNAL  # a word is no class


@pytest.mark.parametrize("error", [ValueError(), KeyError("x"), RuntimeError(), MemoryError(), AssertionError()])
def test_what_nobody_foresaw_is_internal(error: Exception) -> None:
    assert classify(error) is INTERNAL


def test_of_a_group_the_worst_member_counts() -> None:
    def group(*members: BaseException) -> ErrorClass:
        return classify(BaseExceptionGroup("x", members))

    away, wrong = ConnectionError(), DeliveryError("x")
    assert group(away, redis.RedisError("x")) is DATABASE
    assert group(away, wrong) is VALIDATION
    assert group(away, wrong, ValueError()) is INTERNAL
    assert group(asyncio.CancelledError(), away) is EXTERNAL
    assert group(asyncio.CancelledError()) is INTERNAL
    assert group(away, ExceptionGroup("y", [wrong])) is VALIDATION
    assert {group(Telling(error_class)) for error_class in ErrorClass} == set(ErrorClass)


def test_what_an_error_was_raised_from_does_not_count() -> None:
    def translated() -> None:
        try:
            raise ConnectionResetError
        except OSError as error:
            raise ValueError("not foreseen") from error

    assert classify(raised_by(translated)) is INTERNAL


def test_an_error_is_told_in_one_line_without_secrets() -> None:
    assert describe(KeyError()) == "KeyError"
    assert describe(ValueError("a\n  b")) == "ValueError: a"
    assert describe(OSError("postgresql://u:hunter2@h/x")) == "OSError: postgresql://u:***@h/x"
    long = describe(ValueError("x" * 5000))
    assert len(long) == MAX_CHARACTERS
    # A secret that is cut in two is still a secret.
    token = f"eyJ{'s' * 100}.{'s' * 100}.sss"
    assert "sss" not in describe(ValueError(f"{'x' * (MAX_CHARACTERS - 60)} {token}"))
    assert describe(ExceptionGroup("x", [ValueError("a"), OSError("b")])) == "ExceptionGroup: ValueError: a; OSError: b"


def test_what_pydantic_found_wrong_is_told_without_what_was_there() -> None:
    class Model(BaseModel):
        numbers: list[int]

    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"numbers": [1, "hunter2"]})
    assert describe(caught.value).startswith("ValidationError: numbers.1: Input should be a valid integer")
    assert "hunter2" not in describe(caught.value)


def test_an_error_that_cannot_say_what_it_is() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe(Mute()) == "Mute"


def test_the_facts_are_whole() -> None:
    assert set(FACTS) == set(ErrorClass)
    for error_class, facts in FACTS.items():
        assert error_class.facts is facts
        assert 400 <= facts.status < 600
