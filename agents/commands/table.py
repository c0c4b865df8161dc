"""The table of commands: admission, claims, and what is written of them. All SQL over it is here.

Connections are asyncpg's. Moments are the database's, so that workers need no common clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from agents.commands.admitted import Claimed, lane
from runtime.logs import logger
from schemas.command import Command, CommandError
from schemas.errors import ErrorClass
from streams.topics import DEADLETTERS, EVENTS

log = logger(__name__)

# Ordered: the number is the order of admission. `behind` only keeps it out of the way of claims: what it waits for is
# decided then.
_ADMIT = """
INSERT INTO kommo_agents.commands
    (id, account_id, subject, action, command, topic, partition, "offset", headers, after, correlation_id, expires_at,
     behind)
SELECT id, account_id, subject, action, command, topic, partition, "offset", headers, after, correlation_id,
       least(expires_at, clock_timestamp() + make_interval(secs => age)),
       row_number() OVER (PARTITION BY account_id, subject ORDER BY n) > 1
       OR EXISTS (
           SELECT 1 FROM kommo_agents.commands AS e
           WHERE e.account_id = new.account_id AND e.subject = new.subject
             AND e.state IN ('waiting', 'claimed', 'unknown') AND e.after IS DISTINCT FROM new.id
       )
       OR (new.after IS NOT NULL AND NOT EXISTS (
           SELECT 1 FROM kommo_agents.commands AS d
           WHERE d.id = new.after AND d.account_id = new.account_id AND d.state IN ('succeeded', 'failed')
       ))
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::int[], $8::bigint[],
            $9::jsonb[], $10::uuid[], $11::text[], $12::timestamptz[], $13::float8[]) WITH ORDINALITY
    AS new (id, account_id, subject, action, command, topic, partition, "offset", headers, after, correlation_id,
            expires_at, age, n)
ORDER BY n
ON CONFLICT (id) DO NOTHING
RETURNING id::text
"""
_OF_ANOTHER = """
SELECT a.id::text, a.account_id FROM kommo_agents.commands AS c
JOIN unnest($1::uuid[], $2::bigint[]) AS a (id, account_id) ON a.id = c.id AND a.account_id <> c.account_id
"""
_HAVE_LEASES = """
INSERT INTO kommo_agents.leases (account_id) SELECT DISTINCT unnest($1::bigint[]) ON CONFLICT DO NOTHING
"""

_COLUMNS = """
    c.command, c.claimed_epoch, c.attempts, c.progress, c.doubt, c.admitted_at, c.claimed_at, c.expires_at,
    c.topic, c.partition, c."offset", c.headers, c.error_class, c.attempts_before, c.begun_at
"""
# A command waits behind every earlier one of its entity that is not finished, but for an unknown one whose age ran out
# and one that waits for it; and while any is under way, as a person may have an earlier one repeated.
_FIRST_OF_ITS_ENTITY = """
    c.number = (
        SELECT e.number FROM kommo_agents.commands AS e
        WHERE e.account_id = c.account_id AND e.subject = c.subject
          AND e.state IN ('waiting', 'claimed', 'unknown')
          AND (e.state <> 'unknown' OR e.expires_at > now())
          AND e.after IS DISTINCT FROM c.id
        ORDER BY e.number LIMIT 1
    )
    AND NOT EXISTS (
        SELECT 1 FROM kommo_agents.commands AS e
        WHERE e.account_id = c.account_id AND e.subject = c.subject AND e.state = 'claimed'
    )
"""
_HAS_WAITED_FOR_ANOTHER = """
    (c.after IS NULL OR EXISTS (
        SELECT 1 FROM kommo_agents.commands AS d
        WHERE d.id = c.after AND d.account_id = c.account_id
          AND (d.state IN ('succeeded', 'failed') OR (d.state = 'unknown' AND d.expires_at <= now()))
    ))
"""
# What is past its age dies at once, or has a last look when it is its turn.
_MAY_BEGIN = f"""
    c.next_attempt_at <= now() AND NOT mine.without ? c.action AND (
        (c.expires_at <= now() AND c.doubt IS NULL)
        OR ({_FIRST_OF_ITS_ENTITY} AND (c.expires_at <= now() OR {_HAS_WAITED_FOR_ANOTHER}))
    )
