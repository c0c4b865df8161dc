from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result

from dashboard import commands
from tests.support.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = re.compile(r"kst_[0-9a-f]{16}_[A-Za-z0-9_-]{43}")


class Shell:
    """The commands, as a shell with these settings would run them."""

    def __init__(self, database: str) -> None:
        self.env = {"KOMMO_STREAMS_DATABASE_URL": database, "KOMMO_STREAMS_DASHBOARD_URL": "https://d.example/"}

    async def run(self, *arguments: str, **settings: str) -> Result:
        command = commands.dashboard_url if arguments[0] == "dashboard-url" else commands.token
        rest = arguments[1:]
        env = self.env | {f"KOMMO_STREAMS_{name}": value for name, value in settings.items()}
        return await asyncio.to_thread(CliRunner().invoke, command, rest, env=env)


@pytest.fixture
def shell(tables: str) -> Shell:
    return Shell(tables)


async def fetch(database: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(database)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


async def test_the_life_of_a_token(shell: Shell, tables: str) -> None:
    made = await shell.run("token", "create", "--name", "reports", "--accounts", "2,1,2", "--expires", "30d")
    assert made.exit_code == 0, made.output
    token = made.stdout.strip()
    assert TOKEN.fullmatch(token)
    assert "accounts 1, 2" in made.stderr
    assert "not shown again" in made.stderr
    row = (await fetch(tables, "SELECT *, expires_at - now() AS rest FROM kommo.access_tokens"))[0]
    assert row["accounts"] == [1, 2]
    assert 29 <= row["rest"].days <= 30
    assert token.rpartition("_")[2] not in str(row)

    checked = await shell.run("token", "check", DASHBOARD_TOKEN=token)
    assert checked.exit_code == 0
    assert token not in checked.output

    listed = await shell.run("token", "list")
    assert "reports" in listed.stdout
    assert "valid" in listed.stdout
    assert token not in listed.output
    as_json = json.loads((await shell.run("token", "list", "--json")).stdout)
    assert as_json[0]["accounts"] == [1, 2]
    assert set(as_json[0]) == {
        *("id", "kind", "name", "accounts", "commands", "created_at", "expires_at", "revoked_at")
    }
    assert as_json[0]["commands"] is False

    revoked = await shell.run("token", "revoke", "reports")
    assert (revoked.exit_code, token[4:20] in revoked.stdout) == (0, True)
    assert (await shell.run("token", "check", DASHBOARD_TOKEN=token)).exit_code == 1
    assert json.loads((await shell.run("token", "list", "--json")).stdout) == []
    assert "revoked" in (await shell.run("token", "list", "--all")).stdout
    again = await shell.run("token", "revoke", "reports")
    assert again.exit_code == 1
    assert "token list" in again.stderr


async def test_a_token_or_address_gives_commands_only_where_that_is_said(shell: Shell, tables: str) -> None:
    made = await shell.run("token", "create", "--name", "bot", "--accounts", "1", "--commands")
    assert "reads and gives commands for account 1" in made.stderr
    checked = await shell.run("token", "check", DASHBOARD_TOKEN=made.stdout.strip())
    assert "reads and gives commands for account 1" in checked.stdout
    assert "read, command" in (await shell.run("token", "list")).stdout
    assert "reads and gives commands" in (await shell.run("dashboard-url", "--commands")).stderr
    assert "gives commands" not in (await shell.run("dashboard-url")).stderr
    rows = await fetch(tables, "SELECT kind, commands FROM kommo.access_tokens ORDER BY kind, commands")
    assert [tuple(row) for row in rows] == [("api", True), ("code", False), ("code", True)]


async def test_quiet_prints_the_token_and_nothing_else(shell: Shell) -> None:
    made = await shell.run("token", "create", "--name", "up", "--accounts", "*", "--quiet", "--expires", "never")
    assert TOKEN.fullmatch(made.output.strip())
    again = await shell.run("token", "create", "--name", "up", "--accounts", "*", "--quiet")
    assert again.exit_code == 0
    by_id = await shell.run("token", "revoke", again.output.strip()[4:20])
    assert by_id.exit_code == 0
    assert (await shell.run("token", "check", DASHBOARD_TOKEN=made.output.strip())).exit_code == 0


async def test_an_address_has_its_code_in_the_fragment(shell: Shell, tables: str) -> None:
    made = await shell.run("dashboard-url", "--accounts", "7", "--quiet")
    assert re.fullmatch(rf"https://d\.example/#code={TOKEN.pattern}\n", made.output)
    row = (await fetch(tables, "SELECT kind, accounts, expires_at - now() AS rest FROM kommo.access_tokens"))[0]
    assert (row["kind"], row["accounts"]) == ("code", [7])
    assert 14 * 60 < row["rest"].total_seconds() <= 15 * 60
    assert "once" in (await shell.run("dashboard-url")).stderr


async def test_a_database_that_is_away_is_one_line_and_exit_code_3(shell: Shell) -> None:
    shell.env["KOMMO_STREAMS_DATABASE_URL"] = f"postgresql://u:hunter2@127.0.0.1:{free_port()}/x"
    for arguments in (
        ("token", "list"),
        ("token", "revoke", "x"),
        ("token", "create", "--name", "x", "--accounts", "1"),
        ("dashboard-url",),
    ):
        result = await shell.run(*arguments)
        assert result.exit_code == 3
        assert result.output.count("\n") == 1
        assert "away" in result.stderr
        assert "hunter2" not in result.output
    assert (await shell.run("token", "check", DASHBOARD_TOKEN="x")).exit_code == 3
    assert (await shell.run("token", "check")).exit_code == 1
    shell.env["KOMMO_STREAMS_DATABASE_URL"] = "nonsense"
    assert (await shell.run("token", "list")).exit_code == 2


async def test_an_empty_database_gets_its_table(database: str) -> None:
    made = await Shell(database).run("token", "create", "--name", "first", "--accounts", "*", "--quiet")
    assert TOKEN.fullmatch(made.output.strip()), made.output
