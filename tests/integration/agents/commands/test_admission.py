"""Admission by Faust: a message is acknowledged when its command is in the table, and not a moment sooner."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agents.commands.admission import Admission
from tests.integration.agents.commands.support import House
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
WORKER = False


async def test_what_is_not_in_the_table_is_read_again(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [home.lead(f"Lead {number}") for number in range(5)]
    await home.ask(*commands)
    for failing in (False, True):
        entered = asyncio.Event()
        with monkeypatch.context() as patched:
            patched.setattr(Admission, "_admit", _stopped(entered, failing))
            home.work()
            await asyncio.wait_for(entered.wait(), 30)
            if failing:
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


def _stopped(entered: asyncio.Event, failing: bool) -> Any:
    """An admission that is stopped in the midst of it, or fails over it."""

    async def never(_self: Admission, _events: Sequence[Any]) -> None:
        entered.set()
        if failing:
            raise SystemError("what nobody foresaw")
        await asyncio.Event().wait()

    return never
