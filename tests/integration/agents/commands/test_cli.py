"""`kommo-streams command send`: whoever asks always hears the command's id."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner, Result

from agents.commands.cli import command as cli
from schemas.command import Command, id_of_key
from simulator.api import ApiMischief
from streams.topics import COMMANDS
from tests.integration.agents.commands.support import House
from tests.support.ports import free_port
from tests.support.programs import environment
from tests.support.topics import everything
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def send(home: House, *words: str, **other: object) -> Result:
    """Run the command with the settings of the house, `other` replacing some."""
    arguments = ["send", "create_lead", "--account", str(home.account), *words]
    runner = CliRunner(env=environment(home.settings, **other))
    return await asyncio.to_thread(runner.invoke, cli, arguments)


async def test_who_cannot_wait_hears_that_it_was_sent(home: House) -> None:
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    told = await send(home, "name=Sent", "--wait", "5", database_url=away)
    (sent,) = [
        command
        for record in await everything(home.settings, COMMANDS)
        if (command := Command.from_json(record.value)).account_id == home.account
    ]
    assert told.exit_code == 3
    assert told.stdout == f"{sent.id}\n"
    assert f"PostgreSQL is away: ConnectionRefusedError; it was sent: `kommo-streams command show {sent.id}`" in (
        told.stderr
    )


async def test_a_key_that_stands_for_another_command_is_said(home: House) -> None:
    first = await send(home, "name=One", "--key", "order 17", "--wait", "30")
    assert (first.exit_code, first.stdout) == (0, f"{id_of_key(home.account, 'order 17')}\n"), first.stderr
    again = await send(home, "name=One", "--key", "order 17", "--wait", "30")
    assert again.exit_code == 0
    other = await send(home, "name=Two", "--key", "order 17", "--wait", "30")
    assert (other.exit_code, "stands for another command" in other.stderr) == (1, True)
    assert [effect.item["name"] for effect in home.effects("created")] == ["One"]


async def test_what_waits_for_an_open_circuit_says_so(home: House) -> None:
    home.kommo.mischief(ApiMischief(down=True), account=home.account)
    await home.ask(*(home.lead(str(number)) for number in range(8)))
    shut = "SELECT count(*) FROM kommo.circuits WHERE account_id = $1"
    await eventually(lambda: home.pool.fetchval(shut, home.account), 30)
    waiting = await home.pool.fetchval(
        "SELECT id::text FROM kommo_agents.commands WHERE account_id = $1 AND state = 'waiting' LIMIT 1", home.account
    )
    shown = await asyncio.to_thread(CliRunner(env=environment(home.settings)).invoke, cli, ["show", waiting])
    assert "circuit      leads of the account fail; a probe at " in shown.output
