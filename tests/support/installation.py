"""An installation of a test's own on shared servers: its settings, its topics, its database, its keys in Redis."""

from __future__ import annotations

import itertools
import os

from aiokafka.admin import AIOKafkaAdminClient

from runtime.settings import Settings
from streams.topics import physical, topics
from tests.support.ports import free_port
from tests.support.servers import Servers, worker_number

KEYS = "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"
TOKEN_KEYS = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

_numbers = itertools.count(1)


def redis_url_of(servers: Servers) -> str:
    """The database of Redis that is this worker's own: a test may empty it."""
    return f"{servers.redis_url.rpartition('/')[0]}/{1 + worker_number() % 15}"


def installation(servers: Servers, database: str) -> Settings:
    """Return the settings of an installation of its own in this database."""
    return Settings(
        kafka_bootstrap_servers=servers.kafka_bootstrap_servers,
        kafka_prefix=f"t{os.getpid()}x{next(_numbers)}.",
        webhooks_partitions=2,
        events_partitions=4,
        commands_partitions=4,
        database_url=database,
        redis_url=redis_url_of(servers),
        gateway_keys=KEYS,
        gateway_port=free_port(),
        dashboard_port=free_port(),
        ingest_port=free_port(),
        projector_port=free_port(),
        worker_port=free_port(),
        token_keys=TOKEN_KEYS,
    )


async def delete_topics(settings: Settings, *names: str) -> None:
    """Delete topics (all of an installation, if none is named); those that are not there do not matter."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([physical(settings, name) for name in names or [t.name for t in topics(settings)]])
    finally:
        await admin.close()
