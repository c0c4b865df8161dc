"""The way of commands to Kafka. Its producer connects with the first command: reading needs no Kafka."""

from __future__ import annotations

import asyncio

from aiokafka.errors import KafkaError

from runtime.problem import Problem
from runtime.process import StartError
from runtime.settings import Settings
from schemas.command import Command
from schemas.errors import ErrorClass
from streams.producer import Producer, Record
from streams.topics import COMMANDS

SEND_SECONDS = 10.0


class Outbound:
    """Puts commands on kommo.commands; close() it at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Producer | None = None

    async def put(self, command: Command) -> None:
        """Return once Kafka has the command, on every in-sync replica. Raises Problem 503 where it does not say so."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                if self._producer is None:
                    self._producer = Producer(self._settings, "dashboard")
                acknowledged = await self._producer.send(COMMANDS, Record(command.key, command.to_json()))
                await asyncio.shield(acknowledged)  # a write under way is not ours to end
        except (KafkaError, OSError, TimeoutError, StartError) as error:
            raise Problem(
                503,
                "Kafka did not acknowledge the command, and may have it all the same: send it again with the same "
                "Idempotency-Key, which makes it the same command",
                error_class=ErrorClass.EXTERNAL_SERVICE,
                headers={"Retry-After": "2"},
                id=command.id,
            ) from error

    async def close(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.__aexit__()
