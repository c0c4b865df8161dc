"""A projection on a real log: rows and positions together, the log's identity, and what is set aside."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError
from pydantic import SecretStr

from projections.activity_log import ActivityLog
from projections.positions import PositionMoved, Positions, Step
from projections.projection import Projection
from projections.projector import apply_migrations, projector
from projections.reading import LoggedEvent, read_event, read_record
from projections.runner import Runner
from projections.summary import tell
from runtime.health import Health
from runtime.metrics import DEAD_LETTERS
from runtime.settings import Settings
from runtime.waiting import pause
from schemas.catalogue import EVENT_TYPES, EventType
from schemas.deadletter import DeadLetter, read_headers
from schemas.event import HEADERS, NewerEventError
from schemas.models import EventData
from streams.connection import connection as kafka
from streams.producer import Producer, Record
from streams.topics import DEADLETTERS, EVENTS, ensure_topics, physical
from tests.support.installation import delete_topics
from tests.support.projections import ACCOUNT, T0, body, event_json, lead, values
from tests.support.servers import OwnServers, own_servers, worker_number
from tests.support.topics import delete_records, everything
from tests.support.waiting import eventually, running

KEY = f"{ACCOUNT}/lead/1".encode()


def news(count: int, *, of: int = 1, start: int = 0) -> list[Record]:
    """Events of so many seconds, of leads 1, 2, .. in turn; with the same arguments the same events."""
    records = []
    for number in range(start, start + count):
        identifier = number % of + 1
        (value,) = values(body("leads", "update", lead(identifier, T0 + number)), (T0 + number) * 1_000_000 + 500_000)
        records.append(Record(f"{ACCOUNT}/lead/{identifier}".encode(), value, HEADERS))
    return records


async def publish(settings: Settings, records: Iterable[Record]) -> None:
    async with Producer(settings, "test") as producer:
        await producer.send_all(EVENTS, records)


async def dead_letters(settings: Settings) -> list[Any]:
    """Every record of kommo.deadletters."""
    return await everything(settings, DEADLETTERS)


@pytest.fixture
async def log(settings: Settings) -> Settings:
    """An installation with its topics and tables."""
    await ensure_topics(settings)
    return settings


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried again soon, and clients hear soon of a topic that comes back."""
    monkeypatch.setattr("projections.runner.pause", lambda stop, seconds: pause(stop, seconds / 20))
    monkeypatch.setattr("streams.consumer.connection", lambda *args: {**kafka(*args), "metadata_max_age_ms": 1000})


@pytest.fixture
async def connection(log: Settings) -> AsyncIterator[Any]:
    opened = await asyncpg.connect(log.database_url.get_secret_value())
    yield opened
    await opened.close()


@pytest.fixture
def own_postgres() -> Iterator[OwnServers]:
    """A PostgreSQL of this test's own, which it may kill."""
    with own_servers(f"postgres-{worker_number()}", only=("postgres",)) as started:
        yield started


@contextlib.asynccontextmanager
async def run(
    settings: Settings, projection: Projection | None = None, letters_by: type[Producer] = Producer
) -> AsyncIterator[Health]:
    """Run a projection (activity_log) while the context lasts."""
    cluster = await ensure_topics(settings)
    health = Health()
    async with letters_by(settings, "letters") as letters:
        runner = Runner(settings, projection or ActivityLog(), cluster.cluster_id, letters, health)
        async with running(runner.run):
            yield health


async def lines(connection: Any) -> int:
    found: int = await connection.fetchval("SELECT count(*) FROM kommo_projections.activity_log_v2")
    return found


async def position(connection: Any, name: str = "activity_log") -> int:
    query = "SELECT coalesce(sum(position), 0)::int FROM kommo_projections.positions WHERE projection = $1"
    found: int = await connection.fetchval(query, name)
    return found


async def has_lines(connection: Any, count: int) -> None:
    async def there() -> bool:
        return await lines(connection) == count and await position(connection) >= count

    await eventually(there, 30, f"{count} lines")


async def is_stopped(health: Health, *words: str) -> str:
    """Wait until the projection has stopped and return why."""
    await eventually(lambda: "stopped" in health.reasons.get("activity_log.v2", ""), 60, f"stopped: {words}")
    reason = health.reasons["activity_log.v2"]
    assert [word for word in words if word not in reason] == []
    return reason


