"""Our processes as a user starts them, a sender that keeps account of what was accepted, and the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from agents.ingest import GROUP
from gateway.tokens import Keyring, Token
from projections.calls import Calls
from projections.folding import Folding, Key, State
from projections.names import PROJECTIONS
from projections.projector import made
from projections.reading import LoggedEvent, read_event
from projections.recent_updates import RecentUpdates
from projections.tasks import Tasks
from runtime.settings import PREFIX, Settings
from schemas.decoder import decode
from schemas.delivery import read_delivery
from simulator.company import SimulatedDelivery, deliveries
from streams.topics import DEADLETTERS, EVENTS, WEBHOOKS
from tests.support import ROOT
from tests.support.launching import service
from tests.support.ports import free_port
from tests.support.topics import everything, partitions_of
from tests.support.waiting import eventually

ACCOUNTS = (16700680, 16700681)
"""One in each of the two partitions of kommo.webhooks."""

OF_EVENTS = [name for name in PROJECTIONS if made(name).topic == EVENTS]
"""The projections that read kommo.events."""

PORTS = {
    "gateway": "gateway_port",
    "ingest": "ingest_port",
    "projector": "projector_port",
    "dashboard": "dashboard_port",
    "worker": "worker_port",
}


def environment(settings: Settings, **more: object) -> dict[str, str]:
    """Settings as the environment of a process; `more` replaces some."""
    values = {name: getattr(settings, name) for name in Settings.model_fields} | more
    shown = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in values.items()
        if value is not None
    }
    return {f"{PREFIX}{name.upper()}": text for name, text in shown.items()}


class Program:
    """`python -m service NAME` as a process of its own; it may be started again after it ended."""

    def __init__(self, name: str, settings: Settings, folder: Path, number: int) -> None:
        self.name = f"{name}-{number}"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{self.name}.log"
        self._command = service(name)
        self._environment = {**os.environ, **environment(settings, **{PORTS[name]: self.port}, log_format="json")}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        assert self.process.poll() is None, f"{self.name} had ended by itself:\n{self.tail()}"
        self.process.kill()
        self.process.wait()

    async def terminate(self) -> float:
        """SIGTERM; it must end with code 0 within 10 s. Returns the seconds it took."""
        await self.lives()  # before that it may not know the signal yet
        assert self.process.poll() is None, f"{self.name} had ended by itself:\n{self.tail()}"
        begin = time.monotonic()
        self.process.terminate()
        await eventually(lambda: self.process.poll() is not None, 10, f"{self.name} has ended\n{self.tail()}")
        assert self.process.returncode == 0, self.tail()
        return time.monotonic() - begin

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def answer(self, path: str) -> tuple[int, Any]:
        """Status and body of a GET; (0, "") where nobody answers."""
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
                answer = await client.get(self.url + path)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.json() if "json" in answer.headers["content-type"] else answer.text

    async def not_ready(self) -> dict[str, str] | None:
        """What /readyz says is not ready; None where it does not answer."""
        status, body = await self.answer("/readyz")
        return body.get("not_ready", {}) if status else None

    async def lives(self, seconds: float = 40) -> None:
        await eventually(lambda: self._says("/livez"), seconds, f"{self.name} lives")

    async def ready(self, seconds: float = 60) -> None:
        try:
            await eventually(lambda: self._says("/readyz"), seconds, f"{self.name} is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n/readyz: {await self.not_ready()}\n{self.tail()}") from None

    async def _says(self, path: str) -> bool:
        assert self.process.poll() is None, f"{self.name} has ended by itself:\n{self.tail()}"
        await asyncio.sleep(0.1)
        return (await self.answer(path))[0] == 200

    def lines(self) -> list[dict[str, Any]]:
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def tail(self, characters: int = 6000) -> str:
        return f"--- {self.name}\n{self.log.read_text(errors='replace')[-characters:]}"


class Programs:
    """All processes of a test; on a failure what they wrote is shown."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self._folder = settings, folder
        self._numbers: Counter[str] = Counter()
        self.all: list[Program] = []

    def start(self, name: str) -> Program:
        self._numbers[name] += 1
        program = Program(name, self.settings, self._folder, self._numbers[name])
        self.all.append(program)
        program.start()
        return program

    def errors(self) -> list[dict[str, Any]]:
        """What our own code logged as an error, and every traceback of whomever."""
        ours = ("gateway", "agents", "projections", "streams", "runtime", "dashboard", "service")
        lines = [line for program in self.all for line in program.lines()]
        return [
            line
            for line in lines
            if (line.get("level") in ("error", "critical") and str(line.get("logger", "")).split(".")[0] in ours)
            or "never retrieved" in str(line.get("event"))
        ]

    def unhandled(self) -> list[str]:
        """What a process wrote that is no line of its log: a traceback of the interpreter's."""
        return [
            f"{program.name}: {line}"
            for program in self.all
            for line in program.log.read_text(errors="replace").splitlines()
            if line and not line.startswith("{")
        ]

    def end(self) -> None:
        for program in self.all:
            program.end()


