"""The outbox on real PostgreSQL and Kafka."""

from __future__ import annotations

import asyncio

from agents.commands.outbox import Outbox
from agents.commands.table import Outgoing, put_out
from streams.topics import DEADLETTERS, EVENTS, ensure_topics
from tests.integration.agents.commands.support import House, own_house
from tests.support.installation import delete_topics
from tests.support.servers import Servers
from tests.support.topics import everything
from tests.support.waiting import eventually


async def put(home: House, *records: Outgoing) -> None:
    """Put records into the outbox."""
    async with home.pool.acquire() as connection:
        await put_out(connection, records)


async def left(home: House, topic: str) -> int:
    """How many records of a topic wait."""
    count: int = await home.pool.fetchval("SELECT count(*) FROM kommo_agents.outbox WHERE topic = $1", topic)
    return count


async def test_a_topic_that_cannot_be_written_to_holds_up_no_other(servers: Servers) -> None:
    async with own_house(servers) as home:
        await delete_topics(home.settings, DEADLETTERS)
        outbox, stop = Outbox(home.pool, home.producer), asyncio.Event()
        running = asyncio.create_task(outbox.run(stop))
        try:
            await put(home, Outgoing(DEADLETTERS, b"k", b"letter", [("reason", b"why")]))
            outbox.wake([DEADLETTERS])
            for number in range(3):
                await put(home, Outgoing(EVENTS, b"k", b'{"type":"%d"}' % number))
                outbox.wake([EVENTS])

                async def sent() -> bool:
                    return await left(home, EVENTS) == 0

                await eventually(sent, 8)  # the other's patience is longer
            assert await left(home, DEADLETTERS) == 1
            await ensure_topics(home.settings)

            async def gone() -> bool:
                return await left(home, DEADLETTERS) == 0

            await eventually(gone, 40)
        finally:
            stop.set()
            await running
        assert [record.value for record in await everything(home.settings, EVENTS)] == [
            b'{"type":"%d"}' % number for number in range(3)
        ]
        letters = await everything(home.settings, DEADLETTERS)
        assert {(record.value, record.headers) for record in letters} == {(b"letter", (("reason", b"why"),))}
