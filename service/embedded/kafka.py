"""Apache Kafka (KRaft) of one or three brokers."""

from __future__ import annotations

import base64
import shutil
import signal
import threading
import time
import uuid
from pathlib import Path

from service.embedded import leftovers
from service.embedded.child import Child
from service.embedded.errors import CancelledStartError, EmbeddedError, explain_os_error, explain_output
from service.embedded.files import sync_folder
from service.embedded.jars import kafka_jars
from service.embedded.java import find_java
from service.embedded.kafka_wire import known_brokers
from service.embedded.parallel import run_all
from service.embedded.ports import HOST, PortBook
from service.embedded.progress import Progress

READY_LIMIT = 60.0
"""Seconds from the start of a broker to its first answer; 2 s is usual."""

FORMAT_LIMIT = 60.0
STOP_LIMIT = 4.5

LARGEST_MESSAGE = 11 * 1024 * 1024
"""Bytes: the largest topic's limit (10 MiB) and room for its headers."""

_JVM = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
_LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)


def new_cluster_id() -> str:
    """A cluster id as Kafka wants it: 16 random bytes in URL-safe base64. One that starts with - is an option."""
    while True:
        name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not name.startswith("-"):
            return name


def broker_properties(node: int, ports: list[tuple[int, int]], data: str) -> str:
    """server.properties of broker `node` (from 0); `ports` are (client, controller) of each, `data` a relative path.

    A relative path needs no escaping: a comma would part it in two, and a backslash or a letter beyond Latin-1 is
    something else in a properties file.
    """
    client, controller = ports[node]
    voters = ",".join(f"{number + 1}@{HOST}:{port}" for number, (_, port) in enumerate(ports))
    replicas = min(3, len(ports))
    in_sync = max(1, replicas - 1)
    lines = [
        "process.roles=broker,controller",
        f"node.id={node + 1}",
        f"controller.quorum.voters={voters}",
        f"listeners=PLAINTEXT://{HOST}:{client},CONTROLLER://{HOST}:{controller}",
        f"advertised.listeners=PLAINTEXT://{HOST}:{client}",
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names=CONTROLLER",
        "inter.broker.listener.name=PLAINTEXT",
        f"log.dirs={data}",
        "auto.create.topics.enable=false",
        f"default.replication.factor={replicas}",
        f"min.insync.replicas={in_sync}",
        f"offsets.topic.replication.factor={replicas}",
        "offsets.topic.num.partitions=4",
        "offsets.retention.minutes=525600",  # a group that was idle for a week would read everything again
        f"transaction.state.log.replication.factor={replicas}",
        f"transaction.state.log.min.isr={in_sync}",
        "transaction.state.log.num.partitions=4",
        f"share.coordinator.state.topic.replication.factor={replicas}",
        f"share.coordinator.state.topic.min.isr={in_sync}",
        "group.initial.rebalance.delay.ms=0",
        f"message.max.bytes={LARGEST_MESSAGE}",
        f"replica.fetch.max.bytes={LARGEST_MESSAGE}",
        "controlled.shutdown.retry.backoff.ms=500",
        # a killed broker is let in again only when its old session has run out: by default 9 s
        "broker.session.timeout.ms=3000",
        "broker.heartbeat.interval.ms=500",
    ]
    return "\n".join([*lines, ""])