@contextlib.contextmanager
def programs(settings: Settings, folder: Path) -> Iterator[Programs]:
    folder.mkdir(exist_ok=True)
    started = Programs(settings, folder)
    try:
        yield started
    except BaseException:
        for program in started.all:
            print(program.tail())
        raise
    finally:
        started.end()


@dataclass(eq=False)
class Sender:
    """Posts simulated deliveries to any of the gateways until each was accepted, as Kommo does, and keeps account.

    A 503 or no answer at all is sent again later: nobody knows whether it was stored.
    """

    settings: Settings
    seed: int
    rate: float
    gateways: list[Program]
    start: int = 1_764_000_000 - 3 * 86_400
    sent: Counter[tuple[int, bytes]] = field(default_factory=Counter)
    accepted: Counter[tuple[int, bytes]] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    burst: int = 0
    task: asyncio.Task[None] | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        keys = Keyring.from_settings(self.settings)
        self._paths = {account: f"/webhooks/{keys.sign(Token(account, 1))}" for account in ACCOUNTS}
        self._sources = itertools.cycle(
            [(account, deliveries(self.seed + account, account, self.start)) for account in ACCOUNTS]
        )
        self._again: deque[tuple[float, int, SimulatedDelivery]] = deque()
        self._turn = itertools.count()
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """How many were accepted so far."""
        return self.accepted.total()

    async def reaches(self, count: int, seconds: float = 90) -> None:
        """Wait until so many were accepted."""

        def reached() -> bool:
            if self.task is not None and self.task.done():
                self.task.result()
            return self.count >= count

        try:
            await eventually(reached, seconds)
        except AssertionError:
            under_way = f"{len(self._under_way)} under way, {len(self._again)} to be sent again"
            raise AssertionError(f"{self.count} accepted, not {count}: {self.answers}, {under_way}") from None

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        due = clock()
        while not self._stop.is_set():
            due = max(due, clock() - 0.2)
            for _ in range(1 + self.burst):
                account, source = next(self._sources)
                self._post(account, next(source))
            self.burst = 0
            due += 1 / self.rate
            self._repeat(clock())
            await asyncio.sleep(max(0.0, due - clock()))
            while len(self._under_way) >= 96:
                await asyncio.wait(list(self._under_way), return_when=asyncio.FIRST_COMPLETED)
        limit = clock() + 60
        while self._under_way or self._again:
            assert clock() < limit, f"not everything was accepted in the end: {self.answers}"
            self._repeat(clock())
            await asyncio.sleep(0.05)

    def _repeat(self, now: float) -> None:
        while self._again and self._again[0][0] <= now and len(self._under_way) < 96:
            _, account, delivery = self._again.popleft()
            self._post(account, delivery)

    def _post(self, account: int, delivery: SimulatedDelivery) -> None:
        task = asyncio.create_task(self._send(account, delivery))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _send(self, account: int, delivery: SimulatedDelivery) -> None:
        gateway = self.gateways[next(self._turn) % len(self.gateways)]
        name = (account, delivery.body)
        self.sent[name] += 1
        try:
            async with asyncio.timeout(2):
                said = await _status(gateway.port, self._paths[account], delivery)
        except (OSError, TimeoutError) as error:
            said = type(error).__name__
        self.answers[said] += 1
        if said == "200":
            self.accepted[name] += 1
        else:
            self._again.append((asyncio.get_running_loop().time() + 1.0, account, delivery))

    def stop(self) -> None:
        self._stop.set()