"""
# What is due, and of what waits behind another only what is past its age: a long backlog is not looked through.
_CLAIM = f"""
WITH mine AS (
    SELECT a.account_id, a.room, a.without, l.epoch
    FROM jsonb_to_recordset($2::jsonb) AS a (account_id bigint, room integer, without jsonb)
    JOIN kommo_agents.leases AS l
        ON l.account_id = a.account_id AND l.holder = $1 AND l.until > clock_timestamp()
), picked AS MATERIALIZED (
    SELECT found.id, mine.epoch
    FROM mine CROSS JOIN LATERAL (
        (
            SELECT c.id FROM kommo_agents.commands AS c
            WHERE c.account_id = mine.account_id AND c.state = 'waiting' AND c.behind
              AND c.expires_at <= now() AND {_MAY_BEGIN}
            ORDER BY c.expires_at LIMIT mine.room
        ) UNION ALL (
            SELECT c.id FROM kommo_agents.commands AS c
            WHERE c.account_id = mine.account_id AND c.state = 'waiting' AND NOT c.behind AND {_MAY_BEGIN}
            ORDER BY c.next_attempt_at, c.number LIMIT mine.room
        )
        LIMIT mine.room
    ) AS found
)
UPDATE kommo_agents.commands AS c
SET state = 'claimed', behind = false, attempts = c.attempts + 1,
    claimed_at = clock_timestamp(), claimed_epoch = picked.epoch
FROM picked WHERE c.id = picked.id AND c.state = 'waiting'
RETURNING {_COLUMNS},
    (SELECT d.state FROM kommo_agents.commands AS d
        WHERE d.id = c.after AND d.account_id = c.account_id) AS after_state,
    (SELECT d.result FROM kommo_agents.commands AS d
        WHERE d.id = c.after AND d.account_id = c.account_id) AS after_result
"""  # noqa: S608 no value is in it
# What a holder before this one had begun: its effect may be there.
_TAKE_OVER = f"""
UPDATE kommo_agents.commands AS c
SET state = 'waiting', doubt = coalesce(c.doubt, c.claimed_at),
    next_attempt_at = clock_timestamp() + make_interval(secs => $3)
FROM kommo_agents.leases AS l
WHERE c.account_id = ANY($2::bigint[]) AND c.state = 'claimed' AND l.account_id = c.account_id
  AND l.holder = $1 AND c.claimed_epoch < l.epoch
RETURNING {_COLUMNS}, NULL AS after_state, NULL AS after_result
"""  # noqa: S608 no value is in it
# An end lets the next of its entity go, and what waits for it.
_LET_NEXT_GO = """
UPDATE kommo_agents.commands SET behind = false
WHERE state = 'waiting' AND behind AND id IN (
    SELECT (
        SELECT n.id FROM kommo_agents.commands AS n
        WHERE n.account_id = ended.account_id AND n.subject = ended.subject AND n.state = 'waiting' AND n.behind
        ORDER BY n.number LIMIT 1
    )
    FROM ended WHERE ended.state IN ('succeeded', 'failed')
    UNION ALL
    SELECT n.id
    FROM ended JOIN kommo_agents.commands AS n ON n.after = ended.id AND n.account_id = ended.account_id
    WHERE ended.state IN ('succeeded', 'failed')
)
"""
_LET_GO_AFTER_ONE = f"""
WITH ended AS (SELECT id, account_id, subject, state FROM kommo_agents.commands WHERE id = $1)
{_LET_NEXT_GO}
"""  # noqa: S608 no value is in it
# Those whose turn it is all the same: taken on while the one before them ended, or the age of an unknown one ran out.
_LET_GO = f"""
WITH first AS (
    SELECT DISTINCT ON (c.account_id, c.subject) c.id
    FROM kommo_agents.leases AS l JOIN kommo_agents.commands AS c ON c.account_id = l.account_id
    WHERE l.holder = $1 AND c.state = 'waiting' AND c.behind
    ORDER BY c.account_id, c.subject, c.number
)
UPDATE kommo_agents.commands AS c SET behind = false
FROM first WHERE c.id = first.id AND c.state = 'waiting' AND {_FIRST_OF_ITS_ENTITY} AND {_HAS_WAITED_FOR_ANOTHER}
"""  # noqa: S608 no value is in it
# What this holder has claimed and is not carrying out. Where it never began it, as the answer to the claim was lost, it
# is as if it were not claimed; else its effect may be there.
_GIVE_BACK = """
UPDATE kommo_agents.commands AS c
SET state = 'waiting', next_attempt_at = clock_timestamp(),
    attempts = c.attempts - CASE WHEN unheard THEN 1 ELSE 0 END,
    doubt = CASE WHEN unheard THEN c.doubt ELSE coalesce(c.doubt, c.claimed_at) END
