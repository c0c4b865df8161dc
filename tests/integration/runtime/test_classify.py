"""Errors of PostgreSQL, Redis and Kafka have their class, and tell nothing of a row; the others: tests/unit/runtime."""

from __future__ import annotations

import asyncpg
import redis.asyncio as redis
from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka

from runtime.classify import classify, describe
from runtime.postgres import refused
from runtime.settings import Settings
from schemas.errors import ErrorClass
from streams.topics import WEBHOOKS, ensure_topics, physical
from tests.support.raising import raised
from tests.support.servers import Servers

VALIDATION, DATABASE = ErrorClass.VALIDATION, ErrorClass.DATABASE


SQL = {
    "SELECT 'x'::int": (asyncpg.DataError, VALIDATION),
    "SELECT 1 / 0": (asyncpg.DataError, VALIDATION),
    "INSERT INTO t VALUES (NULL)": (asyncpg.NotNullViolationError, VALIDATION),
    "INSERT INTO t VALUES (-1)": (asyncpg.CheckViolationError, VALIDATION),
    "SELECT repeat('x', 2000000000)": (asyncpg.ProgramLimitExceededError, VALIDATION),
    """SELECT '"\\u0000"'::jsonb""": (asyncpg.UntranslatableCharacterError, VALIDATION),
    "INSERT INTO t VALUES (1)": (asyncpg.UniqueViolationError, DATABASE),
    "SELECT * FROM nothing": (asyncpg.UndefinedTableError, DATABASE),
    "SELEC": (asyncpg.PostgresSyntaxError, DATABASE),
    "SET statement_timeout = 10; SELECT pg_sleep(5)": (asyncpg.QueryCanceledError, DATABASE),
    "SELECT pg_terminate_backend(pg_backend_pid())": (asyncpg.PostgresConnectionError, DATABASE),
}


async def test_errors_of_postgresql(database: str) -> None:
    for statement, (kind, expected) in SQL.items():
        connection = await asyncpg.connect(database)
        await connection.execute("CREATE TABLE IF NOT EXISTS t (x int PRIMARY KEY NOT NULL CHECK (x > 0))")
        await connection.execute("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING")
        error = await raised(connection.execute(statement))
        connection.terminate()
        if kind is not asyncpg.PostgresConnectionError:
            assert isinstance(error, kind), f"{statement}: {error!r}"
        assert classify(error) is expected, f"{statement}: {error!r}"
        assert refused(error) == (expected is VALIDATION)


async def test_errors_of_asyncpg_itself(database: str) -> None:
    connection = await asyncpg.connect(database)
    error = await raised(connection.fetch("SELECT $1::int", "x"))
    assert classify(error) is VALIDATION
    await connection.close()
    assert classify(await raised(connection.fetch("SELECT 1"))) is DATABASE
    error = await raised(asyncpg.connect("postgresql://127.0.0.1/x?sslmode=loud"))
    assert isinstance(error, asyncpg.exceptions.ClientConfigurationError)
    assert classify(error) is DATABASE
    wrong = f"{database.rpartition('/')[0]}/nothing_of_this_name"
    assert classify(await raised(asyncpg.connect(wrong))) is DATABASE


async def test_errors_of_redis(servers: Servers) -> None:
    there = redis.from_url(servers.redis_url)
    assert classify(await raised(there.execute_command("NOTHING"))) is DATABASE
    assert classify(await raised(there.set("x", object()))) is VALIDATION  # type: ignore[arg-type]
    await there.aclose()


async def test_errors_of_kafka(settings: Settings) -> None:
    await ensure_topics(settings)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        error = await raised(producer.send(physical(settings, WEBHOOKS), b"x" * 2**21))
    assert isinstance(error, kafka.MessageSizeTooLargeError)
    assert classify(error) is VALIDATION


async def test_what_postgresql_tells_of_a_row_is_left_out(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE TABLE t (name text, x int NOT NULL)")
    error = await raised(connection.execute("INSERT INTO t VALUES ('Ann Example', NULL)"))
    await connection.close()
    assert "Ann Example" in str(error)
    assert "Ann Example" not in describe(error)
