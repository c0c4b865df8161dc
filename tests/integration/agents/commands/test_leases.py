"""Leases on real PostgreSQL: who holds one, and for how long he believes in it."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from agents.commands import leases, table
from agents.commands.leases import LeaseLost, Leases
from agents.commands.outbox import Outbox
from agents.commands.outcomes import Succeeded
from agents.commands.recorder import Recorder
from tests.integration.agents.commands.support import House
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
WORKER = False


@pytest_asyncio.fixture(loop_scope="module")
async def home(shared: House) -> House:
    """The shared house with a new account; no other has work, and no worker is known."""
    await shared.clear()
    return await shared.with_account()


def believes(worker: Leases, account: int, epoch: int) -> bool:
    """Whether a worker would still send for an account."""
    try:
        worker.check(account, epoch)
    except LeaseLost:
        return False
    return True


async def taken(home: House, worker: Leases) -> int | None:
    """Let a worker take what is free, and return the epoch of the test's account, None where it was not free."""
    async with home.pool.acquire() as connection:
        found = await worker.acquire(connection)
        if home.account not in found:
            return None
        epoch: int = await connection.fetchval(
            "SELECT epoch FROM kommo_agents.leases WHERE account_id = $1", home.account
        )
    return epoch


async def test_its_holder_stops_before_another_may_begin(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 < leases.MARGIN_SECONDS < leases.LEASE_SECONDS - leases.RENEW_SECONDS
    monkeypatch.setattr(leases, "MARGIN_SECONDS", leases.LEASE_SECONDS - 0.3)
    await home.take_on(home.lead())
    holder, other = Leases(), Leases()
    epoch = await taken(home, holder)
    assert epoch is not None
    assert believes(holder, home.account, epoch)

    async def stopped() -> bool:
        return not believes(holder, home.account, epoch)

    await eventually(stopped, 5, "it believes for 0.3 s")
    assert await taken(home, other) is None, "to others it is taken for 15 s"


async def test_one_that_was_given_back_and_taken_again_is_another_lease(home: House) -> None:
    await home.take_on(home.lead())
    worker = Leases()
    before = await taken(home, worker)
    async with home.pool.acquire() as connection:
        await worker.release(connection, [home.account])
    after = await taken(home, worker)
    assert before is not None
    assert after is not None
    assert believes(worker, home.account, after)
    assert not believes(worker, home.account, before), "somebody else may have worked between"


async def test_one_that_ran_out_and_that_another_took_is_lost_and_not_renewed(home: House) -> None:
    await home.take_on(home.lead())
    frozen, other = Leases(), Leases()
    old = await taken(home, frozen)
    await home.pool.execute("UPDATE kommo_agents.leases SET until = now() - interval '1 s'")  # it was frozen for long
    new = await taken(home, other)
    assert old is not None
    assert new is not None
    until = await home.pool.fetchval("SELECT until FROM kommo_agents.leases WHERE account_id = $1", home.account)
    async with home.pool.acquire() as connection:
        assert await frozen.renew(connection) == [home.account]
    assert not believes(frozen, home.account, old)
    assert believes(other, home.account, new)
    row = await home.pool.fetchrow("SELECT * FROM kommo_agents.leases WHERE account_id = $1", home.account)
    assert (row["until"], str(row["holder"])) == (until, other.holder)


async def test_an_ending_that_comes_after_another_took_over_is_neither_written_nor_told(home: House) -> None:
    await home.take_on(command := home.lead())
    worker = Leases()
    await taken(home, worker)
    async with home.pool.acquire() as connection:
        (claimed,) = await table.claim(connection, worker.holder, {home.account: (1, ())})
    await home.pool.execute("UPDATE kommo_agents.commands SET claimed_epoch = claimed_epoch + 1")
    recorder = Recorder(home.pool, "commands", Outbox(home.pool, home.producer))
    running = asyncio.create_task(recorder.run())
    try:
        assert not await recorder.record(claimed, Succeeded({"lead": 1}, 1))
    finally:
        running.cancel()
    assert (await home.row(command))["state"] == "claimed"
    assert await home.told(command) == []
