"""What a person says of a command whose outcome is unknown: it was done, do it again, or drop it."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

from agents.commands import table
from agents.commands.admitted import Claimed
from agents.commands.outcomes import Failed
from agents.commands.recorder import event_of, letter_of
from schemas.errors import ErrorClass

Decision = Literal["done", "repeat", "drop"]

_UNKNOWN = """
SELECT command, coalesce(claimed_epoch, 0) AS claimed_epoch, attempts, progress, doubt, admitted_at,
       coalesce(claimed_at, admitted_at) AS claimed_at, expires_at, partition, "offset", error_class, state,
       NULL AS after_state, NULL AS after_result
FROM kommo_agents.commands WHERE id = $1 FOR UPDATE
"""
_DONE = """
UPDATE kommo_agents.commands SET state = 'succeeded', doubt = NULL, result = '{}', finished_at = clock_timestamp()
WHERE id = $1
"""
_DROP = """
UPDATE kommo_agents.commands SET state = 'failed', doubt = NULL, finished_at = clock_timestamp() WHERE id = $1
"""
# It has its whole age again: who decides today for what was asked for yesterday means now.
_REPEAT = """
UPDATE kommo_agents.commands
SET state = 'waiting', doubt = NULL, next_attempt_at = clock_timestamp(),
    expires_at = greatest(expires_at, clock_timestamp() + (expires_at - admitted_at))
WHERE id = $1
"""


class DecisionError(ValueError):
    """There is nothing to decide; the message says why."""


async def decide(connection: Any, topic: str, command_id: str, decision: Decision) -> Claimed:
    """Decide about a command, in one transaction with the event that tells of it, and return the command.

    `topic` is the physical name of kommo.commands. Raises DecisionError where it is not known or not unknown.
    """
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
            await connection.execute(_DONE, command_id)
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
        await table.put_out(connection, records)
        await table.awaken(connection, [claimed.command.account_id])
    return claimed