async def _status(port: int, path: str, delivery: SimulatedDelivery) -> str:
    """Post one delivery, and return the status of the answer. Raises OSError where none comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(delivery.body)}"]
        lines += [f"{name}: {value}" for name, value in delivery.headers.items()]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + delivery.body)
        words = (await reader.readline()).split()
        if len(words) < 2:
            raise ConnectionResetError("the connection ended without an answer")
        return words[1].decode()
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def sending(settings: Settings, seed: int, rate: float, *gateways: Program) -> AsyncIterator[Sender]:
    """Send while the context lasts; on leaving, all that was not accepted yet is sent until it is."""
    sender = Sender(settings, seed, rate, list(gateways))
    task = sender.task = asyncio.create_task(sender.run())
    try:
        yield sender
        sender.stop()
        await task
    finally:
        task.cancel()
    assert set(sender.sent) == set(sender.accepted)


async def _ends(settings: Settings, *names: str) -> dict[TopicPartition, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers)
    await consumer.start()
    try:
        found: dict[TopicPartition, int] = await consumer.end_offsets(
            [partition for name in names for partition in partitions_of(settings, name)]
        )
        return found
    finally:
        await consumer.stop()


@contextlib.asynccontextmanager
async def committed(settings: Settings) -> AsyncIterator[Callable[[], Awaitable[dict[TopicPartition, int]]]]:
    """A way to ask what ingest has committed, again and again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    group = f"{settings.kafka_prefix}{GROUP}"
    await admin.start()
    try:
        coordinator = await admin.find_coordinator(group)

        async def ask() -> dict[TopicPartition, int]:
            found = await admin.list_consumer_group_offsets(group, group_coordinator_id=coordinator)
            return {partition: said.offset for partition, said in found.items()}

        yield ask
    finally:
        await admin.close()


async def _positions(connection: Any) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = {name: {} for name in OF_EVENTS}
    rows = await connection.fetch("SELECT projection, partition, position FROM kommo_projections.positions")
    for row in rows:
        if row["projection"] in found:
            found[row["projection"]][row["partition"]] = row["position"]
    return found


async def drained(settings: Settings, seconds: float = 90) -> None:
    """Wait until ingest committed the end of kommo.webhooks and all projections stand at the end of kommo.events."""
    connection = await _connect(settings)
    behind: object = None

    async def done() -> bool:
        nonlocal behind
        await asyncio.sleep(0.2)
        async with committed(settings) as ask:
            found = await ask()
        ends = await _ends(settings, WEBHOOKS)
        behind = {p.partition: (found.get(p, 0), end) for p, end in ends.items() if found.get(p, 0) != end}
        if behind:
            return False
        wanted = {partition.partition: end for partition, end in (await _ends(settings, EVENTS)).items()}
        positions = await _positions(connection)
        behind = {name: (at, wanted) for name, at in positions.items() if at != wanted}
        return not behind

    try:
        await eventually(done, seconds)
    except AssertionError:
        raise AssertionError(f"not drained after {seconds} s: {behind}") from None
    finally:
        await connection.close()


async def _connect(settings: Settings) -> Any:
    return await asyncpg.connect(settings.database_url.get_secret_value(), server_settings={"timezone": "UTC"})


@dataclass
class Ledger:
    """What the tables must hold, worked out from the raw deliveries alone."""

    readings: dict[str, LoggedEvent]
    """Of each event id the reading that counts: that of the earliest receipt."""

    events: list[LoggedEvent]
    """Every reading, repeats too."""

    def shown(self) -> set[str]:
        """The ids the view activity_log shows: a delete right after a delete of the same entity is not."""
        by_entity: dict[tuple[int, str, str], list[LoggedEvent]] = {}
        for event in self.readings.values():
            by_entity.setdefault((event.account_id, event.entity_type, event.entity_id), []).append(event)
        found = set()
        for events in by_entity.values():
            deleted = False
            for event in sorted(events, key=lambda event: event.clock):
                deletes = event.kind.name.endswith(".deleted")
                if not (deletes and deleted):
                    found.add(event.event_id)
                if deletes or event.kommo_time:
                    deleted = deletes
        return found

    def folded(self, projection: Folding[Any]) -> dict[Key, tuple[Any, ...]]:
        """The rows of a projection that folds, in an order of its own: its columns by key."""
        states: dict[Key, State] = {}
        events = [event for event in self.events if projection.folds(event)]
        random.Random(5).shuffle(events)
        for event in events:
            states.setdefault(projection.key_of(event), projection.state()).fold(event)
        return {key: state.columns() for key, state in states.items()}


