"""The whole way as a newcomer goes it: `up`, the file of settings it writes, and the commands and addresses in it."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from runtime.settings import Settings
from schemas.decoder import decode
from schemas.delivery import read_delivery
from service.embedded.ports import PortBook
from tests.support import CORPUS, ROOT
from tests.support.launching import service
from tests.support.ports import two_free_ports
from tests.support.processes import alive_on, busy, child_of, new_folder, wait_until
from tests.support.programs import drained
from tests.support.waiting import eventually

ACCOUNT = 16700680
FOREIGN = "042"
"""The body in the corpus that names another account."""
VISIBLE_SECONDS = 5.0
"""A second is what is promised; this machine may be busy with something else."""
LEASE = 30
"""Seconds after which an account of a killed worker is taken up by another."""

_CORPUS = sorted(CORPUS.glob("*.form"))
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}

METRICS = {
    "gateway": {
        "kommo_streams_deliveries",
        "kommo_streams_delivery_bytes",
        "kommo_streams_gateway_answers",
        "kommo_streams_gateway_answer_seconds",
    },
    "ingest": {
        "kommo_streams_events",
        "kommo_streams_dead_letters",
        "kommo_streams_batch_rows",
        "kommo_streams_batch_seconds",
        "kommo_streams_lag_records",
    },
    "projector": {
        "kommo_streams_batch_rows",
        "kommo_streams_batch_seconds",
        "kommo_streams_lag_records",
        "kommo_streams_write_seconds",
        "kommo_streams_end_to_end_seconds",
        "kommo_streams_projection_stopped",
    },
    "dashboard": {"kommo_streams_cache"},
}
"""Which must have been counted by each process after the corpus came through."""


class Up:
    """A `kommo-streams up`, ended and begun again on its folder."""

    def __init__(self, folder: Path, output: Path) -> None:
        self.folder, self.output = folder, output
        self.process: subprocess.Popen[bytes] | None = None
        self.settings: dict[str, str] = {}

    async def begin(self, *arguments: str) -> float:
        command = service("up", "--data", str(self.folder), *arguments)
        begin = time.monotonic()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "COLUMNS": "300"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            await eventually(self._is_up, 90 * busy(), "it is up")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None
        # read as a shell would
        shown = subprocess.run(
            ["sh", "-c", f"set -a; . '{self.folder / 'kommo-streams.env'}'; env -0"], capture_output=True, check=True
        )
        pairs = (item.split("=", 1) for item in shown.stdout.decode().split("\0") if item)
        self.settings = {name: value for name, value in pairs if name.startswith("KOMMO_STREAMS_")}
        return time.monotonic() - begin

    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.runs(), f"it ended with {self.process.returncode}: {self.text()}"
        return "  Stop " in self.text()  # the last line of what it says

    def logs(self) -> str:
        """What our own processes wrote last."""
        logs = [self.folder / "log" / f"{name}.log" for name in METRICS]
        return "".join(f"--- {log}\n{log.read_text(errors='replace')[-3000:]}\n" for log in logs if log.exists())

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def said(self, name: str) -> str:
        """What it said of the dashboard, or of what to try."""
        return next(line.split(None, 1)[1] for line in self.text().splitlines() if line.split()[:1] == [name])

    async def end(self, number: signal.Signals) -> float:
        """A signal; it must end with code 0 within 10 s, and leave no process."""
        assert self.process is not None
        begin = time.monotonic()
        self.process.send_signal(number)
        await eventually(lambda: self.process.poll() is not None, 10, "it has ended")
        took = time.monotonic() - begin
        assert self.process.returncode == 0, self.text()
        assert alive_on(self.folder) == []
        return took

    def command(self, *arguments: str) -> str:
        """What a command of ours prints, with nothing but the settings in the file."""
        return self.tells(*arguments)[0]

    def tells(self, *arguments: str) -> tuple[str, str]:
        """The same, and what it says of it on standard error."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KOMMO_STREAMS_")}
        done = subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            cwd=ROOT,
            env={**environment, **self.settings},
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), done.stderr

    @property
    def kommo(self) -> str:
        """Where the demo's Kommo is."""
        return f"http://127.0.0.1:{PortBook(self.folder).kept('simulate-api')}"

    def __getitem__(self, name: str) -> str:
        return self.settings[f"KOMMO_STREAMS_{name}"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One `up --demo` for the tests of this file; it is started by the first that needs it."""
    with new_folder() as folder:
        running = Up(folder / "first look", tmp_path_factory.mktemp("up") / "up.log")
        try:
            yield running
        finally:
            print(running.text() if running.output.exists() else "")
            if running.process is not None and running.runs():
                running.process.kill()
                running.process.wait()
                wait_until(lambda: not alive_on(folder), 5)


@pytest.fixture
async def up(house: Up) -> Up:
    """It, running."""
    if not house.runs():
        port = two_free_ports()
        print(f"up after {await house.begin('--demo', '--port', str(port)):.1f} s")
        assert house["DASHBOARD_URL"] == f"http://127.0.0.1:{port}"
        assert house["GATEWAY_URL"] == f"http://127.0.0.1:{port + 1}"
        assert house.said("Dashboard").startswith(f"http://127.0.0.1:{port}/")
    return house


class Log:
    """Everything in some topics, as kcat would show it."""

    def __init__(self, up: Up) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=up["KAFKA_BOOTSTRAP_SERVERS"], auto_offset_reset="earliest", fetch_max_wait_ms=50
        )
        self.records: dict[str, list[Any]] = {"webhooks": [], "events": [], "deadletters": []}

    async def __aenter__(self) -> Log:
        await self._consumer.start()
        partitions: list[TopicPartition] = []
        for name in self.records:
            topic = f"kommo.{name}.g1"
            await self._consumer._client.add_topic(topic)
            partitions += [TopicPartition(topic, number) for number in self._consumer.partitions_for_topic(topic)]
        self._consumer.assign(partitions)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def find(self, name: str, wanted: Any) -> Any:
        """Read on until a record of a topic is as wanted, and return it."""
        async with asyncio.timeout(30):
            while True:
                for record in reversed(self.records[name]):
                    if wanted(record):
                        return record
                for partition, records in (await self._consumer.getmany(timeout_ms=200)).items():
                    self.records[partition.topic.split(".")[1]] += records


async def _rows(up: Up) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(up["DATABASE_URL"])
    try:
        log = await connection.fetch("SELECT * FROM kommo.activity_log ORDER BY occurred_at, event_id")
        recent = await connection.fetch("SELECT * FROM kommo.recent_updates ORDER BY entity_type, entity_id")
    finally:
        await connection.close()
    return [tuple(row) for row in (*log, *recent)]


async def _sees_the_corpus(up: Up) -> None:
    """Post each body and see each of its events in Kafka, the API and PostgreSQL."""
    worst = (0.0, "")
    firsts: dict[str, str] = {}
    token = {"Authorization": f"Bearer {up['DASHBOARD_TOKEN']}"}
    connection = await asyncpg.connect(up["DATABASE_URL"])
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client, Log(up) as log:
        for path in _CORPUS:
            body = path.read_bytes()
            begin = time.monotonic()
            answer = await client.post(up["WEBHOOK_URL"], content=body, headers=_FORM)
            assert (answer.status_code, answer.content) == (200, b""), path.name
            if path.name.startswith(FOREIGN):
                letter = await log.find("deadletters", lambda record, body=body: record.value == body)
                facts = dict(letter.headers)
                assert facts["dead_letter_error_class"] == b"authorization"
                assert b"1312313" in facts["dead_letter_reason"]
                continue
            raw = await log.find("webhooks", lambda record, body=body: record.value == body)
            decoded = decode(read_delivery(raw.key, raw.value, raw.headers))
            assert decoded.events
            assert not decoded.rejections
            for event in decoded.events:
                url = f"{up['DASHBOARD_URL']}/api/v1/activity"
                shown = await client.get(url, headers=token, params={"wait_for": event.id, "limit": 200})
                assert shown.status_code == 200, (path.name, shown.text)
            took = time.monotonic() - begin
            worst = max(worst, (took, path.name))
            assert took < VISIBLE_SECONDS * busy(), path.name
            for event in decoded.events:
                row = await connection.fetchrow("SELECT * FROM kommo.activity_log WHERE event_id = $1", event.id)
                item = next((item for item in shown.json()["items"] if item["event_id"] == event.id), None)
                assert (row["account_id"], row["event_type"]) == (ACCOUNT, event.type)
                assert item is None or item["event_type"] == event.type
            delivery = dict(raw.headers)["delivery_id"].decode()
            first = firsts.setdefault(decoded.events[-1].id, delivery)
            await _one_thread(log, delivery, first, row, client, token, up)
        assert len(log.records["deadletters"]) == 1
    await connection.close()
    print(f"{len(_CORPUS)} bodies; the slowest was visible after {worst[0]:.2f} s ({worst[1]})")


async def _one_thread(
    log: Log, delivery: str, first: str, row: Any, client: httpx.AsyncClient, token: dict[str, str], up: Up
) -> None:
    """The correlation id leads from the raw record to the event, the row and the API; of a repeat it is the first's."""

    def mine(record: Any) -> bool:
        event = orjson.loads(record.value)
        return bool(event["id"] == str(row["event_id"]) and event["correlationid"] == delivery)

    await log.find("events", mine)
    assert row["correlation_id"] == first
    entity = f"{row['entity_type']}/{row['entity_id']}"
    answer = await client.get(f"{up['DASHBOARD_URL']}/api/v1/activity", headers=token, params={"entity": entity})
    by_id = {item["event_id"]: item["correlation_id"] for item in answer.json()["items"]}
    assert by_id[str(row["event_id"])] == first


async def _addresses_can_be_revoked(up: Up) -> str:
    """Revoke the address; the new one."""
    old = up["WEBHOOK_URL"]
    new = up.command("webhook-url", "--account", str(ACCOUNT), "--revoke", "--quiet")
    assert new != old
    async with httpx.AsyncClient(trust_env=False) as client:

        async def refused() -> bool:
            return (await client.post(old, content=b"a=1", headers=_FORM)).status_code == 404

        await eventually(refused, 5, "the old address is refused")
        body = _CORPUS[0].read_bytes()
        assert (await client.post(new, content=body, headers=_FORM)).status_code == 200
        assert (await client.post(new + "/", content=body, headers=_FORM)).status_code == 200
    return new


async def _tokens_can_be_managed(up: Up) -> None:
    url = f"{up['DASHBOARD_URL']}/api/v1/activity"
    mine = up.command("token", "create", "--name", "board", "--accounts", str(ACCOUNT), "--quiet")
    other = up.command("token", "create", "--name", "board", "--accounts", "31337", "--quiet")
    async with httpx.AsyncClient(trust_env=False) as client:

        async def ask(token: str) -> httpx.Response:
            return await client.get(url, headers={"Authorization": f"Bearer {token}"})

        assert {item["account_id"] for item in (await ask(mine)).json()["items"]} == {ACCOUNT}
        assert (await ask(other)).json()["items"] == []
        listed = up.command("token", "list", "--json")
        assert [row["name"] for row in json.loads(listed)].count("board") == 2
        assert mine.rpartition("_")[2] not in listed
        assert up.command("token", "revoke", "board").count("Revoked") == 2

        async def revoked() -> bool:
            answers = [await ask(token) for token in (mine, other)]
            return all(answer.status_code == 401 for answer in answers)

        await eventually(revoked, 10, "the tokens are refused")
        assert (await client.get(url)).status_code == 401


async def _metrics_are_told(up: Up) -> None:
    ports = json.loads((up.folder / "ports.json").read_text())
    urls = {
        "gateway": up["GATEWAY_URL"],
        "dashboard": up["DASHBOARD_URL"],
        "ingest": f"http://127.0.0.1:{ports['ingest']}",
        "projector": f"http://127.0.0.1:{ports['projector']}",
    }
    async with httpx.AsyncClient(trust_env=False) as client:
        for name, url in urls.items():
            for path in ("/livez", "/readyz"):
                assert (await client.get(url + path)).status_code == 200, name
            answer = await client.get(url + "/metrics")
            told = [family for family in text_string_to_metric_families(answer.text) if family.samples]
            assert METRICS[name] <= {family.name for family in told}, name
            for family in told:
                for sample in family.samples:
                    for value in sample.labels.values():
                        assert not {str(ACCOUNT), "1312313"} & {value, *value.split("/")}, sample
                        assert len(value) <= 64, sample


@pytest.mark.timeout(300)
async def test_the_whole_way(up: Up) -> None:
    await _sees_the_corpus(up)
    await _tokens_can_be_managed(up)
    await _metrics_are_told(up)


async def _count(up: Up, like: str = "%") -> int:
    connection = await asyncpg.connect(up["DATABASE_URL"])
    try:
        return int(await connection.fetchval("SELECT count(*) FROM kommo.activity_log WHERE summary LIKE $1", like))
    finally:
        await connection.close()


async def _more(up: Up, than: int, like: str = "%") -> int:
    """Wait until there are more rows like this."""

    async def found() -> int:
        rows = await _count(up, like)
        return rows if rows > than else 0

    return int(await eventually(found, 60 * busy(), f"more than {than} rows like {like}"))


async def _created(up: Up) -> list[str]:
    """The names of the leads that the simulated Kommo has really made."""
    async with httpx.AsyncClient(trust_env=False) as client:
        ledger = (await client.get(f"{up.kommo}/_simulator/ledger")).text
    effects = [json.loads(line) for line in ledger.splitlines()]
    return [effect["item"]["name"] for effect in effects if (effect["kind"], effect["verb"]) == ("lead", "created")]


@pytest.mark.timeout(300)
async def test_deliveries_show_and_commands_succeed_while_processes_are_killed(up: Up) -> None:
    trial = shlex.split(up.said("Try"))[1:]
    assert "succeeded after 1 attempt" in up.tells(*trial)[1]
    assert await _created(up) == ["A deal"]
    await _more(up, 0, "%A deal%added%")  # by the webhook of the change
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(up["DASHBOARD_URL"])).status_code == 200
    rows = await _count(up)
    killed = [("kafka.Kafka",)]
    killed += [(sys.executable, f"service {name}") for name in (*METRICS, "worker", "simulate-api")]
    for words in killed:
        child_of(up.folder, *words).send_signal(signal.SIGKILL)
    again = ("send", "create_lead", "--account", str(ACCOUNT), "name=Another", "--wait", str(2 * LEASE))
    await eventually(lambda: up.text().count("runs again") == len(killed), 60 * busy(), "each runs again")
    await asyncio.gather(_more(up, rows + 3), asyncio.to_thread(up.command, "command", *again))
    assert await _created(up) == ["A deal", "Another"]  # it has not forgotten the first
    written = [*(up.folder / "log").iterdir(), up.folder / "kommo-streams.env", up.folder / "secrets.json"]
    assert not [path for path in written if "eyJ" in path.read_text()]  # Kommo's tokens begin so


@pytest.mark.timeout(300)
async def test_what_was_shown_and_revoked_is_so_after_a_restart(up: Up) -> None:
    child_of(up.folder, "simulate --rate").suspend()  # it would not like that its address is revoked
    settings = Settings(kafka_bootstrap_servers=up["KAFKA_BOOTSTRAP_SERVERS"], database_url=up["DATABASE_URL"])
    webhook = await _addresses_can_be_revoked(up)
    await drained(settings)
    rows, dashboard = await _rows(up), up["DASHBOARD_URL"]
    assert len(rows) > 5
    told = [f"ended on SIGTERM in {await up.end(signal.SIGTERM):.1f} s"]

    told.append(f"up again after {await up.begin():.1f} s")
    await drained(settings)  # Kafka has kept what it had, and who has read how far
    assert await _rows(up) == rows
    assert up["WEBHOOK_URL"] == webhook
    assert up["DASHBOARD_URL"] == dashboard
    told.append(f"ended on Ctrl-C in {await up.end(signal.SIGINT):.1f} s")
    print("; ".join(told))
