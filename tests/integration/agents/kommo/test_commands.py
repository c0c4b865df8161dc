"""The command `account`, as a shell runs it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agents.kommo.commands import account
from runtime.settings import Settings
from tests.support.credentials import ACCOUNT, CLIENT, KEY, REDIRECT, SECRET, TOKEN
from tests.support.ports import free_port
from tests.support.raw_server import answer, jwt, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

CODE = "def502-the-code"
REFRESH = "def502-the-refresh-token"
PAIR = {"token_type": "Bearer", "expires_in": 86400, "access_token": TOKEN, "refresh_token": REFRESH}
ME = answer(200, {"id": ACCOUNT, "name": "Acme \x1b[31m& Co"})


class Shell:
    """The command with these settings; no output ever holds a secret."""

    def __init__(self, settings: Settings) -> None:
        self.env = {
            "KOMMO_STREAMS_DATABASE_URL": settings.database_url.get_secret_value(),
            "KOMMO_STREAMS_INTEGRATIONS": f"{CLIENT}:{SECRET}",
            "KOMMO_STREAMS_TOKEN_KEYS": KEY,
            "KOMMO_STREAMS_OAUTH_REDIRECT_URI": REDIRECT,
            "KOMMO_STREAMS_LOG_LEVEL": "DEBUG",
        }

    async def run(self, *arguments: str, given: str | None = None, **settings: str | None) -> Result:
        env = self.env | {f"KOMMO_STREAMS_{name}": value for name, value in settings.items()}
        result = await asyncio.to_thread(CliRunner().invoke, account, arguments, env=env, input=given)
        for secret in (TOKEN, REFRESH, CODE, SECRET, KEY):
            assert secret not in result.output + str(result.exception)
        assert result.exit_code in (0, 1, 2, 3)
        return result


@pytest.fixture
def shell(kommo_settings: Settings) -> Shell:
    return Shell(kommo_settings)


async def accounts(shell: Shell) -> Any:
    return json.loads((await shell.run("list", "--json")).stdout)


async def test_the_life_of_a_connected_account(shell: Shell) -> None:
    async with serving(otherwise=ME) as server:
        server.by_path["/oauth2/access_token"] = [answer(200, PAIR)]
        made = await shell.run("connect", "--url", f"{server.base_url}/", "--code", CODE)
        assert made.exit_code == 0, made.output
        assert f"Connected account {ACCOUNT} (Acme 31m& Co)" in made.stdout
        assert json.loads(server.got[0].body) == {
            "client_id": CLIENT,
            "client_secret": SECRET,
            "redirect_uri": REDIRECT,
            "grant_type": "authorization_code",
            "code": CODE,
        }
        found = (await accounts(shell))[0]
        assert (found["account_id"], found["base_url"], found["client_uuid"]) == (ACCOUNT, server.base_url, CLIENT)
        assert (found["user_id"], found["state"], found["why"]) == (77, "connected", None)
        listed = await shell.run("list")
        assert f"{ACCOUNT}" in listed.stdout
        assert "connected" in listed.stdout
        checked = await shell.run("check", str(ACCOUNT))
        assert (checked.exit_code, "answers" in checked.stdout) == (0, True)
        assert server.got[-1].token == TOKEN
        gone = await shell.run("disconnect", str(ACCOUNT))
        assert (gone.exit_code, await accounts(shell)) == (0, [])
        assert (await shell.run("disconnect", str(ACCOUNT))).exit_code == 1
        assert (await shell.run("check", str(ACCOUNT))).exit_code == 1
        assert "connect" in (await shell.run("list")).stderr


@pytest.mark.parametrize("place", ["-", "file"])
async def test_a_long_lived_token_comes_by_a_file(shell: Shell, place: str, tmp_path: Any) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    source = "-" if place == "-" else str(file)
    async with serving(otherwise=ME) as server:
        made = await shell.run("connect", "--url", server.base_url, "--token-file", source, given=f"{TOKEN}\n")
        assert made.exit_code == 0, made.output
        found = (await accounts(shell))[0]
        assert (found["client_uuid"], found["expires_at"][:4]) == (None, "2096")
        assert "until 2096" in (await shell.run("list")).stdout


async def test_what_kommo_refuses_is_not_stored(shell: Shell) -> None:
    refusal = answer(400, {"title": "Bad Request", "hint": "Authorization code has expired", "detail": "too late"})
    async with serving(otherwise=refusal) as server:
        made = await shell.run("connect", "--url", server.base_url, "--code", CODE)
        assert (made.exit_code, await accounts(shell)) == (1, [])
        assert "too late" in made.stderr
        server.otherwise = answer(401, {"detail": "Invalid user name or password"})
        made = await shell.run("connect", "--url", server.base_url, "--token-file", "-", given=TOKEN)
        assert (made.exit_code, await accounts(shell)) == (1, [])


async def test_a_token_of_another_account_is_not_stored(shell: Shell) -> None:
    async with serving(otherwise=answer(200, {"id": 5, "name": "Other"})) as server:
        server.by_path["/oauth2/access_token"] = [answer(200, PAIR)]
        made = await shell.run("connect", "--url", server.base_url, "--code", CODE)
        assert (made.exit_code, await accounts(shell)) == (1, [])
        assert "5" in made.stderr


async def test_a_code_that_was_used_is_not_lost_when_kommo_goes_away(shell: Shell) -> None:
    async with serving(otherwise=answer(503)) as server:
        server.by_path["/oauth2/access_token"] = [answer(200, PAIR)]
        made = await shell.run("connect", "--url", server.base_url, "--code", CODE)
        assert made.exit_code == 3
        assert [found["account_id"] for found in await accounts(shell)] == [ACCOUNT]
        server.otherwise = ME
        assert (await shell.run("check", str(ACCOUNT))).exit_code == 0


async def test_check_says_how_it_is_and_asks_again_at_once(shell: Shell) -> None:
    async with serving(otherwise=ME) as server:
        await shell.run("connect", "--url", server.base_url, "--token-file", "-", given=TOKEN)
        server.otherwise = answer(401)
        refused = await shell.run("check", str(ACCOUNT))
        assert refused.exit_code == 1
        assert "connect the account with a new one" in refused.stderr
        assert "needs a person" in (await shell.run("list")).stdout
        server.otherwise = answer(503)
        assert (await shell.run("check", str(ACCOUNT))).exit_code == 3
        server.otherwise = answer(200, {"id": 5})
        assert (await shell.run("check", str(ACCOUNT))).exit_code == 1
        server.otherwise = ME
        assert (await shell.run("check", str(ACCOUNT))).exit_code == 0
        assert (await accounts(shell))[0]["state"] == "connected"


async def test_keys_are_rotated(shell: Shell) -> None:
    new = "bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleS0="
    async with serving(otherwise=ME) as server:
        await shell.run("connect", "--url", server.base_url, "--token-file", "-", given=TOKEN)
        assert (await shell.run("check", str(ACCOUNT), TOKEN_KEYS=new)).exit_code == 1
        assert (await shell.run("rotate-keys", TOKEN_KEYS=new)).exit_code == 1
        done = await shell.run("rotate-keys", TOKEN_KEYS=f"{new},{KEY}")
        assert (done.exit_code, "1 account " in done.stdout) == (0, True)
        assert (await shell.run("check", str(ACCOUNT), TOKEN_KEYS=new)).exit_code == 0
        assert (await shell.run("check", str(ACCOUNT))).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["--url", "https://a.kommo.com"], {}, "--code or --token-file"),
        (["--url", "https://a.kommo.com", "--code", ""], {}, "--code or --token-file"),
        (["--url", "https://a.kommo.com", "--code", "x", "--token-file", "-"], {}, "--code or --token-file"),
        (["--url", "http://a.kommo.com", "--code", "x"], {}, "https://"),
        (["--url", "https://a.kommo.com/leads", "--code", "x"], {}, "SUB.kommo.com"),
        (["--code", "x"], {}, "--url"),
        (["--url", "https://a.kommo.com", "--code", "x"], {"OAUTH_REDIRECT_URI": None}, "OAUTH_REDIRECT_URI"),
        (["--url", "https://a.kommo.com", "--code", "x"], {"INTEGRATIONS": None}, "INTEGRATIONS"),
        (["--url", "https://a.kommo.com", "--code", "x", "--client", "y"], {}, "--client"),
        (["--url", "https://a.kommo.com", "--code", "x"], {"TOKEN_KEYS": None}, "TOKEN_KEYS"),
        (["--url", "https://a.kommo.com", "--code", "x"], {"TOKEN_KEYS": "y"}, "TOKEN_KEYS"),
        (["--url", "https://a.kommo.com", "--token-file", "-"], {}, "token"),
        (["--url", "https://a.kommo.com", "--token-file", "-", "--client", "x"], {}, "--client"),
    ],
)
async def test_wrong_usage_is_named(shell: Shell, arguments: list[str], settings: dict[str, Any], said: str) -> None:
    result = await shell.run("connect", *arguments, given="two words", **settings)
    assert result.exit_code == 2, result.output
    assert said in result.stderr


async def test_of_several_integrations_one_is_named(shell: Shell) -> None:
    other = f"{CLIENT[:-1]}0"
    both = f"{other}:another-secret-of-mine,{CLIENT}:{SECRET}"
    async with serving(otherwise=ME) as server:
        server.by_path["/oauth2/access_token"] = [answer(200, PAIR)]
        arguments = ["connect", "--url", server.base_url, "--code", CODE]
        unnamed = await shell.run(*arguments, INTEGRATIONS=both)
        assert (unnamed.exit_code, other in unnamed.stderr, "another" in unnamed.output) == (2, True, False)
        made = await shell.run(
            *arguments, "--client", CLIENT.upper(), "--redirect-uri", "https://x/", INTEGRATIONS=both
        )
        assert made.exit_code == 0, made.output
        assert json.loads(server.got[0].body)["redirect_uri"] == "https://x/"


async def test_a_token_that_names_no_account_is_refused(shell: Shell) -> None:
    made = await shell.run(
        "connect", "--url", "https://a.kommo.com", "--token-file", "-", given=jwt(sub="1") + "x" * 20
    )
    assert (made.exit_code, "which account" in made.stderr) == (1, True)


async def test_servers_that_are_away(shell: Shell) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    made = await shell.run("connect", "--url", nobody, "--token-file", "-", given=TOKEN)
    assert (made.exit_code, "ConnectError" in made.stderr) == (3, True)
    made = await shell.run("list", DATABASE_URL=f"postgresql://kommo:hunter2@127.0.0.1:{free_port()}/kommo")
    assert (made.exit_code, "DATABASE_URL" in made.stderr, "hunter2" in made.output) == (3, True, False)
