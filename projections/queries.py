"""The read queries over the views of schema `kommo`: newest first, paged by keyset, restricted to accounts in SQL.

SQL texts are made of fixed fragments; every value is a parameter. A page is a list of rows as dictionaries, ready for
JSON: `changes` is JSON text, ids are UUIDs, times are aware datetimes in UTC.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Row = dict[str, Any]
"""A row of a view by its columns."""

Key = tuple[Any, ...]
"""The place of a row in its view's order: the values of the order's columns."""

Accounts = tuple[int, ...] | None
"""The accounts a reader may see; None is all of them, and () none."""


class Connection(Protocol):
    """What a query needs of PostgreSQL: an asyncpg connection, or anything that passes it on."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Return the rows of a query."""
        ...


Condition = Callable[[Any, Callable[[Any, str], str]], str]
"""Makes SQL of a filter's value; a value that is an argument is given to the function, with its type, for its place."""


@dataclass(frozen=True, slots=True)
class View:
    """A view that can be paged: `order` names the columns of a total order, all descending, occurred_at first.

    `projection` and `version` say which tables the view reads now; cache keys and positions contain them. `time` is
    the column that since and until are about, `filters` what else this view can be filtered by.
    """

    name: str
    projection: str
    version: int
    columns: tuple[str, ...]
    order: tuple[tuple[str, str], ...]  # column and PostgreSQL type
    time: str = "occurred_at"
    filters: Mapping[str, Condition] = field(default_factory=dict, compare=False)

    def key_of(self, row: dict[str, Any]) -> Key:
        """Return the place of a row."""
        return tuple(row[column] for column, _ in self.order)


ACTIVITY = View(
    name="kommo.activity_log",
    projection="activity_log",
    version=2,
    columns=(
        "account_id",
        "occurred_at",
        "event_id",
        "entity_type",
        "entity_id",
        "event_type",
        "actor_id",
        "summary",
        "changes",
        "outcome",
        "duration_ms",
        "correlation_id",
        "log_partition",
        "log_offset",
        "sort_key",
        "caused_by",
    ),
    order=(("occurred_at", "timestamptz"), ("sort_key", "text"), ("event_id", "uuid")),
)

RECENT_UPDATES = View(
    name="kommo.recent_updates",
    projection="recent_updates",
    version=1,
    columns=(
        "account_id",
        "entity_type",
        "entity_id",
        "title",
        "event_type",
        "summary",
        "responsible_user_id",
        "occurred_at",
        "url",
        "deleted",
        "event_id",
    ),
    order=(("occurred_at", "timestamptz"), ("account_id", "bigint"), ("entity_type", "text"), ("entity_id", "text")),
)


# Fixed texts for what is one of two: a plan that is kept for any value would not use the indexes for these.
TASKS = View(
    name="kommo.tasks",
    projection="tasks",
    version=1,
    columns=(
        "account_id",
        "task_id",
        "state",
        "text",
        "task_type",
        "entity_type",
        "entity_id",
        "responsible_user_id",
        "deadline",
        "overdue",
        "result",
        "created_at",
        "completed_at",
        "reopened_at",
        "occurred_at",
        "url",
        "event_id",
    ),
    order=(("occurred_at", "timestamptz"), ("account_id", "bigint"), ("task_id", "text")),
    time="deadline",
    filters={
        "state": lambda value, add: f"state = {add(value, 'text')}",
        "responsible": lambda value, add: f"responsible_user_id = {add(value, 'bigint')}",
        "overdue": lambda value, _: "overdue" if value else "NOT overdue",
    },
)

CALLS = View(
    name="kommo.calls",
    projection="calls",
    version=1,
    columns=(
        "account_id",
        "call_id",
        "entity_type",
        "entity_id",
        "direction",
        "phone",
        "duration_seconds",
        "outcome",
        "result",
        "source",
        "recording_url",
        "responsible_user_id",
        "occurred_at",
        "event_id",
        "url",
    ),
    order=(("occurred_at", "timestamptz"), ("account_id", "bigint"), ("call_id", "text")),
    filters={
        "direction": lambda value, _: {"in": "direction = 'in'", "out": "direction = 'out'"}[value],
        "recording": lambda value, _: f"recording_url IS {'NOT ' if value else ''}NULL",
    },
)

COMMANDS = View(
    name="kommo.commands",
    projection="commands",
    version=1,
    columns=(
        "account_id",
        "command_id",
        "action",
        "entity_type",
        "entity_id",
        "state",
        "attempts",
        "error_class",
        "error",
        "next_attempt_at",
        "admitted_at",
        "ended_at",
        "duration_ms",
        "total_ms",
        "entities",
        "decision",
        "after",
        "data",
        "correlation_id",
        "occurred_at",
        "event_id",
    ),
    order=(("occurred_at", "timestamptz"), ("account_id", "bigint"), ("command_id", "text")),
    filters={
        "state": lambda value, add: f"state = {add(value, 'text')}",
        "action": lambda value, add: f"action = {add(value, 'text')}",
    },
)

