"""What the tests of the embedded servers share."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from service.embedded import jars
from service.embedded.child import MARK
from service.embedded.progress import Progress
from service.up import run_up
from tests.support.servers import run_folder

KAFKA, POSTGRES, VALKEY = (f"KOMMO_STREAMS_{name}" for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "REDIS_URL"))
"""The settings that say where the servers are."""

SCRIPTS = Path(__file__).parent / "scripts"
"""Programs that tests run."""


@contextmanager
def new_folder() -> Iterator[Path]:
    """A folder where this run keeps its servers: in memory where there is enough, since an fsync costs nothing there.

    Everyone may pass its parents, but not it.
    """
    path = Path(tempfile.mkdtemp(prefix="ks-", dir=run_folder().parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def busy() -> float:
    """How many times longer than on an idle machine something may take: 1, or what waits for each core."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def wait_until(condition: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
    limit = time.monotonic() + seconds * busy()
    while not condition():
        assert time.monotonic() < limit, f"not after {seconds} s: {what or condition}"
        time.sleep(0.01)


def alive_on(directory: Path) -> list[str]:
    """Every live process that has to do with the folder, found more broadly than the code under test does."""
    found, text = [], str(directory)
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            facts = [*process.cmdline(), process.cwd(), process.environ().get(MARK, "")]
        except psutil.Error:
            continue
        if any(text in fact for fact in facts):
            found.append(f"{process.pid} {facts}")
    return found


def child_of(folder: Path, *in_command: str) -> psutil.Process:
    """The process of `up` whose command line has the words in it."""
    for process in psutil.process_iter():
        try:
            text, own = " ".join(process.cmdline()), process.environ().get(MARK)
            ours = own == str(folder) or process.cwd().startswith(str(folder))
            if ours and all(word in text for word in in_command):
                return process
        except psutil.Error:
            continue
    raise AssertionError(f"no process with {in_command}")


@contextmanager
def script(name: str, *arguments: str | Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A script of scripts/ (or -m and a module) as a process of its own; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-u", name if name == "-m" else str(SCRIPTS / name), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """The first line of its output with the text in it; the test's time limit bounds the wait."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        if text in line:
            return line
        seen.append(line)
    assert process.stderr is not None
    raise AssertionError(f"no line with {text!r} in {seen}, errors: {process.stderr.read()}")


def fails(process: subprocess.Popen[str], *words: str, seconds: float = 30) -> str:
    """It ends with one clear message that has the words in it, a code that is not 0, and no traceback."""
    _, errors = process.communicate(timeout=seconds)
    assert process.returncode not in (0, None), errors
    assert "Traceback" not in errors
    assert len(errors.strip().splitlines()) <= 8, errors
    for word in words:
        assert word in errors, errors
    return errors


def refuses(capsys: pytest.CaptureFixture[str], folder: Path, *words: str, port: int | None = None) -> str:
    """`up` in this process ends before our processes start, as `fails` says; that it does as a process is seen there.

    What it starts until then are its servers. One that does not refuse is told to stop after a while.
    """
    capsys.readouterr()
    stop = threading.Timer(60, os.kill, (os.getpid(), signal.SIGTERM))
    stop.start()
    try:
        assert run_up(folder, port, 1) == 1
    finally:
        stop.cancel()
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) <= 8, errors
    for word in words:
        assert word in errors, errors
    return errors


def end(process: subprocess.Popen[str], seconds: float = 10.0, number: int = signal.SIGTERM) -> float:
    """Stop it as a user would; the seconds it took."""
    start = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=seconds)
    return time.monotonic() - start


def jar_cache(fallback: Path) -> Path:
    """The user's cache, with Kafka's jars in it."""
    jars.kafka_jars(fallback, Progress(), threading.Event())
    return jars.cache_directory()


def need_open(*paths: Path) -> None:
    """Skip where these lie in a folder that another user may not enter, as a checkout in a private one does."""
    for path in paths:
        probe = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "test", "-r", str(path)]
        if subprocess.run(probe, capture_output=True).returncode != 0:
            pytest.skip(f"another user may not read {path}: check this out into a folder that everyone may enter")


@contextmanager
def tmpfs(path: Path, megabytes: int) -> Iterator[Path]:
    """A small disk. Skips where nothing can be mounted, except on CI."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], capture_output=True, text=True
    )
    if done.returncode != 0:
        reason = f"a tmpfs cannot be mounted here (root is needed): {done.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield path
    finally:
        wait_until(lambda: subprocess.run(["umount", str(path)], capture_output=True).returncode == 0, 10, "umount")


async def put(servers: dict[str, str], text: str) -> None:
    """Write a word into each server whose setting is given, durably."""
    if KAFKA in servers:
        await _make_topic(servers[KAFKA])
        await put_kafka(servers, text)
    if POSTGRES in servers:
        await put_postgres(servers, text)
    if VALKEY in servers:
        put_valkey(servers, text)


async def _make_topic(brokers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        if "words" not in await admin.list_topics():
            await admin.create_topics([NewTopic("words", 1, len(brokers.split(",")))])
    finally:
        await admin.close()


async def put_kafka(servers: dict[str, str], text: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers[KAFKA], acks="all", enable_idempotence=True)
    await producer.start()
    try:
        await producer.send_and_wait("words", text.encode(), partition=0)
    finally:
        await producer.stop()


async def put_postgres(servers: dict[str, str], text: str) -> None:
    connection = await asyncpg.connect(servers[POSTGRES])
    await connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
    await connection.execute("INSERT INTO words VALUES ($1)", text)
    await connection.close()


def put_valkey(servers: dict[str, str], text: str) -> None:
    with redis.Redis.from_url(servers[VALKEY]) as client:
        client.rpush("words", text)


async def words(servers: dict[str, str]) -> dict[str, list[str]]:
    """The words in each server whose setting is given."""
    found = {}
    if KAFKA in servers:
        found["kafka"] = await kafka_words(servers)
    if POSTGRES in servers:
        found["postgres"] = await postgres_words(servers)
    if VALKEY in servers:
        found["valkey"] = valkey_words(servers)
    return found


async def kafka_words(servers: dict[str, str]) -> list[str]:
    consumer = AIOKafkaConsumer(bootstrap_servers=servers[KAFKA])
    await consumer.start()
    try:
        partition = TopicPartition("words", 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        last = (await consumer.end_offsets([partition]))[partition]
        found: list[str] = []
        while await consumer.position(partition) < last:
            found += [record.value.decode() for record in (await consumer.getmany(timeout_ms=500)).get(partition, [])]
        return found
    finally:
        await consumer.stop()


async def postgres_words(servers: dict[str, str]) -> list[str]:
    connection = await asyncpg.connect(servers[POSTGRES])
    try:
        return [row["word"] for row in await connection.fetch("SELECT word FROM words")]
    finally:
        await connection.close()


def valkey_words(servers: dict[str, str]) -> list[str]:
    with redis.Redis.from_url(servers[VALKEY]) as client:
        return [word.decode() for word in client.lrange("words", 0, -1)]  # type: ignore[union-attr]
