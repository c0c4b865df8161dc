"""Which command may begin, on real PostgreSQL: never two of one entity at once, and none waits for ever."""

from __future__ import annotations

import datetime as dt

import pytest

from agents.commands import table
from agents.commands.leases import Leases
from agents.commands.outcomes import Succeeded
from agents.commands.table import Arrived, admit
from schemas.actions import UpdateLead
from schemas.command import Command
from tests.integration.agents.commands.support import House
from tests.integration.agents.commands.test_claims import claimed, end, leased

pytestmark = pytest.mark.asyncio(loop_scope="module")
WORKER = False

_AGED = """
UPDATE kommo_agents.commands
SET admitted_at = admitted_at - interval '2 days', expires_at = expires_at - interval '2 days' WHERE id = $1
"""
_UNKNOWN = "UPDATE kommo_agents.commands SET state = 'unknown' WHERE id = $1"


async def let_go(home: House, leases: Leases) -> None:
    """Do what a worker does now and then."""
    async with home.pool.acquire() as connection:
        await table.let_go(connection, leases.holder)


async def ids(home: House, leases: Leases, room: int = 8) -> list[str]:
    """The ids of what is claimed now."""
    return [item.command.id for item in await claimed(home, leases, room)]


async def test_an_admission_that_ends_late_does_not_begin_beside_one_that_overtook_it(home: House) -> None:
    """Creates of one name may lie in two partitions, and be taken on by two workers."""
    first, second = home.lead("Same"), home.lead("Same")
    await home.take_on(home.note(1))  # else both would make the account's lease, one after the other
    leases = await leased(home)
    assert len(await claimed(home, leases)) == 1
    async with home.pool.acquire() as one:
        late = one.transaction()
        await late.start()
        await admit(one, [Arrived(first, first.to_json(), "commands", 0, 0, 86_400)])
        await home.take_on(second)
        (begun,) = await claimed(home, leases)
        assert begun.command.id == second.id
        await late.commit()
    assert await ids(home, leases) == []
    await end(home, begun, Succeeded({"lead": 1}, None))
    assert await ids(home, leases) == [first.id]


async def test_what_a_person_has_repeated_does_not_begin_beside_a_later_one(home: House) -> None:
    first, second = (Command.make(UpdateLead(lead_id=7, price=price), account_id=home.account) for price in (1, 2))
    await home.take_on(first, state="unknown")
    await home.pool.execute(_AGED, first.id)
    await home.take_on(second)
    leases = await leased(home)
    await let_go(home, leases)
    (begun,) = await claimed(home, leases)
    assert begun.command.id == second.id
    await home.decide(first, "repeat")
    assert await ids(home, leases) == []
    await end(home, begun, Succeeded({"lead": 7}, None))
    assert await ids(home, leases) == [first.id]


@pytest.mark.parametrize("how", ["done", "drop", "its age ran out"])
async def test_what_waited_for_an_unknown_one_goes_before_what_came_later(home: House, how: str) -> None:
    await home.take_on(stuck := home.note(7, "stuck"), state="unknown")
    await home.take_on(follower := home.note(7, "follower"))
    await home.take_on(*(home.lead(str(number)) for number in range(20)))
    leases = await leased(home)
    if how == "its age ran out":
        await home.pool.execute(_AGED, stuck.id)
        await let_go(home, leases)
    else:
        await home.decide(stuck, "done" if how == "done" else "drop")
    assert (await ids(home, leases, room=1)) == [follower.id]


async def test_what_waits_for_another_is_let_go_by_its_end(home: House) -> None:
    made = home.lead("Made")
    notes = [home.note("after", str(number), after=made.id) for number in range(3)]
    await home.take_on(*notes)  # its partition was read later
    await home.take_on(made)
    leases = await leased(home)
    (begun,) = await claimed(home, leases)
    assert begun.command.id == made.id
    await end(home, begun, Succeeded({"lead": 1}, None))
    assert await ids(home, leases) == [notes[0].id]  # of one entity: one at a time


async def test_what_waits_for_a_later_one_of_its_own_entity_lets_it_pass(home: House) -> None:
    """Creates of one name are one entity's: else each would wait for the other until both are too old."""
    made = home.lead("Twin")
    again = Command.make(made.action, account_id=home.account, after=made.id)
    await home.take_on(again)  # its partition was read first
    await home.take_on(made)
    leases = await leased(home)
    (begun,) = await claimed(home, leases)
    assert begun.command.id == made.id
    await end(home, begun, Succeeded({"lead": 1}, None))
    assert await ids(home, leases) == [again.id]


async def test_what_is_in_doubt_and_past_its_age_is_looked_for_when_it_is_its_turn(home: House) -> None:
    first, second = home.note(7, "first"), home.note(7, "second")
    await home.take_on(first, second)
    leases = await leased(home)
    await home.pool.execute(
        "UPDATE kommo_agents.commands SET expires_at = now(), doubt = now() WHERE id = $1", second.id
    )
    (begun,) = await claimed(home, leases)
    assert begun.command.id == first.id
    await end(home, begun, Succeeded({"note": 1}, None))
    assert await ids(home, leases) == [second.id]


async def test_an_age_does_not_grow_with_each_repeat(home: House) -> None:
    await home.take_on(command := home.lead("Again"), state="unknown", age=3600)
    await home.pool.execute(
        "UPDATE kommo_agents.commands SET admitted_at = admitted_at - interval '10 days',"
        " expires_at = expires_at - interval '10 days' WHERE id = $1",
        command.id,
    )
    for _ in range(2):
        await home.decide(command, "repeat")
        left = (await home.row(command))["expires_at"] - dt.datetime.now(dt.UTC)
        assert dt.timedelta(minutes=58) < left < dt.timedelta(minutes=62)
        await home.pool.execute(_UNKNOWN, command.id)
