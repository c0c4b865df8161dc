"""`kommo-streams up --demo` with all of its own processes: what is sent shows, whoever is killed meanwhile."""

import asyncio
import signal
import sys
import time
from pathlib import Path

import asyncpg
import httpx
from service_support import alive_on, child_of, end, line_with, script, two_free_ports, wait_until

from service.embedded.envfile import read_env_file


async def _rows(values: dict[str, str]) -> int:
    connection = await asyncpg.connect(values["KOMMO_STREAMS_DATABASE_URL"])
    try:
        return int(await connection.fetchval("SELECT count(*) FROM kommo.activity_log"))
    finally:
        await connection.close()


async def _more_rows(values: dict[str, str], than: int) -> int:
    limit = time.monotonic() + 30
    while (rows := await _rows(values)) <= than:
        assert time.monotonic() < limit, f"still {rows} rows"
        await asyncio.sleep(0.1)
    return rows


async def test_deliveries_show_while_processes_are_killed(tmp_path: Path) -> None:
    folder, port = tmp_path / "data", two_free_ports()
    command = ["-m", "service", "up", "--data", str(folder), "--port", str(port), "--demo"]
    begin = time.monotonic()
    with script(*command) as process:
        line_with(process, "kommo-streams is up")
        assert time.monotonic() - begin < 15
        values = read_env_file(folder)
        login = line_with(process, "Dashboard").split()[1]
        assert login.startswith(f"http://127.0.0.1:{port}/")
        async with httpx.AsyncClient() as client:
            answer = await client.post(values["KOMMO_STREAMS_WEBHOOK_URL"], data={"account[id]": "16700680"})
            assert answer.status_code == 200, answer.text
            page = await client.get(values["KOMMO_STREAMS_DASHBOARD_URL"])
            assert page.status_code == 200
        rows = await _more_rows(values, 0)
        names = ("gateway", "ingest", "projector", "dashboard")
        for name in names:
            child_of(folder, sys.executable, "service", name).send_signal(signal.SIGKILL)
        for _ in names:
            line_with(process, "runs again")
        await _more_rows(values, rows + 3)
        assert end(process) < 10
        assert process.returncode == 0
    wait_until(lambda: not alive_on(folder), 1)
