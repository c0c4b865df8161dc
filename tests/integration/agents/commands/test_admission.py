"""Admission by Faust: a message is acknowledged when its command is in the table, and not a moment sooner."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agents.commands.admission import Admission
from tests.integration.agents.commands.support import own_house
from tests.support.servers import Servers
from tests.support.waiting import eventually


@pytest.mark.parametrize("end", ["stopped in the midst of it", "failed over it"])
async def test_what_is_not_in_the_table_is_read_again(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    entered = asyncio.Event()

    async def never(self: Admission, events: Sequence[Any]) -> None:
        entered.set()
        if end == "failed over it":
            raise SystemError("what nobody foresaw")
        await asyncio.Event().wait()

    async with own_house(servers) as home:
        commands = [home.lead(f"Lead {number}") for number in range(20)]
        with monkeypatch.context() as patched:
            patched.setattr(Admission, "_admit", never)
            home.work()
            await home.ask(*commands)
            await asyncio.wait_for(entered.wait(), 30)
            if end == "failed over it":
                task, _ = home.workers.pop()
                assert await eventually(task.done)
                assert task.exception() is not None
            else:
                await home.rest()  # what is acknowledged is committed now
        assert await home.states(commands) == {}
        home.work()
        for command in commands:
            await home.until(command, "succeeded")
        assert len(home.effects("created")) == len(commands)