FROM (
    SELECT k.id, k.claimed_epoch = l.epoch AND k.id <> ALL($3::uuid[]) AS unheard
    FROM kommo_agents.leases AS l JOIN kommo_agents.commands AS k ON k.account_id = l.account_id
    WHERE l.holder = $1 AND k.state = 'claimed' AND k.id <> ALL($2::uuid[])
) AS left_over
WHERE c.id = left_over.id AND c.state = 'claimed'
"""
_FINISH = f"""
WITH ended AS (
    UPDATE kommo_agents.commands AS c
    SET state = w.state,
        next_attempt_at = coalesce(clock_timestamp() + make_interval(secs => w.next_in), c.next_attempt_at),
        doubt = CASE w.doubt WHEN 'set' THEN coalesce(c.doubt, c.claimed_at) WHEN 'clear' THEN NULL ELSE c.doubt END,
        attempts = c.attempts - w.uncounted, result = w.result, error_class = coalesce(w.error_class, c.error_class),
        error = coalesce(w.error, c.error),
        finished_at = CASE WHEN w.state IN ('succeeded', 'failed') THEN clock_timestamp() END
    FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::float8[], $6::text[], $7::int[],
                $8::jsonb[], $9::text[], $10::text[])
        AS w (id, epoch, claimed_at, state, next_in, doubt, uncounted, result, error_class, error)
    WHERE c.id = w.id AND c.state = 'claimed' AND c.claimed_epoch = w.epoch AND c.claimed_at = w.claimed_at
    RETURNING c.id, c.account_id, c.subject, c.state
), next AS ({_LET_NEXT_GO})
SELECT id::text FROM ended
"""  # noqa: S608 no value is in it
_PROGRESS = """
UPDATE kommo_agents.commands SET progress = progress || $4::jsonb, doubt = NULL
WHERE id = $1 AND state = 'claimed' AND claimed_epoch = $2 AND claimed_at = $3
RETURNING 1
"""
_OUTBOX = """
INSERT INTO kommo_agents.outbox (topic, key, value, headers)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::jsonb[])
"""
_TAKEN = """
SELECT result -> 'entities' ->> $3 FROM kommo_agents.commands
WHERE account_id = $1 AND state = 'succeeded' AND finished_at > $2::timestamptz - interval '10 minutes'
  AND result -> 'entities' ? $3 AND action = ANY($4::text[])
  AND (action <> 'create_lead' OR $3 = 'lead' OR convert_from(command, 'UTF8')::jsonb -> 'data' ? 'contact')
"""
MAKERS = {
    "lead": ["create_lead"],
    "contact": ["create_contact", "create_lead"],
    "task": ["create_task", "create_meeting_note"],
    "note": ["add_note", "create_call_note", "send_email"],
}
"""Which actions make an entity of a kind; the others only touch it."""
_LAST_UPDATE = """
SELECT max((result ->> 'updated_at')::bigint) FROM kommo_agents.commands
WHERE account_id = $1 AND state = 'succeeded' AND finished_at > $2::timestamptz - interval '10 minutes'
  AND result -> 'entities' ->> $3 = $4
