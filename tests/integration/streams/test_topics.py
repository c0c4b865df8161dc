"""The topics are made as declared; a difference is said and not mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from runtime.settings import Settings
from streams.topics import ACCOUNTS, COMMANDS, DEADLETTERS, EVENTS, MIB, WEBHOOKS, ensure_topics, physical, topics
from tests.integration.streams.support import administrator
from tests.support.installation import delete_topics
from tests.support.servers import Servers
from tests.support.waiting import eventually


@pytest.fixture
async def installation(servers: Servers, request: pytest.FixtureRequest) -> AsyncIterator[Settings]:
    made = Settings(
        kafka_bootstrap_servers=servers.kafka_bootstrap_servers,
        kafka_prefix=f"{request.node.name[:50]}.",
        webhooks_partitions=3,
        events_partitions=5,
        webhooks_retention_ms=86_400_000,
    )
    yield made
    await delete_topics(made)


async def configs(settings: Settings, topic: str) -> dict[str, str]:
    async with administrator(settings) as admin:
        asked = ConfigResource(ConfigResourceType.TOPIC, physical(settings, topic))
        (answer,) = await admin.describe_configs([asked])
        return {entry[0]: entry[1] for entry in answer.resources[0][4]}


async def test_topics_are_made_as_declared(installation: Settings) -> None:
    cluster = await ensure_topics(installation)
    names = [physical(installation, name) for name in (WEBHOOKS, EVENTS, COMMANDS, DEADLETTERS, ACCOUNTS)]
    assert sorted(cluster.created) == sorted(names)
    assert names[1] == f"{installation.kafka_prefix}kommo.events.g1"
    assert cluster.differences == []

    async def partitions() -> bool:  # the broker learns of a topic a moment after the controller
        async with administrator(installation) as admin:
            described = {topic["topic"]: topic for topic in await admin.describe_topics(names)}
        return [len(described[name]["partitions"]) for name in names] == [3, 5, 12, 4, 1]

    await eventually(partitions)
    limits = {WEBHOOKS: 2 * MIB, EVENTS: 8 * MIB, COMMANDS: MIB, DEADLETTERS: 10 * MIB, ACCOUNTS: MIB}
    for name, limit in limits.items():
        found = await configs(installation, name)
        assert found["max.message.bytes"] == str(limit)
        assert found["retention.ms"] == {WEBHOOKS: "86400000", COMMANDS: "2592000000"}.get(name, "-1")
        assert found["retention.bytes"] == "-1"
        assert found["cleanup.policy"] == ("compact" if name == ACCOUNTS else "delete")
        assert found["message.timestamp.type"] == "LogAppendTime"
        assert found["compression.type"] == "producer"
    again = await ensure_topics(installation)
    assert (again.cluster_id, again.created, again.differences) == (cluster.cluster_id, [], [])


async def test_a_difference_is_said_and_not_mended(installation: Settings) -> None:
    events, webhooks = physical(installation, EVENTS), physical(installation, WEBHOOKS)
    await ensure_topics(installation)
    async with administrator(installation) as admin:
        altered = {"retention.ms": "1000", "max.message.bytes": "500"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, events, configs=altered)])
        await admin.create_partitions({webhooks: NewPartitions(total_count=4)})
    said = {
        f"{events}: retention.ms is 1000, declared -1",
        f"{events}: max.message.bytes is 500, declared {8 * MIB}",
        f"{webhooks}: 4 partitions, declared 3",
    }

    async def is_said() -> bool:  # the broker learns of a change a moment after the controller
        cluster = await ensure_topics(installation)
        return not cluster.created and said <= set(cluster.differences)

    await eventually(is_said)
    assert await is_said()
    assert (await configs(installation, EVENTS))["retention.ms"] == "1000"


async def test_many_processes_may_start_at_once(installation: Settings) -> None:
    clusters = await asyncio.gather(*(ensure_topics(installation) for _ in range(4)))
    assert sorted(name for cluster in clusters for name in cluster.created) == sorted(
        physical(installation, topic.name) for topic in topics(installation)
    )


async def test_a_topic_somebody_made_by_hand_is_left_as_it_is(installation: Settings) -> None:
    name = physical(installation, EVENTS)
    async with administrator(installation) as admin:
        await admin.create_topics([NewTopic(name, 2, 1)])

    async def is_said() -> bool:
        differences = (await ensure_topics(installation)).differences
        return f"{name}: 2 partitions, declared 5" in differences and any("LogAppendTime" in one for one in differences)

    await eventually(is_said)
    async with administrator(installation) as admin:
        (described,) = await admin.describe_topics([name])
    assert len(described["partitions"]) == 2
