"""Leases on real PostgreSQL: who holds one, and for how long he believes in it."""

from __future__ import annotations

import pytest

from agents.commands import leases
from agents.commands.leases import LeaseLost, Leases
from tests.integration.agents.commands.support import House
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
WORKER = False


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