# Its order has no account: of many letters none may be known.
DEAD_LETTERS = View(
    name="kommo.dead_letters",
    projection="dead_letters",
    version=1,
    columns=(
        "letter_id",
        "account_id",
        "occurred_at",
        "first_at",
        "error_class",
        "reason",
        "reader",
        "attempts",
        "topic",
        "original_partition",
        "original_offset",
        "item",
        "correlation_id",
        "log_partition",
        "log_offset",
    ),
    order=(("occurred_at", "timestamptz"), ("letter_id", "text")),
    filters={
        "class": lambda value, add: f"error_class = {add(value, 'text')}",
        "reader": lambda value, add: f"reader = {add(value, 'text')}",
    },
)
ORIGINAL = ("key", "value", "headers")
"""The columns of a dead letter that hold the original record: up to 10 MiB, so no list has them."""

EFFECTS = "kommo_projections.command_effects_v1"
STORY_LINES = 100

VIEWS = (ACTIVITY, RECENT_UPDATES, TASKS, CALLS, COMMANDS)
"""Every view that is made of kommo.events: an event can be waited for in it. DEAD_LETTERS is of another topic."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows: of these accounts, this entity, these event types, in [since, until) of the view's time.

    `more` has the view's own filters, each with its value.
    """

    accounts: Accounts
    entity_type: str | None = None
    entity_id: str | None = None
    event_types: tuple[str, ...] = ()
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    more: tuple[tuple[str, Any], ...] = ()


