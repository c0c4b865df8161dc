"""The topics: each declared once, created and checked at start; a difference is said, never silently mended."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from runtime.logs import logger
from runtime.settings import Settings
from streams.connection import connection, started

log = logger(__name__)

MIB = 1024 * 1024
FOR_EVER = -1

WEBHOOKS = "kommo.webhooks"
EVENTS = "kommo.events"
COMMANDS = "kommo.commands"
DEADLETTERS = "kommo.deadletters"
ACCOUNTS = "kommo.accounts"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it shall be. `retention_ms` is -1 for ever; `compacted` keeps the latest record of each key."""

    name: str
    key: str
    value: str
    partitions: int
    max_message_bytes: int
    why: str
    retention_ms: int = FOR_EVER
    compacted: bool = False

    @property
    def configs(self) -> dict[str, str]:
        """The topic configuration in Kafka's terms."""
        return {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": str(self.retention_ms),
            "retention.bytes": "-1",
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": "LogAppendTime",
            "compression.type": "producer",
        }


def topics(settings: Settings) -> list[Topic]:
    """Return every topic of the project. Sizes grow by step, so that nothing accepted becomes a poison further on."""
    return [
        Topic(
            WEBHOOKS,
            key="account id",
            value="the raw body; the facts of the request are in the headers",
            partitions=settings.webhooks_partitions,
            max_message_bytes=2 * MIB,
            retention_ms=settings.webhooks_retention_ms,
            why="stored before anything interprets it: a wrong interpretation costs a replay, never data",
        ),
        Topic(
            EVENTS,
            key="account/entity/id",
            value="one event (CloudEvents 1.0, structured JSON)",
            partitions=settings.events_partitions,
            max_message_bytes=8 * MIB,
            why="the source of truth; its partition count is for ever, since more would break the order of an entity",
        ),
        Topic(
            COMMANDS,
            key="account/entity/id",
            value="one command (CloudEvents 1.0, structured JSON)",
            partitions=settings.commands_partitions,
            max_message_bytes=1 * MIB,
            retention_ms=30 * 24 * 3600 * 1000,
            why="the way in for commands, which live in PostgreSQL once they are taken on",
        ),
        Topic(
            DEADLETTERS,
            key="the original key",
            value="the original value; the reason and the coordinates are in the headers",
            partitions=4,
            max_message_bytes=10 * MIB,
            why="what cannot become an event, whole, until a person has looked",
        ),
        Topic(
            ACCOUNTS,
            key="account id",
            value="an account's settings that processes need to know (JSON)",
            partitions=1,
            max_message_bytes=1 * MIB,
            compacted=True,
            why="every process reads it whole at its start and follows it",
        ),
    ]


def physical(settings: Settings, name: str) -> str:
    """Return a topic's name on the cluster: prefix, logical name, live generation."""
    return f"{settings.kafka_prefix}{name}.{settings.kafka_generation}"


@dataclass(slots=True)
class Cluster:
    """What a start found: the cluster's id, the topics made now, and where a topic differs from its declaration."""

    cluster_id: str
    created: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


async def ensure_topics(settings: Settings) -> Cluster:
    """Create the topics that are missing, compare the others with their declaration, and return what was found.

    Replication is 3 where the cluster has three brokers or more, with two in sync; else as many as there are. Every
    difference is logged as a warning and left alone. Raises KafkaError or OSError where the cluster is away.
    """
    admin = AIOKafkaAdminClient(**connection(settings, "admin"), request_timeout_ms=10_000)
    await started(admin)
    try:
        described = await admin.describe_cluster()
        cluster = Cluster(described["cluster_id"])
        replication = min(3, len(described["brokers"]))
        existing = set(await admin.list_topics())
        declared = {physical(settings, topic.name): topic for topic in topics(settings)}
        missing = {name: topic for name, topic in declared.items() if name not in existing}
        if missing:
            cluster.created = await _create(admin, missing, replication)
        present = {name: topic for name, topic in declared.items() if name in existing}
        if present:
            cluster.differences = await _differences(admin, present, replication)
    finally:
        await admin.close()
    if cluster.created:
        log.info("created topics", topics=cluster.created, replication=replication)
    for difference in cluster.differences:
        log.warning("a topic differs from its declaration", difference=difference)
    return cluster


async def _create(admin: AIOKafkaAdminClient, missing: dict[str, Topic], replication: int) -> list[str]:
    in_sync = {"min.insync.replicas": str(max(1, replication - 1))}
    new = [
        NewTopic(name, topic.partitions, replication, topic_configs={**topic.configs, **in_sync})
        for name, topic in missing.items()
    ]
    response = await admin.create_topics(new, timeout_ms=10_000)
    created = []
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if code == 0:
            created.append(name)
        elif error is not TopicAlreadyExistsError:  # another process was quicker
            raise error(f"cannot create topic {name}: {message[0] if message else error.__name__}")
    return created


async def _differences(admin: AIOKafkaAdminClient, present: dict[str, Topic], replication: int) -> list[str]:
    found: list[str] = []
    for topic in await admin.describe_topics(list(present)):
        name, wanted = topic["topic"], present[topic["topic"]].partitions
        if topic["error_code"] == 0 and len(topic["partitions"]) != wanted:
            found.append(f"{name}: {len(topic['partitions'])} partitions, declared {wanted}")
        copies = min((len(partition["replicas"]) for partition in topic["partitions"]), default=0)
        if copies < replication:
            found.append(f"{name}: replicated {copies} times, the cluster allows {replication}")
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in present]
    for response in await admin.describe_configs(asked):
        for code, message, _kind, name, entries in response.resources:
            if code:
                raise KafkaError(f"cannot read the configuration of {name}: {message}")
            actual = {entry[0]: entry[1] for entry in entries}
            found += [
                f"{name}: {key} is {actual.get(key)}, declared {value}"
                for key, value in present[name].configs.items()
                if actual.get(key) != value
            ]
    return sorted(found)