class Counting:
    """A projection that would show every event that is written twice: it has no key."""

    name, version, topic = "counting", 1, EVENTS
    read = staticmethod(read_record)

    def folds(self, event: LoggedEvent) -> bool:
        return True

    async def prepare(self, connection: Any, events: Sequence[LoggedEvent]) -> None:
        await connection.execute("CREATE TABLE IF NOT EXISTS kommo_projections.counting (event_id uuid)")

    async def write(self, connection: Any, events: Sequence[LoggedEvent]) -> None:
        rows = [(event.event_id,) for event in events]
        await connection.copy_records_to_table("counting", schema_name="kommo_projections", records=rows)

    @staticmethod
    async def counted(connection: Any) -> tuple[int, int]:
        """How many rows, and of how many events."""
        row = await connection.fetchrow("SELECT count(*), count(DISTINCT event_id) FROM kommo_projections.counting")
        return row[0], row[1]


# ---- rows and position ----------------------------------------------------------------------------------------------


async def test_rows_and_position_are_written_in_one_transaction(log: Settings, connection: Any) -> None:
    seen: list[tuple[int, int]] = []
    other = await asyncpg.connect(log.database_url.get_secret_value())

    class FailsAfterItsRows(ActivityLog):
        async def write(self, own: Any, events: Sequence[LoggedEvent]) -> None:
            await super().write(own, events)
            assert await lines(own) == 20
            if len(seen) < 2:
                seen.append((await lines(other), await position(other)))
                raise ConnectionResetError("the server went away")

    await publish(log, news(20))
    async with run(log, FailsAfterItsRows()):
        await has_lines(connection, 20)
    await other.close()
    assert seen == [(0, 0), (0, 0)]
    assert await position(connection) == 20


async def test_of_two_writers_at_one_position_exactly_one_succeeds(log: Settings, connection: Any) -> None:
    positions = Positions(ActivityLog(), "topic", "cluster")
    await positions.read(connection, {0: 0, 1: 0})

    async def write(name: str) -> str:
        own = await asyncpg.connect(log.database_url.get_secret_value())
        try:
            async with own.transaction():
                await positions.advance(own, {0: Step(0, 5, name), 1: Step(0, 7, name)})
                await asyncio.sleep(0.05)  # long enough for the others to come to the same rows
            return name
        except PositionMoved:
            return ""
        finally:
            await own.close()

    (winner,) = [name for name in await asyncio.gather(*(write(str(n)) for n in range(6))) if name]
    found = await positions.read(connection, {0: 0, 1: 0})
    assert [(at.position, at.last_event_id) for at in (found[0], found[1])] == [(5, winner), (7, winner)]
    # One partition of a batch that moved is enough: then none of it is written.
    with pytest.raises(PositionMoved):
        async with connection.transaction():
            await positions.advance(connection, {0: Step(5, 9, "x"), 1: Step(0, 7, "x")})
    assert (await positions.read(connection, {0: 0}))[0].position == 5