class Broker:
    """One broker: kill() is a crash, stop() a clean leave, start() brings it back with its data on its port."""

    def __init__(self, cluster: Kafka, node: int) -> None:
        self._cluster, self._node = cluster, node
        self.name = "kafka" if cluster.size == 1 else f"kafka-{node + 1}"
        self.folder = cluster.folder / f"broker-{node + 1}"
        self._child: Child | None = None

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"{HOST}:{self._cluster.ports[self._node][0]}"

    @property
    def log(self) -> Path:
        """Its log file."""
        return self._cluster.directory / "log" / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._child.pid if self._child else None

    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.is_alive()

    def _java(self, name: str, *arguments: str) -> Child:
        cluster = self._cluster
        separator = ";" if str(cluster.java).endswith(".exe") else ":"
        class_path = separator.join(str(jar) for jar in cluster.jars)
        return Child(
            name,
            [str(cluster.java), *_JVM, *_LOGGING, "-cp", class_path, *arguments],
            directory=cluster.directory,
            cwd=self.folder,
            stops=((signal.SIGTERM, STOP_LIMIT),),
        )

    def launch(self) -> None:
        """Format the storage if that never happened, and start the process; `await_ready` follows.

        Raises EmbeddedError.
        """
        cluster = self._cluster
        try:
            cluster.folder.mkdir(exist_ok=True, mode=0o700)
            self.folder.mkdir(exist_ok=True, mode=0o700)
            leftovers.end(cluster.directory, self.folder)
            properties = self.folder / "server.properties"
            properties.write_text(broker_properties(self._node, cluster.ports, "data"), encoding="ascii")
            if not (self.folder / "data").exists():
                self._format()
        except OSError as error:
            raise explain_os_error(error, self.folder) from error
        if self._child is None:
            self._child = self._java(self.name, "kafka.Kafka", "server.properties")
        if cluster.cancel.is_set():
            raise CancelledStartError
        self._child.start()

    def _format(self) -> None:
        """Make the storage under another name and give it its own when whole: a crash leaves nothing half-made."""
        cluster, temporary = self._cluster, self.folder / "data.new"
        if temporary.exists():
            shutil.rmtree(temporary)
        text = broker_properties(self._node, cluster.ports, temporary.name)
        (self.folder / "format.properties").write_text(text, encoding="ascii")
        tool = self._java(
            f"{self.name}-format", "kafka.tools.StorageTool", "format", "-t", cluster.id, "-c", "format.properties"
        )
        tool.start()
        try:
            code = tool.wait(FORMAT_LIMIT, cluster.cancel)
            if cluster.cancel.is_set():
                raise CancelledStartError
        finally:
            tool.kill()  # over, or given up: what it made has no name yet
        if code != 0 or not (temporary / "meta.properties").exists():
            raise explain_output("Kafka's storage format", tool.output(), cluster.directory, tool.log)
        temporary.rename(self.folder / "data")
        sync_folder(self.folder)

    def await_ready(self) -> None:
        """Wait until it announces itself, and with it every broker of its cluster that runs. Raises EmbeddedError."""
        cluster, child = self._cluster, self._child
        if child is None:
            raise EmbeddedError(f"{self.name} was never started.")
        port = cluster.ports[self._node][0]
        wanted = {broker.node_id for broker in cluster.brokers if broker.is_alive()} | {self.node_id}
        limit = time.monotonic() + READY_LIMIT
        while time.monotonic() < limit:
            try:
                if wanted <= known_brokers(HOST, port):
                    return
            except OSError:
                pass  # not yet
            if not child.is_alive():
                raise explain_output("Kafka", child.output(), cluster.directory, child.log)
            if cluster.cancel.wait(0.05):
                raise CancelledStartError
        raise explain_output(f"Kafka (waited {READY_LIMIT:.0f} s)", child.output(), cluster.directory, child.log)

    @property
    def node_id(self) -> int:
        """Its id in the cluster, from 1."""
        return self._node + 1

    def start(self) -> None:
        """Start, or start again; returns when it answers. Raises EmbeddedError."""
        self.launch()
        self.await_ready()

    def stop(self, seconds: float = STOP_LIMIT) -> None:
        """Leave cleanly, or be killed after so many seconds."""
        if self._child is not None:
            self._child.stop(seconds)

    def kill(self) -> None:
        """SIGKILL."""
        if self._child is not None:
            self._child.kill()


class Kafka:
    """The cluster. Its `brokers` can be killed and started one by one."""

    name = "kafka"

    def __init__(
        self, directory: Path, ports: PortBook, size: int, cluster_id: str, progress: Progress, cancel: threading.Event
    ) -> None:
        self.directory, self.size, self.id = directory, size, cluster_id
        self.cancel = cancel
        self.folder = directory / "kafka"
        self._book, self._progress = ports, progress
        self.ports: list[tuple[int, int]] = []
        self.jars: list[Path] = []
        self.java = Path("java")
        self.brokers = [Broker(self, node) for node in range(size)]

    def assign_ports(self) -> None:
        """Take the kept ports, and a new one for each that somebody else has. Raises OSError."""
        names = [f"kafka-{node + 1}" for node in range(self.size)]
        self.ports = [(self._book.get(name), self._book.get(f"{name}-controller")) for name in names]

    def prepare(self) -> None:
        """Find Java and bring the jars. Raises EmbeddedError."""
        there = len(list(self.folder.glob("broker-*")))
        if there not in (0, self.size):
            raise EmbeddedError(f"{self.directory} has a cluster of {there} brokers, not of {self.size}: use another.")
        self.java = find_java()
        self.jars = kafka_jars(self.directory / "cache", self._progress, self.cancel)

    @property
    def bootstrap_servers(self) -> str:
        """The brokers' addresses for clients."""
        return ",".join(broker.address for broker in self.brokers)

    @property
    def log(self) -> Path:
        """The (first) broker's log file."""
        return self.brokers[0].log

    def start(self) -> None:
        """Start every broker that does not run; returns when all answer. Raises EmbeddedError."""
        if not self.jars:
            self.prepare()
        run_all([broker.launch for broker in self.brokers], self.cancel)
        run_all([broker.await_ready for broker in self.brokers], self.cancel)

    def stop(self) -> None:
        """Stop all brokers at once, within 6 s.

        The last of three cannot leave cleanly, since its quorum has gone: it is not waited for long.
        """
        limit = STOP_LIMIT if self.size == 1 else 2.0
        run_all([lambda broker=broker: broker.stop(limit) for broker in self.brokers])  # type: ignore[misc]

    def kill(self) -> None:
        """SIGKILL to all brokers."""
        for broker in self.brokers:
            broker.kill()

    def is_alive(self) -> bool:
        """Whether every broker runs."""
        return all(broker.is_alive() for broker in self.brokers)
