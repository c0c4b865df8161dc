"""`kommo-streams up --demo` with all of its own processes: what is sent shows, whoever is killed meanwhile."""

import asyncio
import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path

import asyncpg
import httpx

from service.embedded.envfile import read_env_file
from service.embedded.ports import PortBook
from tests.support.ports import two_free_ports
from tests.support.processes import alive_on, busy, child_of, end, line_with, script, wait_until

LEASE = 30  # seconds after which an account of a killed worker is taken up by another


async def _rows(values: dict[str, str], like: str = "%") -> int:
    connection = await asyncpg.connect(values["KOMMO_STREAMS_DATABASE_URL"])
    try:
        return int(await connection.fetchval("SELECT count(*) FROM kommo.activity_log WHERE summary LIKE $1", like))
    finally:
        await connection.close()


async def _more_rows(values: dict[str, str], than: int, like: str = "%") -> int:
    limit = time.monotonic() + 30 * busy()
    while (rows := await _rows(values, like)) <= than:
        assert time.monotonic() < limit, f"still {rows} rows like {like}, of {await _rows(values)}"
        await asyncio.sleep(0.1)
    return rows


async def _command(values: dict[str, str], *arguments: str) -> tuple[str, str]:
    """Output and errors of a command line with the env file's settings; it ends with 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", *arguments),
        env={**os.environ, **values},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode(), errors.decode()


async def _created(kommo: str) -> list[str]:
    """The names of the leads that the simulated Kommo has really made."""
    async with httpx.AsyncClient() as client:
        ledger = (await client.get(f"{kommo}/_simulator/ledger")).text
    effects = [json.loads(line) for line in ledger.splitlines()]
    return [effect["item"]["name"] for effect in effects if (effect["kind"], effect["verb"]) == ("lead", "created")]


async def test_deliveries_show_and_commands_succeed_while_processes_are_killed(tmp_path: Path) -> None:
    folder, port = tmp_path / "data", two_free_ports()
    command = ["-m", "service", "up", "--data", str(folder), "--port", str(port), "--demo"]
    with script(*command) as process:
        line_with(process, "kommo-streams is up")
        values = read_env_file(folder)
        login = line_with(process, "Dashboard").split()[1]
        assert login.startswith(f"http://127.0.0.1:{port}/")
        trial = shlex.split(line_with(process, "Try"))[2:]
        kommo = f"http://127.0.0.1:{PortBook(folder).kept('simulate-api')}"
        _, told = await _command(values, *trial)
        assert "succeeded after 1 attempt" in told
        assert await _created(kommo) == ["A deal"]
        await _more_rows(values, 0, "%A deal%added%")  # by the webhook of the change
        assert kommo in (await _command(values, "account", "list"))[0]
        async with httpx.AsyncClient() as client:
            answer = await client.post(values["KOMMO_STREAMS_WEBHOOK_URL"], data={"account[id]": "16700680"})
            assert answer.status_code == 200, answer.text
            page = await client.get(values["KOMMO_STREAMS_DASHBOARD_URL"])
            assert page.status_code == 200
        rows = await _more_rows(values, 0)
        names = ("gateway", "ingest", "projector", "worker", "dashboard", "simulate-api")
        for name in names:
            child_of(folder, sys.executable, f"service {name}").send_signal(signal.SIGKILL)
        for _ in names:
            line_with(process, "runs again")
        again = ("send", "create_lead", "--account", "16700680", "name=Another", "--wait", str(2 * LEASE))
        await asyncio.gather(_more_rows(values, rows + 3), _command(values, "command", *again))
        assert await _created(kommo) == ["A deal", "Another"]  # it has not forgotten the first
        assert end(process) < 10
        assert process.returncode == 0
    wait_until(lambda: not alive_on(folder), 1)
    written = [*(folder / "log").iterdir(), folder / "kommo-streams.env", folder / "secrets.json"]
    assert not [path for path in written if "eyJ" in path.read_text()]  # Kommo's tokens begin so