class _Arguments:
    """The values of a query; a value's place in the SQL text is what add() returns."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def add(self, value: Any, sql_type: str) -> str:
        self.values.append(value)
        return f"${len(self.values)}::{sql_type}"


def page_query(view: View, wanted: Filter, after: Key | None, limit: int) -> tuple[str, list[Any]]:
    """Return SQL and arguments for at most `limit` rows of a view that come after the place `after`."""
    arguments = _Arguments()
    conditions = _conditions(view, wanted, after, arguments)
    order = ", ".join(f"{column} DESC" for column, _ in view.order)
    end = f"ORDER BY {order} LIMIT {arguments.add(limit, 'bigint')}"
    columns = ", ".join(view.columns)
    if wanted.accounts is not None and len(wanted.accounts) != 1:
        # Each account by its own index: one scan over all would read every other tenant's rows to find these.
        scope = arguments.add(list(wanted.accounts), "bigint[]")
        inner = _select(view, columns, ["account_id = scope.account", *conditions], end)
        return (
            f"SELECT {columns} FROM (SELECT page.* FROM unnest({scope}) AS scope(account) "  # noqa: S608 - fragments
            f"CROSS JOIN LATERAL ({inner}) AS page) AS pages {end}",
            arguments.values,
        )
    if wanted.accounts is not None:
        conditions.insert(0, f"account_id = {arguments.add(wanted.accounts[0], 'bigint')}")
    return _select(view, columns, conditions, end), arguments.values


def _conditions(view: View, wanted: Filter, after: Key | None, arguments: _Arguments) -> list[str]:
    conditions: list[str] = []
    if wanted.entity_type is not None:
        conditions.append(f"entity_type = {arguments.add(wanted.entity_type, 'text')}")
    if wanted.entity_id is not None:
        conditions.append(f"entity_id = {arguments.add(wanted.entity_id, 'text')}")
    if wanted.event_types:
        conditions.append(f"event_type = ANY({arguments.add(list(wanted.event_types), 'text[]')})")
    if wanted.since is not None:
        conditions.append(f"{view.time} >= {arguments.add(wanted.since, 'timestamptz')}")
    if wanted.until is not None:
        conditions.append(f"{view.time} < {arguments.add(wanted.until, 'timestamptz')}")
    conditions += [view.filters[name](value, arguments.add) for name, value in wanted.more]
    if after is not None:
        places = [arguments.add(value, sql_type) for value, (_, sql_type) in zip(after, view.order, strict=True)]
        names = ", ".join(column for column, _ in view.order)
        # The first says nothing new; it lets the planner leave out months and start in the index.
        conditions += [f"occurred_at <= {places[0]}", f"({names}) < ({', '.join(places)})"]
    return conditions


def _select(view: View, columns: str, conditions: Sequence[str], end: str) -> str:
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    return f"SELECT {columns} FROM {view.name} {where}{end}"  # noqa: S608 - fixed fragments


async def page(
    connection: Connection, view: View, wanted: Filter, after: Key | None, limit: int
) -> tuple[list[dict[str, Any]], Key | None]:
    """Return at most `limit` rows after a place, and the place from which to go on (None where nothing follows)."""
    query, arguments = page_query(view, wanted, after, limit + 1)
    rows = [dict(row) for row in await connection.fetch(query, *arguments)]
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], view.key_of(rows[limit - 1])


# The table, not the view: the view shows repeated deletes as one, and each of them can be waited for.
_VISIBLE = f"""
SELECT a.event_id, a.account_id, ARRAY(
    SELECT p.projection
    FROM unnest($2::text[], $3::int[]) AS shown (projection, version)
    JOIN kommo_projections.positions AS p USING (projection, version)
    WHERE p.partition = a.log_partition AND p.position > a.log_offset
) AS folded
FROM kommo_projections.{ACTIVITY.projection}_v{ACTIVITY.version} AS a
WHERE a.event_id = ANY($1::uuid[])
"""  # noqa: S608 - constants of this module


async def visible(connection: Connection, events: Sequence[uuid.UUID]) -> list[tuple[uuid.UUID, int, frozenset[str]]]:
    """Return (event, account, projections that have read it) for each of these events that is in the activity log.

    Of the activity log's own projection that says nothing: it may have moved on since.
    """
    others = [view for view in VIEWS if view is not ACTIVITY]
    names, versions = [view.projection for view in others], [view.version for view in others]
    rows = await connection.fetch(_VISIBLE, list(events), names, versions)
    return [(row["event_id"], row["account_id"], frozenset(row["folded"])) for row in rows]


_COMMAND = f"""
SELECT {", ".join(COMMANDS.columns)} FROM {COMMANDS.name}
WHERE command_id = $1 AND ($2::bigint[] IS NULL OR account_id = ANY($2))
ORDER BY occurred_at DESC, account_id LIMIT 1
"""  # noqa: S608 - constants of this module


async def command(connection: Connection, command_id: str, accounts: Accounts) -> Row | None:
    """Return the row of a command of these accounts, None where there is none (yet)."""
    rows = await connection.fetch(_COMMAND, command_id, None if accounts is None else list(accounts))
    return dict(rows[0]) if rows else None


# Whatever shares the correlation id may be thousands of commands: a command's own lines are never lost among them.
_LINES = f"SELECT {', '.join(ACTIVITY.columns)} FROM {ACTIVITY.name} AS a WHERE a.account_id = $1"  # noqa: S608
_STORY = f"""
SELECT DISTINCT ON (occurred_at, sort_key, event_id) * FROM (
    ({_LINES} AND entity_type = 'command' AND entity_id = $2 ORDER BY occurred_at DESC, sort_key DESC LIMIT $4)
    UNION ALL
    ({_LINES} AND correlation_id = $3 ORDER BY occurred_at DESC, sort_key DESC LIMIT $4)
    UNION ALL
    (SELECT line.*
     FROM {EFFECTS} AS e
     CROSS JOIN LATERAL (
        {_LINES} AND a.entity_type = e.entity_type AND a.entity_id = e.entity_id AND a.caused_by = e.command_id
            AND CASE WHEN e.at = timestamptz '1970-01-01 00:00:00Z' THEN a.event_type = e.events
                     ELSE a.occurred_at >= e.at AND a.occurred_at < e.at + interval '1 second' END
        LIMIT $4
     ) AS line
     WHERE e.account_id = $1 AND e.command_id = $2)
) AS lines
ORDER BY occurred_at, sort_key, event_id
"""  # noqa: S608 - constants of this module


async def story(connection: Connection, account: int, command_id: str, correlation_id: str) -> list[Row]:
    """Return the lines of the activity log that tell of a command, oldest first.

    Its own, those with its correlation id (the newest STORY_LINES), and those of the webhooks that it caused.
    """
    rows = await connection.fetch(_STORY, account, command_id, correlation_id, STORY_LINES)
    return [dict(row) for row in rows]


_LETTER = f"""
SELECT {", ".join((*DEAD_LETTERS.columns, *ORIGINAL))} FROM {DEAD_LETTERS.name}
WHERE letter_id = $1 AND ($2::bigint[] IS NULL OR account_id = ANY($2))
"""  # noqa: S608 - constants of this module


async def letter(connection: Connection, letter_id: str, accounts: Accounts) -> Row | None:
    """Return a dead letter of these accounts with the original record, None where there is none.

    One that names no account is only for those who may see all.
    """
    rows = await connection.fetch(_LETTER, letter_id, None if accounts is None else list(accounts))
    return dict(rows[0]) if rows else None


_PROGRESS = """
SELECT projection, version, sum(position)::bigint AS position, max(updated_at) AS updated_at
FROM kommo_projections.positions
GROUP BY projection, version
"""


async def progress(connection: Connection) -> dict[tuple[str, int], tuple[int, dt.datetime]]:
    """Return a value for each (projection, version) that changes whenever it has committed a batch."""
    rows = await connection.fetch(_PROGRESS)
    return {(row["projection"], row["version"]): (row["position"], row["updated_at"]) for row in rows}


# Distinct accounts by jumping along the primary key: as many index look-ups as there are accounts.
_ACCOUNTS = """
WITH RECURSIVE seen(account_id) AS (
    (SELECT account_id FROM kommo.recent_updates ORDER BY account_id LIMIT 1)
    UNION ALL
    SELECT (SELECT r.account_id FROM kommo.recent_updates AS r
            WHERE r.account_id > seen.account_id ORDER BY r.account_id LIMIT 1)
    FROM seen WHERE seen.account_id IS NOT NULL
)
SELECT account_id FROM seen WHERE account_id IS NOT NULL LIMIT $1
"""


async def accounts_seen(connection: Connection, most: int) -> list[int]:
    """Return at most so many accounts of which anything is known, smallest first."""
    return [row["account_id"] for row in await connection.fetch(_ACCOUNTS, most)]
