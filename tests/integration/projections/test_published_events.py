"""An event that any gateway publishes shows in both projections, once, however often it is published."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from projections.names import PROJECTIONS
from projections.projector import made as projection
from projections.projector import projector
from runtime.settings import Settings
from schemas.event import Event
from streams.producer import EventProducer
from streams.topics import EVENTS, ensure_topics
from tests.support.databases import new_database
from tests.support.projections import ACCOUNT, T0, event_json, moment
from tests.support.servers import Servers
from tests.support.waiting import eventually, running


@pytest.fixture
async def database(servers: Servers) -> AsyncIterator[str]:
    """An empty database: here the projector makes its tables."""
    async with new_database(servers) as url:
        yield url


async def test_a_published_event_shows_in_both_projections_once(settings: Settings) -> None:
    made = Event.from_json(
        event_json(
            "kommo.lead.added",
            "lead/77",
            data={"lead": {"id": 77, "name": "From elsewhere", "responsible_user_id": 5, "created_user_id": 4}},
            origin="import",
        )
    )
    await ensure_topics(settings)
    async with EventProducer(settings, "my-gateway") as events:
        await events.publish([made])
        await events.publish([made, made])
    async with running(lambda stop: projector(settings, stop)):
        connection = await asyncpg.connect(settings.database_url.get_secret_value())

        events = [name for name in PROJECTIONS if projection(name).topic == EVENTS]

        async def all_read() -> bool:
            if not await connection.fetchval("SELECT to_regclass('kommo_projections.positions')"):
                return False
            query = "SELECT sum(position) FROM kommo_projections.positions WHERE projection = ANY($1)"
            return bool(await connection.fetchval(query, events) == 3 * len(events))  # three records

        await eventually(all_read, 30)
        (line,) = await connection.fetch("SELECT * FROM kommo.activity_log")
        (row,) = await connection.fetch("SELECT * FROM kommo.recent_updates")
        await connection.close()
    assert (line["account_id"], line["entity_type"], line["entity_id"]) == (ACCOUNT, "lead", "77")
    assert (line["event_type"], line["summary"], line["actor_id"]) == (
        "kommo.lead.added",
        "Lead “From elsewhere” added",
        4,
    )
    assert (line["log_offset"], line["occurred_at"], str(line["event_id"])) == (0, moment(T0), made.id)
    assert (row["title"], row["responsible_user_id"], row["deleted"]) == ("From elsewhere", 5, False)
    assert row["event_id"] == line["event_id"]