async def test_two_processes_forced_on_the_same_partitions_write_every_event_once(
    log: Settings, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()
    monkeypatch.setattr("projections.runner.group", lambda projection: f"group-{next(numbers)}")
    few = log.model_copy(update={"batch_rows": 20})
    await publish(log, news(300, of=7))
    async with run(few, Counting()), run(few, Counting()):
        for round_ in range(1, 5):
            await publish(log, news(100, of=7, start=200 + 100 * round_))

        async def all_there() -> bool:
            return await position(connection, "counting") == 700

        await eventually(all_there, 60)
    assert await Counting.counted(connection) == (700, 700)


async def test_an_idle_projection_goes_on_where_it_was_after_a_restart(log: Settings, connection: Any) -> None:
    await publish(log, news(10, of=3))
    for restart in range(2):
        async with run(log, Counting()) as health:

            async def reached(count: int = 10 + restart) -> bool:
                return await position(connection, "counting") == count

            await eventually(reached)
            await eventually(lambda health=health: not health.reasons)
            await publish(log, news(1, start=20 + restart))
            await eventually(lambda count=11 + restart: reached(count))
    assert await Counting.counted(connection) == (12, 12)
    assert await dead_letters(log) == []


async def test_postgresql_is_killed_and_comes_back(log: Settings, own_postgres: OwnServers) -> None:
    log = log.model_copy(update={"batch_rows": 50, "database_url": SecretStr(own_postgres.database_url)})
    await apply_migrations(log)
    await publish(log, news(200, of=5))
    async with run(log, Counting()) as health:
        await eventually(lambda: not health.reasons)
        try:
            await asyncio.to_thread(own_postgres.embedded.postgres.kill)
            await publish(log, news(300, of=5, start=200))
            await eventually(lambda: health.reasons, 30, "not ready")
        finally:
            await asyncio.to_thread(own_postgres.embedded.postgres.start)
        again = await asyncpg.connect(log.database_url.get_secret_value())

        async def all_there() -> bool:
            return await position(again, "counting") == 500

        await eventually(all_there, 40)
        await eventually(lambda: not health.reasons)
    assert await Counting.counted(again) == (500, 500)
    assert await dead_letters(log) == []
    await again.close()


# ---- the log's identity ---------------------------------------------------------------------------------------------


async def recreate(settings: Settings, records: Sequence[Record]) -> None:
    """Delete kommo.events and make it anew with other records."""
    await delete_topics(settings, EVENTS)

    async def there() -> bool:
        with contextlib.suppress(Exception):
            return bool((await ensure_topics(settings)).created)
        return False

    await eventually(there, 30)
    await publish(settings, records)


@pytest.mark.parametrize(
    ("count", "while_running"),
    [(2, False), (5, False), (9, False), (2, True), (9, True)],
    ids=["fewer", "as many", "more", "fewer while running", "more while running"],
)
async def test_a_recreated_topic_stops_the_projection(
    log: Settings, connection: Any, count: int, while_running: bool
) -> None:
    others = news(count, start=100)
    await publish(log, news(5))
    async with run(log) as health:
        await has_lines(connection, 5)
        if while_running:
            await recreate(log, others)
            reason = await is_stopped(health, "activity_log.v2", "recreated", "Restore", "rebuild")
    if not while_running:
        await recreate(log, others)
        async with run(log) as health:
            reason = await is_stopped(health, "activity_log.v2", "recreated", "Restore", "rebuild")
    assert physical(log, EVENTS) in reason
    assert (await lines(connection), await position(connection)) == (5, 5)


async def ready(settings: Settings) -> dict[str, str]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{settings.projector_port}/readyz")
    assert (answer.status_code == 503) == ("not_ready" in answer.json())
    found: dict[str, str] = answer.json().get("not_ready", {})
    return found


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("cluster_id = 'gone'", "cluster gone"),
        ("topic = 'gone'", "topic gone"),
        ("position = 50", "offset 50"),
        ("last_event_id = 'x'", "event x"),
    ],
)
async def test_a_log_that_is_not_the_one_read_stops_only_the_projection_that_read_it(
    log: Settings, connection: Any, damage: str, words: str
) -> None:
    names = ["activity_log", "recent_updates"]
    await publish(log, news(5, of=4))

    async def both(count: int) -> bool:
        return await position(connection) == await position(connection, "recent_updates") == count

    async with running(lambda stop: projector(log, stop, names)):
        await eventually(lambda: both(5), 30)
        await eventually(lambda: _none_waits(log))
    where = "WHERE projection = 'activity_log' AND position > 0"
    await connection.execute(f"UPDATE kommo_projections.positions SET {damage} {where}")
    before = await position(connection)
    await publish(log, news(5, of=4, start=10))
    async with running(lambda stop: projector(log, stop, names)):

        async def other_goes_on() -> bool:
            return await position(connection, "recent_updates") == 10

        async def says_so() -> bool:
            reasons = await ready(log)
            return "stopped" in reasons.get("activity_log.v2", "") and len(reasons) == 1

        await eventually(other_goes_on, 30)
        await eventually(says_so, 30)
        reason = (await ready(log))["activity_log.v2"]
    assert words in reason
    assert "rebuild" in reason
    assert (await lines(connection), await position(connection)) == (5, before)


async def _none_waits(settings: Settings) -> bool:
    return not await ready(settings)


async def cut(settings: Settings, offset: int) -> None:
    """Let the log of lead 1's partition begin at an offset."""
    async with Producer(settings, "test") as producer:
        partition = TopicPartition(physical(settings, EVENTS), await producer.partition(EVENTS, KEY))
    await delete_records(settings, [partition], offset)