"""
EVERY_ACCOUNT = "*"
CHANNEL = "kommo_commands"
OUTBOX_TOPICS = (EVENTS, DEADLETTERS)
_MOST_NOTICE = 7000  # bytes; PostgreSQL takes 8000
_CLOSED_CIRCUITS = """
DELETE FROM kommo_agents.circuits
WHERE holder = $1 AND (account_id, kind) NOT IN (SELECT * FROM unnest($2::bigint[], $3::text[]))
"""
_OPEN_CIRCUITS = """
INSERT INTO kommo_agents.circuits AS c (account_id, kind, until, holder)
SELECT account_id, kind, clock_timestamp() + make_interval(secs => wait), $1
FROM unnest($2::bigint[], $3::text[], $4::float8[]) AS new (account_id, kind, wait)
ON CONFLICT (account_id, kind) DO UPDATE SET until = excluded.until, holder = excluded.holder
"""
_RETRY_NOW = """
UPDATE kommo_agents.commands SET next_attempt_at = clock_timestamp()
WHERE account_id = $1 AND state = 'waiting' AND error_class = $2
"""
_AWAKEN = f"SELECT pg_notify('{CHANNEL}', $1)"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A command read from kommo.commands, and where and how it lay (topic: physical name).

    `age` is the longest it may take, in seconds.
    """

    command: Command
    value: bytes
    topic: str
    partition: int
    offset: int
    age: float
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """What a claimed command's row becomes: taken up again in `next_in` seconds of the database's clock.

    `doubt`: set, clear or keep. `uncounted` takes an attempt back.
    """

    claimed: Claimed
    state: str
    next_in: float | None = None
    doubt: str = "keep"
    uncounted: int = 0
    result: dict[str, Any] | None = None
    error_class: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record for Kafka; `topic`, a logical name, is one of OUTBOX_TOPICS."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

    def __post_init__(self) -> None:
        if self.topic not in OUTBOX_TOPICS:
            raise ValueError(f"nobody publishes the outbox's records for {self.topic}")


async def admit(connection: Any, arrived: Sequence[Arrived]) -> set[str]:
    """Take commands on in their order, and return the ids of those that were not known; in a transaction."""
    if not arrived:
        return set()
    await connection.execute(_HAVE_LEASES, sorted({item.command.account_id for item in arrived}))
    rows = await connection.fetch(
        _ADMIT,
        [item.command.id for item in arrived],
        [item.command.account_id for item in arrived],
        [lane(item.command) for item in arrived],
        [item.command.name for item in arrived],
        [item.value for item in arrived],
        [item.topic for item in arrived],
        [item.partition for item in arrived],
        [item.offset for item in arrived],
        [_json(item.headers) for item in arrived],
        [item.command.after for item in arrived],
        [item.command.correlation_id for item in arrived],
        [item.command.expires for item in arrived],
        [item.age for item in arrived],
    )
    return {row[0] for row in rows}


async def of_another(connection: Any, arrived: Sequence[Arrived]) -> set[tuple[str, int]]:
    """Return id and account of those whose id is known as that of another account's command."""
    rows = await connection.fetch(
        _OF_ANOTHER, [item.command.id for item in arrived], [item.command.account_id for item in arrived]
    )
    return {(row[0], row[1]) for row in rows}


async def claim(connection: Any, holder: str, rooms: Mapping[int, tuple[int, Sequence[str]]]) -> list[Claimed]:
    """Claim what is due of the accounts that `holder` has leases of.

    `rooms`: for each account, how many, and the actions that are not to be begun now.
    """
    asked = [
        {"account_id": account, "room": room, "without": list(without)} for account, (room, without) in rooms.items()
    ]
    return _read(await connection.fetch(_CLAIM, holder, orjson.dumps(asked).decode()))


async def take_over(connection: Any, holder: str, accounts: Sequence[int], settle: float) -> list[Claimed]:
    """Give back what earlier holders of these accounts had begun, in doubt, `settle` seconds from now."""
    return _read(await connection.fetch(_TAKE_OVER, holder, list(accounts), settle))


def _read(rows: Iterable[Any]) -> list[Claimed]:
    found = []
    for row in rows:
        try:
            found.append(Claimed.of(row))
        except CommandError:
            # Taken on by a newer program. It stays claimed, and is looked at again under the next lease.
            log.exception("a command of the table cannot be read by this program")
    return found


