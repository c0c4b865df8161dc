"""The projection dead_letters: each letter once, whole, in any order of reading; whatever lies in the topic shows."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from projections.dead_letters import DeadLetters
from projections.dead_letters_cli import deadletters
from projections.projector import projector
from runtime.settings import Settings
from schemas.deadletter import DeadLetter
from schemas.errors import ErrorClass
from streams.producer import Producer, Record
from streams.topics import DEADLETTERS, ensure_topics
from tests.support.projections import Tables
from tests.support.properties import in_postgres
from tests.support.waiting import eventually, running

AT_MS = 1_790_000_000_000


@dataclass
class Kept:
    """A record of kommo.deadletters as a Kafka client gives it."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int = 0
    offset: int = 0
    timestamp: int = AT_MS
    topic: str = "kommo.deadletters.g1"


def letter(number: int = 1, **other: Any) -> DeadLetter:
    """A dead letter as a process writes it."""
    facts: dict[str, Any] = {
        "reason": "leads[add][0][id]: is no number",
        "error_class": ErrorClass.VALIDATION,
        "reader": "ingest",
        "topic": "kommo.webhooks.g1",
        "partition": 3,
        "offset": number,
        "key": b"16700680",
        "value": b"leads[add][0][id]=x",
        "original_headers": (("delivery_id", b"d-1"), ("received_us", b"5")),
        "item": "leads[add][0]",
        "correlation_id": "d-1",
    }
    return DeadLetter(**(facts | other))


def kept(told: DeadLetter, at_us: int | None = None, **place: Any) -> Kept:
    headers = [
        (name, str(at_us).encode() if name == "dead_letter_at_us" and at_us is not None else value)
        for name, value in told.headers()
    ]
    return Kept(told.key, told.value, headers, **place)


@pytest.fixture
def connection(tables: Tables) -> Any:
    return tables.connection


async def write(connection: Any, records: Sequence[Kept]) -> None:
    projection = DeadLetters()
    letters = [projection.read(record) for record in records]
    await projection.prepare(connection, letters)
    async with connection.transaction():
        await projection.write(connection, letters)


async def rows(connection: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in await connection.fetch("SELECT * FROM kommo.dead_letters ORDER BY letter_id")]


async def test_a_letter_is_shown_with_everything_it_was_set_aside_with(connection: Any) -> None:
    first_us = AT_MS * 1000 - 5_000_000
    told = letter(attempts=4, first_at_us=first_us)
    await write(connection, [kept(told, AT_MS * 1000, partition=2, offset=9)])
    (row,) = await rows(connection)
    assert row.pop("letter_id")
    assert row == {
        "account_id": 16700680,
        "occurred_at": dt.datetime.fromtimestamp(AT_MS / 1000, dt.UTC),
        "first_at": dt.datetime.fromtimestamp(first_us / 1_000_000, dt.UTC),
        "error_class": "validation",
        "reason": told.reason,
        "reader": "ingest",
        "attempts": 4,
        "topic": "kommo.webhooks.g1",
        "original_partition": 3,
        "original_offset": 1,
        "item": "leads[add][0]",
        "correlation_id": "d-1",
        "key": b"16700680",
        "value": b"leads[add][0][id]=x",
        "headers": '[["delivery_id", "d-1"], ["received_us", "5"]]',
        "log_partition": 2,
        "log_offset": 9,
    }


LETTERS = st.builds(
    lambda number, reader, minute, attempts, place: kept(
        letter(number, reader=reader, attempts=attempts, reason=f"at {minute} in {place}"),
        (AT_MS + minute * 60_000) * 1000,
        partition=place % 3,
        offset=place,
    ),
    number=st.integers(1, 3),
    reader=st.sampled_from(("ingest", "commands")),
    minute=st.integers(0, 3),
    attempts=st.integers(1, 5),
    place=st.integers(0, 30),
)


@in_postgres()
@given(data=st.data(), letters=st.lists(LETTERS, min_size=1, max_size=12, unique_by=lambda item: item.offset))
async def test_any_order_any_repeats_any_batches_give_the_same_rows(
    connection: Any, data: st.DataObject, letters: list[Kept]
) -> None:
    await connection.execute("DELETE FROM kommo_projections.dead_letters_v1")
    await write(connection, letters)
    wanted = await rows(connection)
    await connection.execute("DELETE FROM kommo_projections.dead_letters_v1")
    again = data.draw(st.permutations(letters + data.draw(st.lists(st.sampled_from(letters), max_size=5))))
    while again:
        size = data.draw(st.integers(1, len(again)))
        await write(connection, again[:size])
        again = again[size:]
    assert await rows(connection) == wanted
    named = {(dict(item.headers)["dead_letter_offset"], dict(item.headers)["dead_letter_reader"]) for item in letters}
    assert len(wanted) == len(named)