async def test_a_log_that_was_cut_beyond_the_position_stops_the_projection(log: Settings, connection: Any) -> None:
    await publish(log, news(5))
    async with run(log):
        await has_lines(connection, 5)
    await publish(log, news(5, start=10))
    await cut(log, 7)
    async with run(log) as health:
        await is_stopped(health, "offset 5", "begins at 7", "gone", "Restore", "rebuild")
    assert (await lines(connection), await position(connection)) == (5, 5)


async def test_a_log_that_was_cut_before_the_position_is_read_on(log: Settings, connection: Any) -> None:
    await publish(log, news(5))
    async with run(log):
        await has_lines(connection, 5)
    await cut(log, 4)
    await publish(log, news(1, start=10))
    async with run(log):
        await has_lines(connection, 6)


async def test_a_projection_is_not_begun_on_a_log_without_its_beginning(log: Settings, connection: Any) -> None:
    await publish(log, news(5))
    await cut(log, 3)
    async with run(log) as health:
        await is_stopped(health, "begins at offset 3", "cannot be built")
    assert (await lines(connection), await position(connection)) == (0, 0)


# ---- what this program cannot read, and what is no event ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kommo.lead.updated", "kommo.invoice.paid"])
async def test_what_a_newer_program_wrote_stops_the_projection_until_it_is_one(
    log: Settings, connection: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = event_json(kind, dataschema=f"urn:kommo-streams:{kind}:{2 if kind in EVENT_TYPES else 1}")
    await publish(log, news(3))
    async with run(log):
        await has_lines(connection, 3)
    await publish(log, [Record(KEY, newer), *news(2, start=10)])
    async with run(log) as health:
        await is_stopped(health, "newer than this program", kind)
    assert (await lines(connection), await position(connection)) == (3, 3)
    assert await dead_letters(log) == []
    known = EVENT_TYPES.get(kind) or EventType(kind, "An invoice was paid.", EventData, "all", "", "")
    monkeypatch.setitem(EVENT_TYPES, kind, dataclasses.replace(known, version=2))
    async with run(log):
        await has_lines(connection, 6)


_NO_EVENTS = {
    "no JSON": b"\x00\xff{",
    "nothing": None,
    "a list": b"[]",
    "another's CloudEvent": event_json("kommo.lead.added", type="com.example.made"),
    "no id": event_json("kommo.lead.added", id=None),
    "an id of another form": event_json("kommo.lead.added", id=["a"]),
    "an id that PostgreSQL does not take": event_json("kommo.lead.added", id="a\0b"),
    "a time without a zone": event_json("kommo.lead.added", time="2026-09-21T14:13:20"),
    "a time before all times": event_json("kommo.lead.added", time="0001-01-01T00:00:00+05:00"),
    "a sequence that is none": event_json("kommo.lead.added", sequence="x" * 23),
    "a revision that is no number": event_json("kommo.lead.added", revision="1"),
    "data that is no map": event_json("kommo.lead.added", data=[1]),
    "a subject without an entity": event_json("kommo.lead.added", subject="lead"),
    "an account that is no number": event_json("kommo.lead.added", accountid="x"),
}


async def test_what_is_no_event_becomes_a_dead_letter_once_and_the_projection_goes_on(
    log: Settings, connection: Any
) -> None:
    first, second = news(2)
    bad = [Record(KEY, value, [("from", b"elsewhere")]) for value in _NO_EVENTS.values()]
    await publish(log, [first, *bad, second])
    for _ in range(2):
        async with run(log) as health:
            await has_lines(connection, 2)
            await eventually(lambda health=health: not health.reasons)
    assert await position(connection) == len(bad) + 2
    letters = await dead_letters(log)
    assert sorted(letter.value or b"" for letter in letters) == sorted(value or b"" for value in _NO_EVENTS.values())
    partition = await connection.fetchval("SELECT log_partition FROM kommo.activity_log LIMIT 1")
    for letter in letters:
        told = read_headers(letter.headers)
        assert letter.key == KEY
        assert dict(letter.headers)["from"] == b"elsewhere"
        assert (told["reader"], told["error_class"]) == ("activity_log.v2", "validation")
        assert told["reason"].startswith("not an event")
        assert (told["topic"], told["partition"]) == (physical(log, EVENTS), str(partition))
        assert (letter.value or b"") == (list(_NO_EVENTS.values())[int(told["offset"]) - 1] or b"")


async def test_what_postgresql_refuses_is_found_set_aside_and_the_rest_is_written(
    log: Settings, connection: Any
) -> None:
    records = news(40, of=3)
    refused = [
        event_json("kommo.lead.added", subject="lead/1\0", named={"n": 1}),
        event_json("kommo.lead.added", subject=f"lead/{_no_pattern(9000)}", named={"n": 2}),
        event_json("kommo.lead.added", accountid="9" * 30, named={"n": 3}),
    ]
    for number, value in enumerate(refused):
        records.insert(11 * number + 3, Record(KEY, value))
    await publish(log, records)
    async with running(lambda stop: projector(log, stop)):
        await has_lines(connection, 40)

        async def both() -> bool:
            return await position(connection) == await position(connection, "recent_updates") == 43

        await eventually(both, 30)
    letters = [(read_headers(letter.headers), letter.value) for letter in await dead_letters(log)]
    for reader in ("activity_log.v2", "recent_updates.v1"):
        own = [(told["error_class"], value) for told, value in letters if told["reader"] == reader]
        assert sorted(own) == sorted(("validation", value) for value in refused)
    assert len(letters) == 6


def _no_pattern(length: int) -> str:
    """A text that does not compress into an index."""
    return "".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(length // 64))


@pytest.mark.parametrize("name", ["a\0b", "x" * 64, 5, None])
async def test_a_batch_may_end_with_what_is_no_event(log: Settings, connection: Any, name: Any) -> None:
    await publish(log, [*news(1), Record(KEY, event_json("kommo.lead.added", id=name))])
    for count in (1, 2):
        async with run(log):

            async def reached(position_: int = count + 1) -> bool:
                return await position(connection) == position_

            await eventually(reached, 20)
        await publish(log, news(1, start=10 + count))
    assert await lines(connection) == 2
    assert len(await dead_letters(log)) == 1


async def test_after_a_refused_record_it_goes_on_also_from_a_restart(log: Settings, connection: Any) -> None:
    refused = event_json("kommo.lead.added", subject="lead/1\0", named={"n": 1})
    await publish(log, [*news(1), Record(KEY, refused)])
    for count in (1, 2, 3):
        async with run(log) as health:

            async def reached(position_: int = count + 1) -> bool:
                return await position(connection) == position_

            await eventually(reached, 20)
            assert "stopped" not in str(health.reasons)
        await publish(log, news(1, start=10 + count))
    assert await lines(connection) == 3


async def test_while_postgresql_takes_nothing_a_dead_letter_is_written_once(log: Settings, connection: Any) -> None:
    name = log.database_url.get_secret_value().rpartition("/")[2]

    async def tell_others(change: str) -> None:
        await connection.execute(f'ALTER DATABASE "{name}" {change}')
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    await publish(log, news(1))
    async with run(log) as health:
        await has_lines(connection, 1)
        try:
            await tell_others("SET default_transaction_read_only = on")
            await publish(log, [Record(KEY, b"no event"), *news(1, start=5)])
            await eventually(lambda: "ReadOnly" in str(health.reasons), 20)
            started = len(await dead_letters(log))
            for _ in range(3):  # three more tries
                health.ready("activity_log.v2")
                await eventually(lambda: "ReadOnly" in str(health.reasons), 20)
            assert started <= 1
        finally:
            await tell_others("RESET default_transaction_read_only")
        await has_lines(connection, 2)
    assert len(await dead_letters(log)) == 1


# ---- what nobody foresaw --------------------------------------------------------------------------------------------

SECRET = "kst_1_not-for-letters"


class Failing(Counting):
    """Raises over the events of these ids, after their rows were written: where it does so, and what."""

    def __init__(self, ids: Iterable[str], where: str = "write", error: type[Exception] = KeyError) -> None:
        self.ids = frozenset(ids)
        self.where = where
        self.error = error

    def _raise_in(self, where: str, events: Sequence[LoggedEvent]) -> None:
        if where == self.where and self.ids & {event.event_id for event in events}:
            raise self.error(SECRET)

    def folds(self, event: LoggedEvent) -> bool:
        self._raise_in("folds", [event])
        return True

    async def prepare(self, connection: Any, events: Sequence[LoggedEvent]) -> None:
        await super().prepare(connection, events)
        self._raise_in("prepare", events)

    async def write(self, connection: Any, events: Sequence[LoggedEvent]) -> None:
        await super().write(connection, events)
        self._raise_in("write", events)


def _id(record: Record) -> str:
    name: str = orjson.loads(record.value or b"")["id"]
    return name


async def _counted(connection: Any, count: int, seconds: float = 30) -> None:
    async def there() -> bool:
        return await position(connection, "counting") == count

    await eventually(there, seconds, f"position {count}")


class Refused(Producer):
    """Kafka does not acknowledge a dead letter."""

    async def set_aside(self, letters: Iterable[DeadLetter]) -> None:
        raise KafkaTimeoutError("no acknowledgement")


@pytest.mark.parametrize("bad", ["no event", "a fold fails"])
async def test_a_position_never_passes_what_is_not_in_the_dead_letters(
    log: Settings, connection: Any, bad: str
) -> None:
    first, second, third = news(3)
    if bad == "no event":
        second = Record(KEY, b"no event")
    projection = Failing([_id(second)] if bad == "a fold fails" else [])
    await publish(log, [first, second, third])
    async with run(log, projection, Refused) as health:
        await eventually(lambda: "no acknowledgement" in str(health.reasons), 30)
        assert await position(connection, "counting") <= 1
    async with run(log, projection):
        await _counted(connection, 3)
    assert [letter.value for letter in await dead_letters(log)] == [second.value]


@pytest.mark.parametrize("where", ["folds", "prepare", "write"])
async def test_an_event_over_which_a_fold_fails_is_found_set_aside_and_the_rest_is_written_once(
    log: Settings, connection: Any, where: str
) -> None:
    records = [record._replace(headers=[*HEADERS, ("from", b"elsewhere")]) for record in news(60, of=3)]
    bad = [records[number] for number in (0, 20, 21, 59)]
    projection = Failing(map(_id, bad), where)
    counted = DEAD_LETTERS.labels("internal")
    before = counted._value.get()
    await publish(log, records)
    with structlog.testing.capture_logs() as said:
        for _ in range(2):
            async with run(log, projection) as health:
                await _counted(connection, 60)
                await eventually(lambda health=health: not health.reasons)
    assert await Counting.counted(connection) == (56, 56)
    letters = await dead_letters(log)
    assert sorted(letter.value for letter in letters) == sorted(record.value or b"" for record in bad)
    assert counted._value.get() - before == len(bad)
    for letter in letters:
        told, event = read_headers(letter.headers), orjson.loads(letter.value)
        assert letter.key == f"{ACCOUNT}/{event['subject']}".encode()
        assert dict(letter.headers)["from"] == b"elsewhere"
        assert (told["reader"], told["error_class"], told["topic"]) == (
            "counting.v1",
            "internal",
            physical(log, EVENTS),
        )
        assert told["correlation_id"] == event["correlationid"] != ""
        assert told["reason"].startswith("KeyError while folding into counting.v1 in _raise_in (test_runner.py, line ")
        assert SECRET not in str(letter.headers)
        lines = [line for line in said if line.get("original") == _original(told) and line["log_level"] == "error"]
        assert [(line["event"], line["event_id"]) for line in lines] == [("a fold failed", event["id"])]
        assert lines[0]["correlation_id"] == event["correlationid"]


async def test_a_fault_that_every_event_meets_stops_the_projection(
    log: Settings, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.runner.MOST_FAULTS", 5)
    records = news(40, of=3)
    good = records[6]  # the count is of those in a row
    await publish(log, records)
    async with run(log, Failing({_id(record) for record in records if record is not good})) as health:
        await eventually(lambda: "5 events in a row" in health.reasons.get("counting.v1", ""))
    letters = await dead_letters(log)
    assert 5 <= len(letters) <= 11
    written, _ = await Counting.counted(connection)
    assert await position(connection, "counting") == len(letters) + written


def _original(told: dict[str, str]) -> str:
    return f"{told['topic']}/{told['partition']}/{told['offset']}"


async def test_a_fault_in_the_midst_of_a_copy_leaves_the_connection_sound(
    log: Settings, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of a copy are made while it runs: what is raised there ends it half way."""

    records = news(2000, of=7)
    bad = {_id(record): record.value or b"" for record in (records[600], records[1700])}

    def fails_over_some(event: LoggedEvent) -> Any:
        if event.event_id in bad:
            raise RuntimeError("nobody foresaw this")
        return tell(event)

    monkeypatch.setattr("projections.activity_log.tell", fails_over_some)
    await publish(log, records)
    async with run(log) as health:
        await has_lines(connection, 2000 - len(bad))
        await eventually(lambda: not health.reasons)

        async def all_read() -> bool:
            return await position(connection) == 2000

        await eventually(all_read, 60)
        assert not health.reasons
    assert sorted(letter.value for letter in await dead_letters(log)) == sorted(bad.values())


async def test_what_a_server_raises_in_a_fold_is_tried_again_and_nothing_is_set_aside(
    log: Settings, connection: Any
) -> None:
    to_come = [
        ConnectionResetError("the server went away"),
        TimeoutError(),
        asyncpg.ConnectionDoesNotExistError("gone"),
        asyncpg.InterfaceError("the connection is closed"),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.AdminShutdownError("shutting down"),
        asyncpg.SerializationError("could not serialize"),
        asyncpg.DeadlockDetectedError("deadlock"),
        asyncpg.QueryCanceledError("statement timeout"),
        asyncpg.OutOfMemoryError("out of memory"),
        MemoryError(),
    ]

    class MeetsThem(Counting):
        async def write(self, own: Any, events: Sequence[LoggedEvent]) -> None:
            await super().write(own, events)
            if to_come:
                raise to_come.pop(0)

    await publish(log, news(1))  # one: it could not be halved any more
    async with run(log, MeetsThem()):
        await _counted(connection, 1)
    assert to_come == []
    assert await Counting.counted(connection) == (1, 1)
    assert await dead_letters(log) == []


@pytest.mark.parametrize("where", ["prepare", "write"])
async def test_a_fault_on_a_connection_that_was_lost_is_not_the_events(
    log: Settings, connection: Any, where: str
) -> None:
    class LosesIt(Counting):
        left = 1

        def _lose(self, own: Any, here: str) -> None:
            if self.left and here == where:
                self.left -= 1
                own.terminate()
                raise RuntimeError("unable to perform operation on a closed transport")

        async def prepare(self, own: Any, events: Sequence[LoggedEvent]) -> None:
            await super().prepare(own, events)
            self._lose(own, "prepare")

        async def write(self, own: Any, events: Sequence[LoggedEvent]) -> None:
            await super().write(own, events)
            self._lose(own, "write")

    await publish(log, news(1))
    projection = LosesIt()
    async with run(log, projection):
        await _counted(connection, 1)
    assert projection.left == 0
    assert await Counting.counted(connection) == (1, 1)
    assert await dead_letters(log) == []


async def test_a_fold_that_meets_what_only_a_newer_program_knows_stops(log: Settings, connection: Any) -> None:
    await publish(log, news(3))
    async with run(log, Failing(map(_id, news(3)), error=NewerEventError)) as health:
        await eventually(lambda: "stopped" in health.reasons.get("counting.v1", ""), 30)
    assert await position(connection, "counting") == 0
    assert await dead_letters(log) == []


async def test_two_processes_that_meet_the_same_faults_write_every_other_event_once(
    log: Settings, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()
    monkeypatch.setattr("projections.runner.group", lambda projection: f"group-{next(numbers)}")
    few = log.model_copy(update={"batch_rows": 20})
    records = news(400, of=7)
    bad = records[5:390:35]
    await publish(log, records)
    async with run(few, Failing(map(_id, bad))), run(few, Failing(map(_id, bad))):
        await _counted(connection, 400, 60)
    assert await Counting.counted(connection) == (400 - len(bad), 400 - len(bad))
    # Whoever is second finds the position moved only after its letter.
    assert {letter.value for letter in await dead_letters(log)} == {record.value for record in bad}


async def test_an_event_that_cannot_be_read_for_a_fault_of_ours_is_set_aside(
    log: Settings, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = news(10)

    def fails_over_one(value: bytes | None, partition: int, offset: int) -> LoggedEvent:
        if value == records[4].value:
            raise ZeroDivisionError(SECRET)
        return read_event(value, partition, offset)

    monkeypatch.setattr("projections.reading.read_event", fails_over_one)
    await publish(log, records)
    for _ in range(2):
        async with run(log) as health:
            await has_lines(connection, 9)
            await eventually(lambda health=health: not health.reasons)
    (letter,) = await dead_letters(log)
    told = read_headers(letter.headers)
    assert (letter.value, told["error_class"]) == (records[4].value, "internal")
    assert told["reason"].startswith("ZeroDivisionError while reading the event in fails_over_one")
    assert SECRET not in str(letter.headers)