async def give_back(connection: Any, holder: str, under_way: Sequence[str], begun: Sequence[str]) -> None:
    """Let what `holder` has claimed, and is not carrying out, wait again. Nothing may be claimed meanwhile.

    `begun` are those whose carrying out was begun, and whose end is not known to be written: they are in doubt.
    """
    await connection.execute(_GIVE_BACK, holder, list(under_way), list(begun))


async def let_next_go(connection: Any, command_id: str) -> None:
    """Let go what waited for a command that has ended; in the transaction of its end."""
    await connection.execute(_LET_GO_AFTER_ONE, command_id)


async def let_go(connection: Any, holder: str) -> None:
    """Let go what has nothing before it any more, of the accounts that `holder` has leases of."""
    await connection.execute(_LET_GO, holder)


async def finish(connection: Any, rows: Sequence[Row]) -> set[str]:
    """Write what became of claimed commands, and return the ids of those that still were claimed so."""
    found = await connection.fetch(
        _FINISH,
        [row.claimed.command.id for row in rows],
        [row.claimed.epoch for row in rows],
        [row.claimed.claimed_at for row in rows],  # names the claim: attempts may be taken back
        [row.state for row in rows],
        [row.next_in for row in rows],
        [row.doubt for row in rows],
        [row.uncounted for row in rows],
        [None if row.result is None else orjson.dumps(row.result).decode() for row in rows],
        [row.error_class for row in rows],
        [row.error for row in rows],
    )
    return {row[0] for row in found}


async def save_progress(connection: Any, claimed: Claimed, progress: dict[str, Any]) -> bool:
    """Keep that a step is done; False where the claim is not ours any more."""
    found = await connection.fetchval(
        _PROGRESS, claimed.command.id, claimed.epoch, claimed.claimed_at, orjson.dumps(progress).decode()
    )
    return found is not None


async def put_out(connection: Any, records: Sequence[Outgoing]) -> None:
    """Put records into the outbox, in the transaction of what they tell of."""
    if records:
        await connection.execute(
            _OUTBOX,
            [record.topic for record in records],
            [record.key for record in records],
            [record.value for record in records],
            [_json(record.headers) for record in records],
        )


def _json(headers: Sequence[tuple[str, bytes]]) -> str:
    """Return headers as the table keeps them: as texts, in which PostgreSQL takes no NUL."""
    told = [[name, (value or b"").decode("utf-8", "replace")] for name, value in headers]
    return orjson.dumps(told).decode().replace("\\u0000", "\ufffd")


async def taken(connection: Any, account_id: int, entity_type: str, since: Any) -> set[int]:
    """Return the ids of entities that other commands of the account have made since shortly before then."""
    rows = await connection.fetch(_TAKEN, account_id, since, entity_type, MAKERS[entity_type])
    return {int(row[0]) for row in rows}


async def last_update(connection: Any, account_id: int, since: Any, entity_type: str, entity_id: int) -> int:
    """Return Kommo's time (unix seconds) of the last change by another command, since shortly before then; 0: none."""
    found = await connection.fetchval(_LAST_UPDATE, account_id, since, entity_type, str(entity_id))
    return found or 0


async def awaken(connection: Any, accounts: Iterable[int]) -> None:
    """Tell every worker, when the transaction ends, that these accounts have something new."""
    names = ",".join(str(account) for account in sorted(set(accounts)))
    await connection.execute(_AWAKEN, names if len(names) < _MOST_NOTICE else EVERY_ACCOUNT)


async def retry_now(connection: Any, account_id: int) -> None:
    """Let an account's commands that waited for its connection go on, now that a person has connected it."""
    await connection.execute(_RETRY_NOW, account_id, ErrorClass.AUTHENTICATION)
    await awaken(connection, [account_id])


async def show_circuits(connection: Any, holder: str, shut: Mapping[tuple[int, str], float]) -> None:
    """Keep which circuits this worker has open, and for how many seconds yet; the others of its are closed."""
    accounts, kinds = [account for account, _ in shut], [kind for _, kind in shut]
    async with connection.transaction():
        await connection.execute(_CLOSED_CIRCUITS, holder, accounts, kinds)
        await connection.execute(_OPEN_CIRCUITS, holder, accounts, kinds, list(shut.values()))
