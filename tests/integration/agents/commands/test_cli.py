"""`kommo-streams command send`: whoever asks always hears the command's id, and wrong words are refused."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner, Result

from agents.commands.cli import command as cli
from schemas.command import Command, id_of_key
from simulator.api import ApiMischief
from streams.topics import COMMANDS
from tests.integration.agents.commands.support import House, own_house
from tests.integration.agents.test_ingest import everything
from tests.support.ports import free_port
from tests.support.programs import environment
from tests.support.servers import Servers
from tests.support.waiting import eventually


async def send(home: House, *words: str, **other: object) -> Result:
    """Run the command with the settings of the house, `other` replacing some."""
    arguments = ["send", "create_lead", "--account", str(home.account), *words]
    runner = CliRunner(env=environment(home.settings, **other))
    return await asyncio.to_thread(runner.invoke, cli, arguments)


async def test_who_cannot_wait_hears_that_it_was_sent(servers: Servers) -> None:
    async with own_house(servers) as home:
        away = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
        told = await send(home, "name=Sent", "--wait", "5", database_url=away)
        (record,) = await everything(home.settings, COMMANDS)
        sent = Command.from_json(record.value)
        assert told.exit_code == 3
        assert told.stdout == f"{sent.id}\n"
        assert f"PostgreSQL is away: ConnectionRefusedError; it was sent: `kommo-streams command show {sent.id}`" in (
            told.stderr
        )


async def test_a_key_that_stands_for_another_command_is_said(servers: Servers) -> None:
    async with own_house(servers) as home:
        home.work()
        first = await send(home, "name=One", "--key", "order 17", "--wait", "30")
        assert (first.exit_code, first.stdout) == (0, f"{id_of_key(home.account, 'order 17')}\n"), first.stderr
        again = await send(home, "name=One", "--key", "order 17", "--wait", "30")
        assert again.exit_code == 0
        other = await send(home, "name=Two", "--key", "order 17", "--wait", "30")
        assert (other.exit_code, "stands for another command" in other.stderr) == (1, True)
        assert [effect.item["name"] for effect in home.effects("created")] == ["One"]


async def test_what_waits_for_an_open_circuit_says_so(servers: Servers) -> None:
    async with own_house(servers, retry="all.base=0.05, all.cap=0.1") as home:
        home.kommo.mischief(ApiMischief(down=True), account=home.account)
        home.work()
        await home.ask(*(home.lead(str(number)) for number in range(8)))
        await eventually(lambda: home.pool.fetchval("SELECT count(*) FROM kommo.circuits"), 30)
        waiting = await home.pool.fetchval("SELECT id::text FROM kommo_agents.commands WHERE state = 'waiting' LIMIT 1")
        shown = await asyncio.to_thread(CliRunner(env=environment(home.settings)).invoke, cli, ["show", waiting])
        assert "circuit      leads of the account fail; a probe at " in shown.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--key", ""], "--key: must have 1 to 128 printable ASCII characters"),
        (["--key", "k" * 129], "--key: must have 1 to 128"),
        (["--wait", "nan"], "must be a number of seconds"),
        (["name=\udcff"], "not UTF-8"),
    ],
)
def test_wrong_words_are_refused(words: list[str], said: str) -> None:
    refused = CliRunner().invoke(cli, ["send", "create_lead", "--account", "7", *words])
    assert (refused.exit_code, said in refused.output) == (2, True), refused.output
