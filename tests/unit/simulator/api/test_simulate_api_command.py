from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from click.testing import CliRunner

from simulator.api.commands import simulate_api
from tests.support.ports import free_port
from tests.support.waiting import eventually
from tests.unit.simulator.api.support import ACCOUNT
from tests.unit.simulator.api.test_api_ledger import COMMAND, effects, minted, process
from tests.unit.simulator.door import TOKEN, Door, standing


def ran(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(simulate_api, list(arguments))
    return result.exit_code, result.output


async def client(port: int) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {await minted(ACCOUNT)}"}
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers)


async def test_a_first_look_as_the_help_says() -> None:
    port, door = free_port(), Door()
    async with standing(door) as url, process(port, "--url", url) as running, await client(port) as http:
        assert running.stdout is not None
        lines = [(await running.stdout.readline()).decode() for _ in range(3)]
        assert f"account {ACCOUNT}" in lines[2]
        assert TOKEN not in "".join(lines)
        answer = await http.post("/api/v4/leads", json=[{"name": "A deal"}])
        assert answer.status_code == 200
        (effect,) = await effects(http)
        assert (effect["account"], effect["kind"]) == (ACCOUNT, "lead")
        await eventually(lambda: len(door.bodies) == 1)
        assert (await http.get("/_simulator")).text.count("/_simulator/") >= 9
        running.send_signal(signal.SIGTERM)
        said, _ = await asyncio.wait_for(running.communicate(), 10)
        assert running.returncode == 0
        assert b"1 effects in the ledger; webhooks: 1 of 1 accepted" in said


async def test_a_code_of_the_command_gives_tokens(tmp_path: Path) -> None:
    code, said = ran("--code", str(ACCOUNT))
    assert code == 0
    port = free_port()
    async with process(port, "--ledger", str(tmp_path / "ledger")), await client(port) as http:
        body: Any = orjson.loads(said) | {"grant_type": "authorization_code"}
        pair = (await http.post("/oauth2/access_token", json=body)).json()
        answer = await http.get("/api/v4/account", headers={"Authorization": f"Bearer {pair['access_token']}"})
        assert answer.json()["id"] == ACCOUNT


async def test_limits_and_mischief_come_from_the_command_line() -> None:
    port = free_port()
    arguments = (
        "--rate-limit",
        "0.02",
        "--retry-after",
        "9",
        "--block-after",
        "1",
        "--mischief",
        '{"unpaid": 1, "most": 1}',
    )
    async with process(port, *arguments), await client(port) as http:
        answers = [await http.get("/api/v4/account") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [402, 200, 429, 429, 403]
        assert answers[2].json()["retry_after"] == 9


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--rate-limit", "fast"), "requests a second"),
        (("--rate-limit", "0"), "requests a second"),
        (("--mischief", "{"), "JSON"),
        (("--mischief", '{"errors": 1}'), "'errors' is none of"),
        (("--url", "ftp://x"), "http"),
        (("--port", "70000"), "70000"),
    ],
)
def test_wrong_arguments_are_said(arguments: tuple[str, ...], word: str) -> None:
    code, said = ran(*arguments)
    assert code == 2
    assert word in said


async def test_a_port_in_use_and_a_file_that_is_no_ledger(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "ledger"
    file.write_text("no ledger\n")
    async with process(port):
        for arguments, code, word in (
            (("--port", str(port)), 2, "give another --port"),
            (("--port", str(free_port()), "--ledger", str(file)), 1, "line 1"),
        ):
            other = await asyncio.create_subprocess_exec(
                *COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            said, _ = await asyncio.wait_for(other.communicate(), 20)
            assert (other.returncode, word in said.decode()) == (code, True), said


def test_the_help_teaches() -> None:
    code, said = ran("--help")
    assert code == 0
    for word in ("curl", "--ledger", "Exit code", "/_simulator"):
        assert word in said