async def balance(
    settings: Settings, accepted: Mapping[tuple[int, bytes], int], sent: Mapping[tuple[int, bytes], int]
) -> Ledger:
    """Check that every accepted delivery is in the log, and each of its events in every table exactly once."""
    raw = await everything(settings, WEBHOOKS)
    stored = Counter((int(record.key), record.value) for record in raw)
    lost = {name for name, count in accepted.items() if stored[name] < count}
    assert not lost, f"{len(lost)} accepted deliveries are not in kommo.webhooks as often as they were accepted: {lost}"
    assert all(count <= sent[name] for name, count in stored.items()), "kommo.webhooks holds more than was sent"

    ledger = Ledger({}, [])
    for record in raw:
        decoded = decode(read_delivery(record.key, record.value, record.headers))
        assert not decoded.rejections
        for encoded in decoded.events:
            event = read_event(encoded.value, 0, 0)
            ledger.events.append(event)
            known = ledger.readings.get(event.event_id)
            if known is None or event.sort_key < known.sort_key:
                ledger.readings[event.event_id] = event
    letters = await everything(settings, DEADLETTERS)
    assert not letters, letters[0].headers
    logged = [read_event(item.value, item.partition, item.offset) for item in await everything(settings, EVENTS)]
    names = {event.event_id for event in logged}
    assert names == set(ledger.readings), _difference(names, set(ledger.readings))
    readings = Counter((event.event_id, event.correlation_id) for event in logged)
    assert all(readings[event.event_id, event.correlation_id] for event in ledger.events)

    connection = await _connect(settings)
    try:
        await _check_tables(connection, ledger)
        wanted = {partition.partition: end for partition, end in (await _ends(settings, EVENTS)).items()}
        assert await _positions(connection) == dict.fromkeys(OF_EVENTS, wanted)
    finally:
        await connection.close()
    print(
        f"ledger: {len(raw)} raw deliveries ({len(accepted)} bodies), {len(logged)} records in kommo.events, "
        f"{len(ledger.readings)} events in the tables"
    )
    return ledger


async def _check_tables(connection: Any, ledger: Ledger) -> None:
    rows = await connection.fetch("SELECT * FROM kommo_projections.activity_log_v2")
    found = Counter(str(row["event_id"]) for row in rows)
    assert set(found) == set(ledger.readings), _difference(set(found), set(ledger.readings))
    assert max(found.values(), default=1) == 1, [name for name, count in found.items() if count > 1]
    for row in rows:
        event = ledger.readings[str(row["event_id"])]
        wanted = (
            event.account_id,
            event.time,
            event.entity_type,
            event.entity_id,
            event.kind.name,
            event.correlation_id,
            event.sort_key,
        )
        names = ("account_id", "occurred_at", "entity_type", "entity_id", "event_type", "correlation_id", "sort_key")
        assert tuple(row[name] for name in names) == wanted

    shown = Counter(str(row["event_id"]) for row in await connection.fetch("SELECT event_id FROM kommo.activity_log"))
    assert max(shown.values(), default=1) == 1
    assert set(shown) == ledger.shown(), _difference(set(shown), ledger.shown())

    for projection in (RecentUpdates(), Tasks(), Calls()):
        await _check_folded(connection, ledger, projection)


async def _check_folded(connection: Any, ledger: Ledger, projection: Folding[Any]) -> None:
    keys, columns = [name for name, _ in projection.key], projection.columns
    rows = await connection.fetch(
        f"SELECT {', '.join((*keys, *columns))} FROM kommo_projections.{projection.name}_v{projection.version}"
    )
    found = {
        tuple(row[name] for name in keys): tuple(
            str(row[name]) if name == "event_id" else row[name] for name in columns
        )
        for row in rows
    }
    expected = ledger.folded(projection)
    assert found.keys() == expected.keys()
    wrong = {key: (found[key], row) for key, row in expected.items() if found[key] != row}
    assert not wrong, f"{len(wrong)} rows of {projection.name} differ: {next(iter(wrong.items()))}"


def _difference(found: set[str], wanted: set[str]) -> str:
    missing, more = wanted - found, found - wanted
    return f"{len(missing)} of {len(wanted)} events are missing, {len(more)} should not be there"
