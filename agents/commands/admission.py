"""Admission: commands are read from kommo.commands and taken into the table; only then is a message acknowledged.

Messages are gathered while the transaction before is under way and acknowledged in their order, so what is committed
to Kafka never passes what is not in the table. A crash in between reads some again; their ids are known by then.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka.errors import KafkaError

from agents.commands.outbox import Outbox
from agents.commands.table import Arrived, Outgoing, admit, awaken, of_another, put_out
from agents.retry import Policies
from runtime.failures import log_failure
from runtime.logs import logger
from runtime.metrics import COMMANDS_ADMITTED
from runtime.postgres import AWAY, refused
from schemas.command import Command, CommandError, Told
from schemas.deadletter import DeadLetter
from schemas.errors import ErrorClass
from schemas.outcome import outcome_event
from streams.producer import Producer
from streams.topics import EVENTS

log = logger(__name__)

READER = "commands"
_MOST = 500
_BUFFER = 2000
_TRY_AGAIN_SECONDS = 0.5
_NOT_ITS_OWN = "id: a command of another account has it"


class Admission:
    """Takes the messages of a Faust stream, and acknowledges each once it is durable."""

    def __init__(self, pool: Any, producer: Producer, policies: Policies, outbox: Outbox) -> None:
        self._pool, self._producer, self._policies, self._outbox = pool, producer, policies, outbox
        self._waiting: asyncio.Queue[Any] = asyncio.Queue(_BUFFER)

    async def take(self, event: Any) -> None:
        """Take one Faust event; waits while too many are on their way."""
        await self._waiting.put(event)

    async def run(self) -> None:
        """Admit until cancelled; while a server is away it tries again, and nothing is acknowledged."""
        while True:
            events = [await self._waiting.get()]
            while len(events) < _MOST and not self._waiting.empty():
                events.append(self._waiting.get_nowait())
            await self._admit(events)
            for event in events:
                event.ack()

    async def _admit(self, events: Sequence[Any]) -> None:
        while True:
            try:
                await self._write(events)
                return
            except (KafkaError, *AWAY) as error:
                if refused(error) and len(events) > 1:
                    middle = len(events) // 2
                    await self._admit(events[:middle])
                    await self._admit(events[middle:])
                    return
                if refused(error):
                    await self._set_aside([_letter(events[0], "PostgreSQL refuses it", ErrorClass.VALIDATION)])
                    return
                log_failure(log, "commands wait to be taken on", error, commands=len(events))
            except Exception as error:
                # A fault of ours must neither stop the stream nor lose a command: it is set aside whole.
                log.exception("admission failed")
                if len(events) == 1:
                    reason = f"{type(error).__name__} in admission"
                    await self._set_aside([_letter(events[0], reason, ErrorClass.INTERNAL)])
                    return
                for event in events:
                    await self._admit([event])
                return
            await asyncio.sleep(_TRY_AGAIN_SECONDS)

    async def _set_aside(self, letters: Sequence[DeadLetter]) -> None:
        while True:
            try:
                await self._producer.set_aside(letters)
                return
            except (KafkaError, OSError, TimeoutError) as error:
                log_failure(log, "dead letters wait for Kafka", error, letters=len(letters))
                await asyncio.sleep(_TRY_AGAIN_SECONDS)

    async def _write(self, events: Sequence[Any]) -> None:
        arrived, read, letters, told = [], [], [], []
        for event in events:
            message = event.message
            try:
                command = Command.from_json(message.value)
                _check_key(command, message)
            except CommandError as error:
                letters.append(_letter(event, str(error), ErrorClass.VALIDATION, error.id))
                told += _refusal(error)
            else:
                age = self._policies.age(command.name)
                place = message.topic, message.partition, message.offset
                read.append(event)
                arrived.append(Arrived(command, message.value, *place, age, tuple(message.headers)))
        if letters:
            await self._producer.set_aside(letters)
        async with self._pool.acquire() as connection, connection.transaction():
            new = await admit(connection, arrived)
            if len(new) < len(arrived) and (others := await of_another(connection, arrived)):
                foreign = [
                    event
                    for event, item in zip(read, arrived, strict=True)
                    if (item.command.id, item.command.account_id) in others
                ]
                await self._producer.set_aside(
                    [_letter(event, _NOT_ITS_OWN, ErrorClass.AUTHORIZATION) for event in foreign]
                )
            fresh = _first_of_each(item.command for item in arrived if item.command.id in new)
            await put_out(connection, [*map(_admitted, fresh.values()), *told])
            if fresh:
                await awaken(connection, (command.account_id for command in fresh.values()))
        if fresh or told:
            self._outbox.wake([EVENTS])
        for command in fresh.values():
            COMMANDS_ADMITTED.labels(command.name).inc()
            log.info(
                "command admitted",
                command=command.id,
                action=command.name,
                entity=command.subject,
                correlation_id=command.correlation_id,
            )


def _first_of_each(commands: Iterable[Command]) -> dict[str, Command]:
    found: dict[str, Command] = {}
    for command in commands:
        found.setdefault(command.id, command)
    return found


def _check_key(command: Command, message: Any) -> None:
    if message.key != command.key:
        raise CommandError(
            f"the record's key must be {command.key.decode()}: else the order of the entity's commands is not kept",
            "key",
            told=Told(command.id, command.account_id, command.name),
        )


def _letter(event: Any, reason: str, error_class: ErrorClass, command_id: str = "") -> DeadLetter:
    return DeadLetter.of(
        event.message, reader=READER, reason=reason, error_class=error_class, correlation_id=command_id
    )


def _admitted(command: Command) -> Outgoing:
    told = {
        "id": command.id,
        "action": command.name,
        "entity": command.subject,
        "after": command.after,
        "data": command.data(),
    }
    event = outcome_event(
        "admitted",
        told,
        account_id=command.account_id,
        correlation_id=command.correlation_id,
        attempt=0,
        at_us=_now_us(),
    )
    return Outgoing(EVENTS, event.key, event.value)


def _refusal(error: CommandError) -> list[Outgoing]:
    """Return the event that tells of a refused command, where it says whose and which it is."""
    if not error.id or not error.account_id:
        return []
    told = {
        "id": error.id,
        "action": error.action or "unknown",
        "entity": f"command/{error.id}",
        "error_class": ErrorClass.VALIDATION,
        "error": str(error),
    }
    event = outcome_event(
        "failed", told, account_id=error.account_id, correlation_id=error.id, attempt=0, at_us=_now_us()
    )
    return [Outgoing(EVENTS, event.key, event.value)]


def _now_us() -> int:
    return int(dt.datetime.now(dt.UTC).timestamp() * 1_000_000)
