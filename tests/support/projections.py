"""What the tests of projections/ share: webhook bodies, the events they become, and tables to write them to."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlencode

import asyncpg
import orjson

from projections.activity_log import ActivityLog
from projections.projection import Projection
from projections.reading import LoggedEvent, read_event
from projections.recent_updates import RecentUpdates
from schemas.catalogue import EVENT_TYPES
from schemas.decoder import decode
from schemas.delivery import Delivery, Door
from schemas.identity import event_id

ACCOUNT = 16700680
T0 = 1_790_000_000
"""Kommo's time of most things in these tests, unix seconds."""

LINK = "https://example.kommo.com"

Row = dict[str, Any]


def body(key: str, action: str, *items: Any) -> bytes:
    """A webhook's body: items under ENTITY[ACTION], then the account block."""
    block = {"id": str(ACCOUNT), "subdomain": "example", "_links": {"self": LINK}}
    tree = {key: {action: {str(number): item for number, item in enumerate(items)}}, "account": block}
    return urlencode(_pairs(tree)).encode()


def _pairs(tree: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(tree, dict):
        return [
            pair for name, value in tree.items() for pair in _pairs(value, f"{path}[{name}]" if path else str(name))
        ]
    return [(path, str(tree))]


def lead(identifier: int, at: int, **fields: Any) -> dict[str, Any]:
    """A lead as a webhook describes it."""
    told = {"name": f"Deal {identifier}", "status_id": 100, "pipeline_id": 1, "responsible_user_id": 7}
    return {"id": identifier, **told, "last_modified": at, "updated_at": at, "modified_user_id": 7, **fields}


def person(identifier: int, at: int, kind: str = "contact", **fields: Any) -> dict[str, Any]:
    """A contact or a company."""
    told = {"name": f"Name {identifier}", "type": kind, "responsible_user_id": 7}
    return {"id": identifier, **told, "last_modified": at, "updated_at": at, **fields}


def task(identifier: int, at: int, **fields: Any) -> dict[str, Any]:
    """A task."""
    told = {"text": f"Do {identifier}", "status": 0, "responsible_user_id": 7}
    return {"id": identifier, **told, "last_modified": text_time(at), "updated_at": at, **fields}


def note(identifier: int, element: tuple[int, int], at: int, **fields: Any) -> dict[str, Any]:
    """A note on an element: its type (1 contact, 2 lead, 3 company) and id."""
    kind, number = element
    told = {"note_type": 4, "element_type": kind, "element_id": number, "text": f"Words {identifier}", "created_by": 9}
    return {"note": {"id": identifier, **told, "created_at": at, **fields}}


def call(identifier: int, element: tuple[int, int], at: int, **params: Any) -> dict[str, Any]:
    """A call on an element; `params` are what its text says in JSON."""
    said = {"PHONE": "+15550100", "DURATION": 65, "SRC": "pbx", **params}
    return note(identifier, element, at, note_type=10, text=json.dumps(said))


def task_statuses(log: Log, *statuses: int) -> None:
    """Deliver snapshots of task 5, one a second, with these statuses: 1 is closed."""
    for second, status in enumerate(statuses):
        log.deliver(body("task", "update", task(5, T0 + second, status=status, action_close=status)), T0 + 100 + second)


def text_time(at: int) -> str:
    """Unix seconds as tasks write them."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def moment(at: float) -> dt.datetime:
    """Unix seconds as an aware datetime."""
    return dt.datetime.fromtimestamp(at, dt.UTC)


def values(content: bytes, received_us: int, delivery_id: str = "d", door: Door = "webhook") -> list[bytes]:
    """The events of a delivery, as they lie in kommo.events."""
    decoded = decode(Delivery(ACCOUNT, delivery_id, received_us, content, door=door))
    assert not decoded.rejections, decoded.rejections
    return [event.value for event in decoded.events]


class Log:
    """A partition of kommo.events: deliveries go in, the events that are read come out."""

    def __init__(self) -> None:
        self.events: list[LoggedEvent] = []
        self._deliveries = 0

    def deliver(
        self, content: bytes, received: float, delivery_id: str | None = None, door: Door = "webhook"
    ) -> list[LoggedEvent]:
        """Append what a delivery received at this unix time becomes, and return it."""
        self._deliveries += 1
        name = delivery_id or f"delivery-{self._deliveries}"
        return [self.append(value) for value in values(content, round(received * 1_000_000), name, door)]

    def append(self, value: bytes) -> LoggedEvent:
        """Append an event as JSON."""
        event = read_event(value, 0, len(self.events))
        self.events.append(event)
        return event


def event_json(kind: str, subject: str = "lead/1", **changes: Any) -> bytes:
    """An event another gateway may have written; `changes` replace its attributes (None takes one away)."""
    told = {
        "specversion": "1.0",
        "id": event_id(ACCOUNT, kind, subject, changes.pop("named", {"at": T0})),
        "source": f"/kommo/accounts/{ACCOUNT}",
        "type": kind,
        "subject": subject,
        "time": "2026-09-21T14:13:20Z",
        "datacontenttype": "application/json",
        "dataschema": f"urn:kommo-streams:{kind}:{EVENT_TYPES[kind].version if kind in EVENT_TYPES else 1}",
        "accountid": str(ACCOUNT),
        "sequence": f"{T0 * 1_000_000:016d}-000000",
        "timesource": "kommo",
        "deliveryid": "d",
        "item": "i",
        "revision": 1,
        "origin": "live",
        "correlationid": "c",
        "data": {},
        **changes,
    }
    return orjson.dumps({name: value for name, value in told.items() if value is not None})


_EMPTY = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend';
DO $$
DECLARE item record;
BEGIN
    FOR item IN
        SELECT oid::regclass AS name, relname ~ '_[0-9]{4}_[0-9]{2}$' AS is_month FROM pg_class
        WHERE relnamespace = 'kommo_projections'::regnamespace AND relkind = 'r'
    LOOP
        EXECUTE format(CASE WHEN item.is_month THEN 'DROP TABLE %s' ELSE 'DELETE FROM %s' END, item.name);
    END LOOP;
END $$
"""


class Tables:
    """The tables of both projections, written as the projector writes them."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.projections: list[Projection] = [ActivityLog(), RecentUpdates()]

    async def write(self, *batches: Sequence[LoggedEvent]) -> None:
        """Write batches, one transaction each for each projection."""
        for events in batches:
            for projection in self.projections:
                await write(self.connection, projection, events)

    async def empty(self) -> None:
        """Make all tables of all projections what they are after the migrations: no rows, no months.

        Whoever else is connected is sent away first: what they began must not come after this.
        """
        await self.connection.execute(_EMPTY)

    async def clear(self) -> None:
        """Take the rows of both away; months stay. (For a few rows DELETE costs a twentieth of TRUNCATE.)"""
        await self.connection.execute(
            "DELETE FROM kommo_projections.activity_log_v2; DELETE FROM kommo_projections.recent_updates_v1"
        )

    async def activity(self) -> list[Row]:
        """Every row of activity_log, all columns."""
        return await self.rows(
            "SELECT * FROM kommo_projections.activity_log_v2 ORDER BY account_id, occurred_at, event_id"
        )

    async def recent(self) -> list[Row]:
        """Every row of recent_updates, all columns."""
        return await self.rows(
            "SELECT * FROM kommo_projections.recent_updates_v1 ORDER BY account_id, entity_type, entity_id"
        )

    async def shown(self) -> list[Row]:
        """What the view activity_log shows, oldest first."""
        return await self.rows("SELECT * FROM kommo.activity_log ORDER BY occurred_at, sort_key, event_id")

    async def rows(self, query: str, *values: Any) -> list[Row]:
        """The rows of a query; JSON as its value."""
        return [
            {
                name: json.loads(value) if name in ("state", "changes") and value else value
                for name, value in row.items()
            }
            for row in await self.connection.fetch(query, *values)
        ]


async def write(connection: Any, projection: Projection, events: Sequence[LoggedEvent]) -> None:
    """Write one batch of a projection as the projector does."""
    folded = [event for event in events if projection.folds(event)]
    if folded:
        await projection.prepare(connection, folded)
        async with connection.transaction():
            await projection.write(connection, folded)


@contextlib.asynccontextmanager
async def open_tables(database: str) -> AsyncIterator[Tables]:
    """Open the tables of a database that has them."""
    connection = await asyncpg.connect(database, server_settings={"timezone": "UTC"})
    try:
        yield Tables(connection)
    finally:
        await connection.close()
