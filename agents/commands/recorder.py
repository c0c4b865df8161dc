"""Writes how attempts ended: row and outgoing event in one transaction, for all that ended meanwhile at once."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence
from typing import Any

from agents.commands.admitted import Claimed
from agents.commands.outbox import Outbox
from agents.commands.outcomes import Ending, Failed, Released, Retried, Succeeded, Unknown
from agents.commands.table import Outgoing, Row, finish, put_out
from runtime.failures import log_failure
from runtime.logs import logger
from runtime.metrics import COMMAND_ATTEMPTS, COMMAND_SECONDS
from runtime.postgres import AWAY, refused
from schemas.deadletter import DeadLetter
from schemas.errors import ErrorClass
from schemas.outcome import Outcome, outcome_event
from streams.topics import DEADLETTERS, EVENTS

log = logger(__name__)

READER = "commands"
_TRY_AGAIN_SECONDS = 0.5
_MOST_ERROR = 1000


_Ended = tuple[Claimed, Ending, dt.datetime, "asyncio.Future[bool]"]

_UNTOLD = Unknown(ErrorClass.INTERNAL, "how it ended could not be written: the log says why")


class Recorder:
    """Collects endings while the transaction before is under way, so the busier it is the larger they are."""

    def __init__(self, pool: Any, topic: str, outbox: Outbox) -> None:
        """`topic` is the physical name of kommo.commands, for dead letters."""
        self._pool, self._topic, self._outbox = pool, topic, outbox
        self._waiting: list[_Ended] = []
        self._some = asyncio.Event()

    async def record(self, claimed: Claimed, ending: Ending) -> bool:
        """Return when an ending is durable; False where the claim was not ours any more, and nothing was written."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((claimed, ending, dt.datetime.now(dt.UTC), done))
        self._some.set()
        return await done

    async def run(self) -> None:
        """Write until cancelled; while PostgreSQL is away it tries again."""
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._waiting = self._waiting, []
            kept = await self._write_all(batch)
            for claimed, ending, at, done in batch:
                is_ours = claimed.command.id in kept
                if is_ours:
                    _observe(claimed, ending, at)
                else:
                    log.warning("an ending came too late: another worker looks", correlation_id=_correlation(claimed))
                if not done.done():
                    done.set_result(is_ours)

    async def _write_all(self, batch: Sequence[_Ended]) -> set[str]:
        """Write all, and return the ids of those that were ours; one that cannot be written becomes unknown.

        Where even that cannot be told, the row alone says so.
        """
        telling = True
        while True:
            try:
                return await self._write(batch, telling)
            except Exception as error:  # noqa: BLE001 whatever it is, the others' endings must be written
                if isinstance(error, AWAY) and not refused(error):
                    log_failure(log, "endings wait for PostgreSQL", error, endings=len(batch))
                    await asyncio.sleep(_TRY_AGAIN_SECONDS)
                    continue
                if len(batch) > 1:
                    middle = len(batch) // 2
                    return await self._write_all(batch[:middle]) | await self._write_all(batch[middle:])
                claimed, ending, at, done = batch[0]
                log_failure(log, "an ending cannot be written", error, correlation_id=_correlation(claimed))
                if not telling:
                    return set()  # it stays claimed, and is looked for
                telling = ending != _UNTOLD
                batch = [(claimed, _UNTOLD, at, done)]

    async def _write(self, batch: Sequence[_Ended], telling: bool) -> set[str]:
        async with self._pool.acquire() as connection, connection.transaction():
            kept = await finish(connection, [_row(claimed, ending, at) for claimed, ending, at, _ in batch])
            records = [
                record
                for claimed, ending, at, _ in batch
                if telling and claimed.command.id in kept
                for record in tell(claimed, ending, at, self._topic)
            ]
            await put_out(connection, records)
        self._outbox.wake({record.topic for record in records})
        return kept


def _correlation(claimed: Claimed) -> str:
    return claimed.command.correlation_id


