"""A broker that closed a connection, under uvloop: the client finds another connection and goes on."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from runtime.settings import Settings
from streams.connection import connection
from streams.topics import ACCOUNTS, ensure_topics, physical
from tests.support.servers import Servers


def test_a_closed_transport_is_a_broken_connection_and_the_client_lives_on(servers: Servers) -> None:
    settings = Settings(kafka_bootstrap_servers=servers.kafka_bootstrap_servers, kafka_prefix="uvloop.")

    async def main() -> None:
        await ensure_topics(settings)
        producer = AIOKafkaProducer(**connection(settings, "test"))
        await producer.start()
        try:
            await producer.send_and_wait(physical(settings, ACCOUNTS), b"{}", key=b"1")
            broken = next(iter(producer.client._conns.values()))
            # Closed, and the connection has not heard of it yet: most often that is a moment, here it lasts.
            writer = broken._writer
            writer.transport.abort()
            await asyncio.wait([broken._read_task])
            broken._writer = writer
            with pytest.raises(KafkaConnectionError, match="broken: unable to perform"):
                broken.send(MetadataRequest([]))
            assert not broken.connected()
            await producer.client.force_metadata_update()
            assert not producer.client._sync_task.done()  # the task that the RuntimeError used to end
            await producer.send_and_wait(physical(settings, ACCOUNTS), b"{}", key=b"1")
        finally:
            await producer.stop()

    uvloop.run(main())
