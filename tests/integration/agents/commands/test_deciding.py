"""What a person decides of a command whose outcome is unknown, on real PostgreSQL and the simulated Kommo."""

from __future__ import annotations

import pytest

from agents.commands.deciding import DecisionError, decide
from schemas.actions import UpdateLead
from schemas.command import Command
from tests.integration.agents.commands.support import House

pytestmark = pytest.mark.asyncio(loop_scope="module")

_UNKNOWN = "UPDATE kommo_agents.commands SET doubt = now(), attempts = $2 WHERE id = $1"


async def unknown(home: House, command: Command, attempts: int = 1) -> None:
    """Take a command on as one whose outcome is unknown after so many attempts."""
    await home.take_on(command, state="unknown")
    await home.pool.execute(_UNKNOWN, command.id, attempts)


async def test_what_a_person_says_was_made_is_used_by_what_waits_for_it(home: House) -> None:
    await home.ask(real := home.lead("The real one"))
    lead_id = (await home.until(real, "succeeded")) and home.effects("created")[0].id
    await unknown(home, made := home.lead("Made"))
    await home.ask(note := home.note("after", after=made.id))
    await home.decide(made, "done", lead=lead_id)
    await home.until(note, "succeeded")
    (effect,) = [effect for effect in home.effects() if effect.kind == "note"]
    assert effect.item["entity_id"] == lead_id
    assert (await home.told(made))[-1]["data"]["command"]["entities"] == {"lead": lead_id}


async def test_an_entity_that_was_changed_is_known_without_being_said(home: House) -> None:
    await home.ask(real := home.lead("The real one"))
    lead_id = (await home.until(real, "succeeded")) and home.effects("created")[0].id
    change = Command.make(UpdateLead(lead_id=lead_id, price=5), account_id=home.account)
    await unknown(home, change)
    await home.ask(note := home.note("after", after=change.id))
    await home.decide(change, "done")
    await home.until(note, "succeeded")
    assert [effect.item["entity_id"] for effect in home.effects() if effect.kind == "note"] == [lead_id]


async def test_what_is_repeated_has_all_its_attempts_again(home: House) -> None:
    await unknown(home, command := home.lead("Again"), attempts=20)
    home.trouble(unavailable=1.0)
    await home.decide(command, "repeat")
    row = await home.until(command, "succeeded", "failed", "unknown")
    assert (row["state"], row["attempts"]) == ("succeeded", 22), row["error"]
    assert len(home.effects("created")) == 1
    told = await home.told(command)
    assert len({event["id"] for event in told}) == len(told) == 3


async def test_what_others_wait_for_must_be_said(home: House) -> None:
    await unknown(home, made := home.lead("Made"))
    await home.take_on(home.note("after", after=made.id))
    async with home.pool.acquire() as connection:
        with pytest.raises(DecisionError, match=r"1 wait for what it made: say it, such as --made lead=123"):
            await decide(connection, "commands", made.id, "done")
        assert (await home.row(made))["state"] == "unknown"
        await decide(connection, "commands", made.id, "done", {})
    assert (await home.row(made))["state"] == "succeeded"


async def test_what_cannot_have_been_made_is_refused(home: House) -> None:
    await unknown(home, command := home.lead("Made"))
    with pytest.raises(DecisionError, match="create_lead makes only lead and contact, no task"):
        await home.decide(command, "done", task=1)
    with pytest.raises(DecisionError, match="only of what is done"):
        await home.decide(command, "repeat", lead=1)
    assert (await home.row(command))["state"] == "unknown"
