from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from click.testing import CliRunner

from simulator.api.commands import simulate_api
from tests.support.ports import free_port
from tests.support.waiting import eventually
from tests.unit.simulator.api.support import ACCOUNT, OTHER
from tests.unit.simulator.api.test_api_ledger import COMMAND, effects, minted, process
from tests.unit.simulator.door import TOKEN, Door, standing


def ran(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(simulate_api, list(arguments))
    return result.exit_code, result.output


def client(port: int) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {minted(ACCOUNT)}"}
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers)


async def test_a_first_look_as_the_help_says_and_a_code_gives_tokens() -> None:
    port, door = free_port(), Door()
    async with standing(door) as url, process(port, "--url", url) as running, client(port) as http:
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
        code, said = ran("--code", str(OTHER))
        assert code == 0
        body: Any = orjson.loads(said) | {"grant_type": "authorization_code"}
        pair = (await http.post("/oauth2/access_token", json=body)).json()
        answer = await http.get("/api/v4/account", headers={"Authorization": f"Bearer {pair['access_token']}"})
        assert answer.json()["id"] == OTHER
        running.send_signal(signal.SIGTERM)
        told, _ = await asyncio.wait_for(running.communicate(), 10)
        assert running.returncode == 0
        assert b"1 effects in the ledger; webhooks: 1 of 1 accepted" in told


async def test_limits_and_mischief_come_from_the_command_line() -> None:
    port = free_port()
    limits = ("--rate-limit", "0.02", "--retry-after", "9", "--block-after", "1")
    async with process(port, *limits, "--mischief", '{"unpaid": 1, "most": 1}'), client(port) as http:
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


async def test_a_port_in_use_is_said() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        running = await asyncio.create_subprocess_exec(
            *COMMAND, "--port", str(port), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await asyncio.wait_for(running.communicate(), 60)
    assert (running.returncode, b"give another --port" in said) == (2, True), said


def test_a_file_that_is_no_ledger_is_said(tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    file.write_text("no ledger\n")
    code, said = ran("--port", str(free_port()), "--ledger", str(file))
    assert (code, "line 1" in said) == (1, True), said


def test_the_help_teaches() -> None:
    code, said = ran("--help")
    assert code == 0
    for word in ("curl", "--ledger", "Exit code", "/_simulator"):
        assert word in said
