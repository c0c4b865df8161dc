"""What Faust has fetched and not handed on is read again: no command is passed over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from agents.commands.admission import Admission
from runtime.settings import Settings
from schemas.command import Command
from streams.faust_app import faust_app
from tests.integration.agents.commands.support import House, own_house
from tests.support.servers import Servers
from tests.support.waiting import eventually

FETCH_SECONDS = 1.0
"""How long Faust waits for records in one fetch."""


class Rebalances:
    """Commands come while a rebalance is under way, to a fetch that began before it: Faust throws them away."""

    def __init__(self, home: House) -> None:
        self.home = home
        self.asked: list[Command] = []
        self.assignments = 0

    async def ask(self, count: int = 20) -> None:
        """Put commands into every partition."""
        commands = [self.home.lead(f"Lead {len(self.asked) + number}") for number in range(count)]
        await self.home.ask(*commands)
        self.asked += commands

    def app(self, settings: Settings, agent: str) -> Any:
        """The app of a worker, whose assignments last until a fetch that was under way has ended."""
        app = faust_app(settings, agent)

        @app.on_partitions_assigned.connect  # type: ignore[untyped-decorator]
        async def lasting(_app: Any, assigned: Any, **_: Any) -> None:
            if self.assignments:
                await self.ask()
                await asyncio.sleep(FETCH_SECONDS + 0.2)
            self.assignments += 1

        return app


async def all_taken_on(home: House, asked: Sequence[Command]) -> None:
    """Wait until every command is in the table."""

    async def taken_on() -> bool:
        return (await home.states(asked)).total() == len(asked)

    await eventually(taken_on, 20, "every command is in the table")


async def test_a_worker_that_joins_before_anything_is_committed_costs_no_command(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_admit, admit = asyncio.Event(), Admission._admit

    async def held(self: Admission, events: Sequence[Any]) -> None:
        await may_admit.wait()
        await admit(self, events)

    monkeypatch.setattr(Admission, "_admit", held)
    async with own_house(servers) as home:
        rebalances = Rebalances(home)
        monkeypatch.setattr("agents.worker.faust_app", rebalances.app)
        home.work()
        await eventually(lambda: rebalances.assignments == 1, 40, "the first worker reads")
        home.work()
        await eventually(lambda: rebalances.assignments >= 3, 40, "both workers read")
        await rebalances.ask()  # past what was thrown away: what is committed now
        may_admit.set()
        await all_taken_on(home, rebalances.asked)


async def test_records_that_vanish_end_the_worker_and_the_next_reads_them(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, vanished = AIOKafkaConsumerThread._fetch_records, []

    async def loses_the_first(self: AIOKafkaConsumerThread, *arguments: Any, **options: Any) -> Any:
        records = await fetch(self, *arguments, **options)
        if not records or vanished:
            return records
        vanished.append(records)
        return {}

    async with own_house(servers) as home:
        asked = Rebalances(home)
        with monkeypatch.context() as patched:
            patched.setattr(AIOKafkaConsumerThread, "_fetch_records", loses_the_first)
            await asked.ask()
            home.work()
            await eventually(lambda: vanished, 40)
            await asked.ask()  # what comes after them
            ((task, _),) = home.workers
            await eventually(task.done, 20, "the worker has ended")
            home.workers.clear()
            with pytest.raises(RuntimeError, match="the Faust app has crashed"):
                await task
        home.work()
        await all_taken_on(home, asked.asked)
