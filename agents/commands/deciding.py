"""What a person says of a command whose outcome is unknown: it was done, do it again, or drop it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Literal

import orjson

from agents.commands import table
from agents.commands.admitted import Claimed
from agents.commands.outcomes import Failed
from agents.commands.recorder import event_of, letter_of
from schemas.errors import ErrorClass

Decision = Literal["done", "repeat", "drop"]

_UNKNOWN = """
SELECT command, coalesce(claimed_epoch, 0) AS claimed_epoch, attempts, progress, doubt, admitted_at,
       coalesce(claimed_at, admitted_at) AS claimed_at, expires_at, topic, partition, "offset",
       headers, error_class, attempts_before, begun_at, state,
       NULL AS after_state, NULL AS after_result
FROM kommo_agents.commands WHERE id = $1 FOR UPDATE
"""
_DONE = """
UPDATE kommo_agents.commands SET state = 'succeeded', doubt = NULL, result = $2, finished_at = clock_timestamp()
WHERE id = $1
"""
_DROP = """
UPDATE kommo_agents.commands SET state = 'failed', doubt = NULL, finished_at = clock_timestamp() WHERE id = $1
"""
# It has its whole age and all its attempts again: who decides today for what was asked for yesterday means now.
_REPEAT = """
UPDATE kommo_agents.commands
SET state = 'waiting', doubt = NULL, next_attempt_at = clock_timestamp(), attempts_before = attempts,
    begun_at = clock_timestamp(), expires_at = clock_timestamp() + (expires_at - coalesce(begun_at, admitted_at))
WHERE id = $1
"""


_WAITING = "SELECT count(*) FROM kommo_agents.commands WHERE after = $1 AND state IN ('waiting', 'claimed', 'unknown')"


class DecisionError(ValueError):
    """There is nothing to decide; the message says why."""


async def decide(
    connection: Any, topic: str, command_id: str, decision: Decision, made: Mapping[str, int] | None = None
) -> Claimed:
    """Decide about a command, in one transaction with the event that tells of it, and return the command.

    `topic` is the physical name of kommo.commands. `made`: the ids, by type, of what it made, where it is done; empty
    for nothing, None where it was not said. Raises DecisionError where it is not known, not unknown, makes no such
    thing, or where something waits for it that may need what was not said.
    """
    if made and decision != "done":
        raise DecisionError("only of what is done can be said what it made")
    now = dt.datetime.now(dt.UTC)
    async with connection.transaction():
        row = await connection.fetchrow(_UNKNOWN, command_id)
        if row is None:
            raise DecisionError(f"there is no command {command_id}")
        if row["state"] != "unknown":
            raise DecisionError(f"command {command_id} is {row['state']}: only what is unknown can be decided")
        claimed = Claimed.of(row)
        facts: dict[str, Any] = {"attempts": claimed.attempts, "decision": decision}
        if decision == "done":
            if made is None and _kinds(claimed) and (waiting := await connection.fetchval(_WAITING, command_id)):
                raise DecisionError(
                    f"{waiting} wait for what it made: say it, such as --made {_kinds(claimed)[0]}=123, or --made none"
                )
            facts["entities"] = _entities(claimed, made or {})
            await connection.execute(_DONE, command_id, orjson.dumps({"entities": facts["entities"]}).decode())
            records = [event_of(claimed, "succeeded", facts, now)]
        elif decision == "repeat":
            await connection.execute(_REPEAT, command_id)
            facts |= {"error": "a person decided that it is done again", "next_attempt_at": now.isoformat()}
            records = [event_of(claimed, "retried", facts, now)]
        else:
            await connection.execute(_DROP, command_id)
            error_class = ErrorClass(claimed.last_error_class or ErrorClass.EXTERNAL_SERVICE)
            ending = Failed(error_class, "a person decided that it is dropped")
            facts |= {"error_class": error_class, "error": ending.error}
            records = [event_of(claimed, "failed", facts, now), letter_of(claimed, ending, topic)]
        await table.let_next_go(connection, command_id)
        await table.put_out(connection, records)
        await table.awaken(connection, [claimed.command.account_id])
    return claimed


def _kinds(claimed: Claimed) -> list[str]:
    return [kind for kind, actions in table.MAKERS.items() if claimed.command.name in actions]


def _entities(claimed: Claimed, made: Mapping[str, int]) -> dict[str, int]:
    """Return the ids of what a command made or changed, by type."""
    command, kinds = claimed.command, _kinds(claimed)
    for kind in made:
        if kind not in kinds:
            what = f"only {' and '.join(kinds)}" if kinds else "nothing new"
            raise DecisionError(f"{command.name} makes {what}, no {kind}")
    kind, entity_id = command.action.element()
    touched = {} if entity_id is None or entity_id == "after" else {str(kind): int(entity_id)}
    return touched | dict(made)
