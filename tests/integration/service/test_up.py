"""`up` as a user meets it, with stand-ins for our own processes (the servers are real)."""

import base64
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from service import supervisor
from service.embedded.envfile import read_env_file
from service.embedded.files import prepare_directory
from service.embedded.ports import PortBook
from service.embedded.progress import Progress
from service.supervisor import Supervisor, stop_all
from service.up import _Stop, _Up
from tests.support.ports import two_free_ports
from tests.support.processes import (
    SCRIPTS,
    alive_on,
    child_of,
    end,
    fails,
    line_with,
    put,
    refuses,
    script,
    wait_until,
    words,
)

NAMES = [
    "DATABASE_URL",
    "TOKEN_KEYS",
    "REDIS_URL",
    "GATEWAY_URL",
    "DASHBOARD_URL",
    "DASHBOARD_TOKEN",
    "WEBHOOK_URL",
]


async def test_the_life_of_up(folder: Path) -> None:
    folder, port = folder / "my data", two_free_ports()
    servers = ("postgres", "valkey")  # Kafka is killed under the real processes, in tests/acceptance
    with script("run_up.py", folder, str(port), "demo", *servers) as process:
        line_with(process, "kommo-streams is up")
        assert f"http://127.0.0.1:{port}/login?code=once" in line_with(process, "Dashboard")
        assert f"http://127.0.0.1:{port + 1}/webhooks/token-of-1" in line_with(process, "Webhook")
        settings = line_with(process, "Settings").split(None, 1)[1]
        assert "command send create_lead --account 1 name='A deal'" in line_with(process, "Try")
        file = folder / "kommo-streams.env"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        values = read_env_file(folder)
        assert all(values[f"KOMMO_STREAMS_{name}"] for name in NAMES)
        assert re.fullmatch(r"k1:[\w-]{43}=", values["KOMMO_STREAMS_GATEWAY_KEYS"])
        assert len(base64.urlsafe_b64decode(values["KOMMO_STREAMS_TOKEN_KEYS"])) == 32
        assert not [name for name in values if name.endswith(("_PORT", "_HOST"))]  # one more worker has its own
        kommo = PortBook(folder).kept("simulate-api")
        (account,) = json.loads((folder / "standin-accounts.json").read_text())
        assert (account["account_id"], account["base_url"]) == ("1", f"http://127.0.0.1:{kommo}")
        shell = subprocess.run(["sh", "-c", f"{settings}\nenv"], capture_output=True, text=True, check=True)
        assert set(shell.stdout.splitlines()) >= {f"{name}={value}" for name, value in values.items()}
        await put(values, "before")

        with script("run_up.py", folder) as second:
            assert f"pid {process.pid}" in fails(second, "already running", "--data")

        ours = (["standin.py", "gateway"], ["standin.py", "worker"], ["--ledger"], ["simulate --rate"])
        for what in (["postgres", "-D"], ["valkey.conf"], *ours):
            killed = child_of(folder, *what)
            killed.send_signal(signal.SIGKILL)
            assert "started again" in line_with(process, "has ended")
            line_with(process, "runs again")
        assert await words(values) == {name: ["before"] for name in servers}
        assert end(process, number=signal.SIGINT) < 10
        assert process.returncode == 0
    assert alive_on(folder) == []

    with script("run_up.py", folder, *servers) as process:
        line_with(process, "kommo-streams is up")
        assert line_with(process, "Settings")
        assert "Logs" in process.stdout.readline()  # type: ignore[union-attr]  # nothing to try without the demo
        assert read_env_file(folder) == values  # the ports, secrets and the token are kept
        assert await words(values) == {name: ["before"] for name in servers}
        process.kill()
        process.wait()
    wait_until(lambda: not alive_on(folder), 3)


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[_Up, int]]:
    """A run of account 1 that has come as far as that the simulated Kommo starts, on a port."""
    monkeypatch.setattr(supervisor, "COMMAND", (sys.executable, str(SCRIPTS / "standin.py")))
    up = _Up(tmp_path, None, 1, True, Console(), _Stop())
    up._directory = prepare_directory(tmp_path)
    up._supervisor = Supervisor(up._directory, lambda _: None)
    port = PortBook(up._directory).get("simulate-api")
    told = {"KOMMO_STREAMS_WEBHOOK_URL": "http://127.0.0.1:1/webhooks/token-of-1"}
    arguments = ["simulate-api", "--port", str(port), "--ledger", "ledger"]
    up._kommo = up._launch("simulate-api", arguments, port, "/_simulator", **told)
    yield up, port
    stop_all(up._processes)


class _Said(Progress):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def _row(url: str, why: str | None = None, account: str = "1") -> dict[str, Any]:
    return {"account_id": account, "base_url": url, "why": why}


@pytest.mark.parametrize(
    ("known", "connects"),
    [
        ([], True),
        ([_row("https://company.kommo.com", account="2")], True),
        ([_row("http://127.0.0.1:{port}")], False),
        ([_row("http://127.0.0.1:{port}", why="Kommo refuses the token")], True),
        ([_row("http://127.0.0.1:1")], True),  # the port it had before
    ],
)
def test_the_demo_connects_its_account_where_it_is_not(
    demo: tuple[_Up, int], tmp_path: Path, known: list[dict[str, Any]], connects: bool
) -> None:
    up, port = demo
    up._known_accounts = [{**row, "base_url": row["base_url"].format(port=port)} for row in known]
    up._connect_account(port, Progress())
    assert up._obeys
    file = tmp_path / "standin-accounts.json"
    assert file.exists() == connects
    if connects:
        (row,) = json.loads(file.read_text())
        token = row.pop("token")
        assert row == _row(f"http://127.0.0.1:{port}")
        assert token == "token-of-1-that-nobody-sees"
        assert not [path for path in (tmp_path / "log").iterdir() if token in path.read_text()]


def test_the_demo_leaves_an_account_of_a_real_kommo_alone(demo: tuple[_Up, int], tmp_path: Path) -> None:
    up, port = demo
    up._known_accounts = [_row("https://company.kommo.com")]
    said = _Said()
    up._connect_account(port, said)
    assert not (tmp_path / "standin-accounts.json").exists()
    assert "https://company.kommo.com" in said.lines[0]
    assert not up._obeys  # nobody is told to try a command that a real company would meet


def test_sigterm_in_the_middle_of_a_start(folder: Path) -> None:
    for number, moment in enumerate(("postgres/data.new", "log/init.log")):
        data = folder / str(number)
        with script("run_up.py", data, "postgres") as process:
            wait_until((data / moment).exists)
            assert end(process) < 10
            assert process.returncode == 0
        assert alive_on(data) == []


def test_a_port_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = two_free_ports()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + 1))
        other.listen()
        refuses(capsys, tmp_path / "data", f"Port {port + 1}", "the gateway", "--port", port=port)
    refuses(capsys, tmp_path / "data", "--port 65535", port=65535)
    assert alive_on(tmp_path) == []


def test_relative_linked_and_long_folders(folder: Path) -> None:
    real = folder / "real" / ("x" * 200) / ("y" * 200)  # a socket's path could not be so long
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    relative = Path(os.path.relpath(folder / "link")) / real.relative_to(folder / "real")
    with script("run_servers.py", relative, "postgres", "valkey") as process:
        line_with(process, "READY")
        with script("run_servers.py", real, "valkey") as second:
            fails(second, "already running", str(real))
        end(process)
    assert alive_on(folder / "real") == []