ODD = [
    Kept(None, None),
    Kept(b"", b"\x00\xff"),
    Kept(b"not an account", b"{}", [("x", b"\x00")]),
    Kept(b"7/lead/1", b"v", [("dead_letter_at_us", b"never"), ("dead_letter_offset", b"9" * 40), ("x", None)]),  # type: ignore[list-item]
    Kept(b"99999999999999999999/lead/1", b"v", [("dead_letter_error_class", b"none of ours")]),
    Kept(b"7", b"v", [("dead_letter_reason", "a\x00b\u202e".encode()), ("dead_letter_topic", b"t\x00")]),
    Kept(b"7", b"", [*letter().headers(), ("dead_letter_value", b"too large")]),
]


@pytest.mark.parametrize(("named", "account"), [("7", 7), ("8", None)])
async def test_a_command_whose_key_names_another_account_is_nobodys(
    connection: Any, named: str, account: int | None
) -> None:
    value = b'{"id":"0e5f4f8a-6a57-5c43-9a9e-2c8d5d0f7a11","accountid":"%s"}' % named.encode()
    await write(connection, [kept(letter(key=b"7/lead/1", value=value, reader="commands"))])
    (row,) = await rows(connection)
    assert row["account_id"] == account


@pytest.mark.parametrize("record", ODD, ids=range(len(ODD)))
async def test_whatever_lies_in_the_topic_is_a_row(connection: Any, record: Kept) -> None:
    await write(connection, [record])
    (row,) = await rows(connection)
    assert row["reason"]
    assert row["error_class"] in set(ErrorClass)
    assert row["account_id"] in (None, 7)
    assert row["value"] == (None if any(name == "dead_letter_value" for name, _ in record.headers) else record.value)


async def test_the_projector_shows_what_a_process_sets_aside(settings: Settings) -> None:
    await ensure_topics(settings)
    async with Producer(settings, "test") as producer:
        await producer.set_aside([letter(1), letter(2, key=b"16700681/lead/5", reader="commands")])
        await producer.set_aside([letter(1)])  # a crash came between
        await (await producer.send(DEADLETTERS, Record(b"odd", b"whatever")))
    async with running(lambda stop: projector(settings, stop, ["dead_letters"])):
        connection = await asyncpg.connect(settings.database_url.get_secret_value())
        try:

            async def shown() -> bool:
                return len(await rows(connection)) == 3

            assert await eventually(shown, 40)
            assert {row["account_id"] for row in await rows(connection)} == {16700680, 16700681, None}
        finally:
            await connection.close()


def _run(database: str, *arguments: str) -> Result:
    environment = {"KOMMO_STREAMS_DATABASE_URL": database}
    return CliRunner(env=environment).invoke(deadletters, arguments)


async def test_the_command_line_lists_and_shows(connection: Any, kept_database: str) -> None:
    await write(connection, [kept(letter(1), offset=1), kept(letter(2, key=b"5/lead/1", reader="commands"), offset=2)])
    listed = await asyncio.to_thread(_run, kept_database, "list")
    assert listed.exit_code == 0, listed.output
    assert len(listed.output.splitlines()) == 2
    one = await asyncio.to_thread(_run, kept_database, "list", "--reader", "commands")
    (line,) = one.output.splitlines()
    assert "validation by commands account 5 kommo.webhooks.g1/3/2 leads[add][0]: leads[add][0][id]: is no" in line
    name = line.split()[0]
    shown = await asyncio.to_thread(_run, kept_database, "show", name, "--json")
    assert json.loads(shown.output)["value"] == "leads[add][0][id]=x"
    assert json.loads(shown.output)["headers"] == [
        {"name": "delivery_id", "value": "d-1"},
        {"name": "received_us", "value": "5"},
    ]
    for_people = await asyncio.to_thread(_run, kept_database, "show", name)
    assert "delivery_id=d-1, received_us=5" in for_people.output
    whole = await asyncio.to_thread(_run, kept_database, "show", name, "--value")
    assert whole.stdout_bytes == b"leads[add][0][id]=x"
    missing = await asyncio.to_thread(_run, kept_database, "show", "nothing")
    assert (missing.exit_code, "no dead letter nothing" in missing.output) == (1, True)
