"""Claims on real PostgreSQL: what a backlog costs them, and that what is heard of while one is made is not missed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from agents.commands import executor, table
from agents.commands.admitted import Claimed
from agents.commands.leases import Leases
from agents.commands.outbox import Outbox
from agents.commands.outcomes import Ending, Succeeded
from agents.commands.recorder import Recorder
from tests.integration.agents.commands.support import House

pytestmark = pytest.mark.asyncio(loop_scope="module")
WORKER = False

MANY = 4_000  # with fewer PostgreSQL reads the whole table sooner than it asks an index


async def leased(home: House) -> Leases:
    """Hold every account that has work."""
    leases = Leases()
    async with home.pool.acquire() as connection:
        await leases.acquire(connection)
    return leases


async def claimed(home: House, leases: Leases, room: int = 8, without: tuple[str, ...] = ()) -> list[Claimed]:
    """Claim for the account of the test."""
    async with home.pool.acquire() as connection:
        return await table.claim(connection, leases.holder, {home.account: (room, without)})


_READ = """
SELECT seq_tup_read + idx_tup_fetch AS rows, idx_scan AS scans FROM pg_stat_xact_user_tables
WHERE schemaname = 'kommo_agents' AND relname = 'commands'
"""


async def cost(home: House, leases: Leases, room: int) -> tuple[int, int, int]:
    """Return how many were claimed, the rows of the table that this read, and how often an index was asked."""
    async with home.pool.acquire() as connection:
        await connection.execute("ANALYZE kommo_agents.commands")
        transaction = connection.transaction()
        await transaction.start()
        try:
            before = await connection.fetchrow(_READ)
            before = await connection.fetchrow(_READ)
            found = await table.claim(connection, leases.holder, {home.account: (room, ())})
            after = await connection.fetchrow(_READ)
        finally:
            await transaction.rollback()
    return len(found), after["rows"] - before["rows"], after["scans"] - before["scans"]


async def end(home: House, item: Claimed, ending: Ending) -> None:
    """Write an ending as the worker does."""
    recorder = Recorder(home.pool, "commands", Outbox(home.pool, home.producer))
    running = asyncio.create_task(recorder.run())
    try:
        assert await recorder.record(item, ending)
    finally:
        running.cancel()


async def test_what_waits_for_its_moment_is_not_looked_through(home: House) -> None:
    await home.take_on(*(home.lead(str(number)) for number in range(MANY)))
    await home.pool.execute(
        "UPDATE kommo_agents.commands SET next_attempt_at = now() + interval '1 hour' WHERE account_id = $1",
        home.account,
    )
    await home.take_on(last := home.lead("The last"))
    leases = await leased(home)
    found, rows, _ = await cost(home, leases, room=8)
    assert found == 1
    assert rows < MANY / 10
    assert [item.command.id for item in await claimed(home, leases)] == [last.id]


async def test_entities_with_two_commands_each_are_not_looked_through_while_there_is_no_room(home: House) -> None:
    notes = [home.note(lead_id, text) for text in ("one", "two") for lead_id in range(1, MANY // 2)]
    await home.take_on(*notes)
    found, rows, _ = await cost(home, await leased(home), room=8)
    assert found == 8
    assert rows < MANY / 10


async def test_the_many_commands_of_one_entity_are_not_each_looked_at(home: House) -> None:
    await home.take_on(*(home.note(7, str(number)) for number in range(MANY)))
    leases = await leased(home)
    found, rows, scans = await cost(home, leases, room=8)
    assert found == 1
    assert (rows < MANY / 10, scans < 100) == (True, True)
    (first,) = await claimed(home, leases)
    found, rows, scans = await cost(home, leases, room=8)
    assert (first.command.data()["text"], found) == ("0", 0)
    assert (rows < MANY / 10, scans < 100) == (True, True)


async def test_an_ending_lets_the_next_of_its_entity_go_before_what_came_later(home: House) -> None:
    notes = [home.note(7, str(number)) for number in range(3)]
    await home.take_on(*notes, *(home.lead(str(number)) for number in range(5)))
    leases = await leased(home)
    for expected in notes:
        (found,) = await claimed(home, leases, room=1)
        assert found.command.id == expected.id
        await end(home, found, Succeeded({"note": 1}, None))


async def test_what_was_admitted_while_the_one_before_it_ended_is_not_forgotten(home: House) -> None:
    await home.take_on(note := home.note(7))
    await home.pool.execute("UPDATE kommo_agents.commands SET behind = true WHERE id = $1", note.id)
    leases = await leased(home)
    async with home.pool.acquire() as connection:
        await table.let_go(connection, leases.holder)
    assert [item.command.id for item in await claimed(home, leases)] == [note.id]


async def test_what_is_past_its_age_is_taken_though_it_waits_behind_another(home: House) -> None:
    first, second, third = (home.note(7, str(number)) for number in range(3))
    await home.take_on(first)
    await home.take_on(second, age=0)
    await home.take_on(third)
    leases = await leased(home)
    assert {item.command.id for item in await claimed(home, leases)} == {first.id, second.id}
    assert await claimed(home, leases) == []


async def test_what_is_heard_of_while_a_claim_is_made_is_looked_for_at_once(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = home.lead("first"), home.lead("second")
    claim, awaken, heard = table.claim, executor.Executor.awaken, asyncio.Event()

    def only_when_told(self: executor.Executor, accounts: Iterable[int] | None = None) -> None:
        """Leave out that everything is looked through once a second."""
        if accounts is not None:
            awaken(self, told := list(accounts))
            if home.account in told:
                heard.set()

    async def slow(connection: Any, *arguments: Any) -> list[Claimed]:
        found = await claim(connection, *arguments)
        if [item.command.id for item in found] == [first.id]:
            heard.clear()
            await home.take_on(second)
            async with home.pool.acquire() as other:
                await table.awaken(other, [home.account])
            await asyncio.wait_for(heard.wait(), 10)
        return found

    monkeypatch.setattr(executor.Executor, "awaken", only_when_told)
    monkeypatch.setattr(executor, "_DRAIN_SECONDS", 0.1)
    home.work(kommo_timeout_seconds=30.0)
    await home.ask(before := home.lead("before"))
    await home.until(before, "succeeded")
    monkeypatch.setattr(table, "claim", slow)
    home.trouble(hung_before=1.0, hang_seconds=10)  # no ending of the first lets the account be looked at
    await home.ask(first)
    await home.until(second, "claimed", "succeeded", seconds=8)
    assert (await home.row(first))["state"] == "claimed"
    await home.rest()