def _row(claimed: Claimed, ending: Ending, at: dt.datetime) -> Row:
    match ending:
        case Succeeded():
            result = {"entities": ending.entities, "updated_at": ending.updated_at}
            return Row(claimed, "succeeded", doubt="clear", result=result)
        case Retried():
            doubt = "set" if ending.doubt else "clear"
            return Row(
                claimed,
                "waiting",
                _seconds(at, ending.at),
                doubt,
                error_class=ending.error_class,
                error=ending.error[:_MOST_ERROR],
            )
        case Failed():
            return Row(
                claimed, "failed", doubt="clear", error_class=ending.error_class, error=ending.error[:_MOST_ERROR]
            )
        case Unknown():
            return Row(
                claimed, "unknown", doubt="set", error_class=ending.error_class, error=ending.error[:_MOST_ERROR]
            )
        case Released():
            return Row(claimed, "waiting", _seconds(at, ending.at), uncounted=1)


def _seconds(now: dt.datetime, at: dt.datetime) -> float:
    return max(0.0, (at - now).total_seconds())


def tell(claimed: Claimed, ending: Ending, at: dt.datetime, topic: str) -> list[Outgoing]:
    """Return the records that tell of an ending at a moment: its event, and the dead letter of what failed."""
    if isinstance(ending, Released):
        return []
    facts = {
        "attempts": claimed.attempts,
        "duration_ms": _milliseconds(at - claimed.claimed_at),
        "total_ms": _milliseconds(at - claimed.admitted_at),
        **_of(ending),
    }
    name: Outcome = _NAMES[type(ending)]
    records = [event_of(claimed, name, facts, at)]
    if isinstance(ending, Failed):
        records.append(letter_of(claimed, ending, topic))
    return records


_NAMES: dict[type, Outcome] = {Succeeded: "succeeded", Retried: "retried", Failed: "failed", Unknown: "unknown"}


def event_of(claimed: Claimed, outcome: Outcome, facts: dict[str, Any], at: dt.datetime) -> Outgoing:
    """Return the outgoing event of a command that has been claimed."""
    command = claimed.command
    told = {"id": command.id, "action": command.name, "entity": command.subject, **facts}
    event = outcome_event(
        outcome,
        told,
        account_id=command.account_id,
        correlation_id=command.correlation_id,
        attempt=claimed.attempts,
        at_us=int(at.timestamp() * 1_000_000),
    )
    return Outgoing(EVENTS, event.key, event.value)


def _of(ending: Ending) -> dict[str, Any]:
    match ending:
        case Succeeded():
            return {"entities": ending.entities, "updated_at": ending.updated_at, "found": ending.found or None}
        case Retried():
            at = ending.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            return {
                "error_class": ending.error_class,
                "error": ending.error[:_MOST_ERROR],
                "next_attempt_at": at,
                "doubt": ending.doubt or None,
            }
        case Failed() | Unknown():
            return {"error_class": ending.error_class, "error": ending.error[:_MOST_ERROR]}
        case Released():
            return {}


def letter_of(claimed: Claimed, ending: Failed, topic: str) -> Outgoing:
    """Return the dead letter of a command that will not be carried out."""
    command = claimed.command
    letter = DeadLetter(
        reason=ending.error[:_MOST_ERROR],
        error_class=ending.error_class,
        reader=READER,
        topic=claimed.topic or topic,  # those taken on before the table kept it
        partition=claimed.partition,
        offset=claimed.offset,
        key=command.key,
        value=claimed.value,
        original_headers=claimed.headers,
        correlation_id=command.correlation_id,
        attempts=claimed.attempts,
        first_at_us=int(claimed.admitted_at.timestamp() * 1_000_000),
    )
    return Outgoing(DEADLETTERS, command.key, claimed.value, letter.headers())


def _milliseconds(span: dt.timedelta) -> int:
    return max(0, round(span.total_seconds() * 1000))


def _observe(claimed: Claimed, ending: Ending, at: dt.datetime) -> None:
    if isinstance(ending, Released):
        return
    name = _NAMES[type(ending)]
    COMMAND_ATTEMPTS.labels(claimed.command.name, name).inc()
    seconds = max(0.0, (at - claimed.claimed_at).total_seconds())
    COMMAND_SECONDS.labels(claimed.command.name).observe(seconds)
    level = log.info if name == "succeeded" else log.warning
    level(
        f"command {name}",
        command=claimed.command.id,
        action=claimed.command.name,
        entity=claimed.command.subject,
        attempts=claimed.attempts,
        duration_ms=round(seconds * 1000),
        error=getattr(ending, "error", None),
        error_class=getattr(ending, "error_class", None),
        correlation_id=_correlation(claimed),
    )
