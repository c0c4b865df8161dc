from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import orjson
import pytest
from click.testing import CliRunner

from simulator.api import ApiMischief, LedgerError, simulated_kommo
from simulator.api.commands import simulate_api
from simulator.api.ledger import Ledger
from tests.support.ports import free_port
from tests.unit.simulator.api.support import ACCOUNT, OTHER, UNLIMITED, Json, client, kommo_and_client, make

COMMAND = [sys.executable, "-c", "from simulator.api.commands import simulate_api; simulate_api()"]


@contextlib.asynccontextmanager
async def process(port: int, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The simulator as a process that answers."""
    running = await asyncio.create_subprocess_exec(
        *COMMAND, "--port", str(port), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert running.stdout is not None
    try:
        line = await asyncio.wait_for(running.stdout.readline(), 60)
        assert f"http://127.0.0.1:{port}".encode() in line, line + await running.stdout.read()
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()  # also closes its pipe


def minted(account: int) -> str:
    """A token as the command says it to a shell."""
    result = CliRunner().invoke(simulate_api, ["--token", str(account)])
    assert result.exit_code == 0
    return result.output.strip()


async def effects(http: httpx.AsyncClient) -> list[Json]:
    answer = await http.get("/_simulator/ledger")
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [orjson.loads(line) for line in answer.content.splitlines()]


async def test_what_a_killed_simulator_did_is_known_to_the_next(tmp_path: Path) -> None:
    port, file = free_port(), str(tmp_path / "ledger")
    settings = ("--rate-limit", "none", "--ledger", file, "--no-webhooks")
    headers = {"Authorization": f"Bearer {minted(ACCOUNT)}"}
    sure: list[int] = []
    unsure = 0

    async def write(http: httpx.AsyncClient, name: str) -> None:
        nonlocal unsure
        try:
            while True:
                answer = await http.post("/api/v4/leads", json=[{"name": name}, {"name": name}])
                sure.extend(lead["id"] for lead in answer.json()["_embedded"]["leads"])
        except httpx.TransportError:
            unsure += 1

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as http:
        async with process(port, *settings) as running:
            writers = [asyncio.create_task(write(http, f"{number}")) for number in range(6)]
            while len(sure) < 150:
                await asyncio.sleep(0.01)
            os.kill(running.pid, signal.SIGKILL)
            await asyncio.gather(*writers)
        async with process(port, *settings):
            told = await effects(http)
            found = [effect["id"] for effect in told]
            assert set(sure) <= set(found)
            assert len(found) == len(set(found)) <= len(sure) + 2 * unsure
            assert set(Counter(effect["request"] for effect in told).values()) == {2}
            assert [effect["number"] for effect in told] == list(range(1, len(told) + 1))
            for identifier in (found[0], found[-1]):
                shown = (await http.get(f"/api/v4/leads/{identifier}")).json()
                assert (shown["id"], shown["account_id"]) == (identifier, ACCOUNT)
            new = (await http.post("/api/v4/leads", json=[{"name": "after"}])).json()["_embedded"]["leads"][0]["id"]
            assert new > max(found)
            last = (await effects(http))[-1]
            assert (last["id"], last["number"]) == (new, len(found) + 1)
            assert last["request"] > told[-1]["request"]


async def test_all_kinds_and_ties_come_back(tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    call = {"direction": "inbound", "phone": "12025550101", "duration": 9, "source": "pbx"}
    phone = [{"field_code": "PHONE", "values": [{"value": "+12025550101"}]}]
    complex_lead = {"name": "A", "_embedded": {"contacts": [{"name": "Ada", "custom_fields_values": phone}]}}
    async with kommo_and_client(ledger=file) as (kommo, http):
        (told,) = (await http.post("/leads/complex", json=[complex_lead])).json()
        await http.patch(f"/leads/{told['id']}", json={"price": 7, "_embedded": {"tags": [{"name": "VIP"}]}})
        (task,) = await make(http, "tasks", {"text": "Call", "complete_till": 1_900_000_000})
        await http.post("/calls", json=[call])
        paths = [f"/leads/{told['id']}?with=contacts", f"/leads/{told['id']}/notes", f"/tasks/{task}"]
        before = [(await http.get(path)).text.replace(kommo.base_url, "") for path in paths]
        ledger = list(kommo.ledger.lines())
    async with kommo_and_client(ledger=file) as (kommo, http):
        assert list(kommo.ledger.lines()) == ledger
        assert [(await http.get(path)).text.replace(kommo.base_url, "") for path in paths] == before
        (second,) = await make(http, "leads", {"_embedded": {"tags": [{"name": "VIP"}]}})
        tags = [(await http.get(f"/leads/{lead}")).json()["_embedded"]["tags"] for lead in (told["id"], second)]
        assert tags[0] == tags[1]


async def test_what_was_cut_short_did_not_happen_and_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    async with kommo_and_client(ledger=file) as (_, http):
        await make(http, "leads", {"name": "A"})
        await make(http, "leads", {"name": "B"})
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:50])
    async with kommo_and_client(ledger=file) as (kommo, http):
        assert [effect.item["name"] for effect in kommo.ledger.effects] == ["A"]
        await make(http, "leads", {"name": "C"})
    ledger = Ledger(file)
    assert [effect.item["name"] for effect in ledger.effects] == ["A", "C"]
    ledger.close()
    file.write_bytes(b'{"other": 1}\n')
    with pytest.raises(LedgerError, match="line 1"):
        Ledger(file)
    async with simulated_kommo(ledger=tmp_path / "used"):
        with pytest.raises(LedgerError, match="in use"):
            Ledger(tmp_path / "used")
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(tmp_path / "nowhere" / "ledger")


async def test_it_is_read_by_account_and_from_a_number_on() -> None:
    async with kommo_and_client() as (kommo, http), client(kommo, OTHER) as other:
        await make(http, "leads", {"name": "A"}, {"name": "B"})
        await make(other, "contacts", {"name": "C"})
        door = f"{kommo.base_url}/_simulator/ledger"

        async def names(**params: int) -> list[str]:
            answer = await http.get(door, params=params)
            return [orjson.loads(line)["item"]["name"] for line in answer.content.splitlines()]

        assert await names() == ["A", "B", "C"]
        assert await names(account=OTHER) == ["C"]
        assert await names(after=1) == ["B", "C"]
        assert (await http.get(door, params={"account": "x"})).status_code == 400
        assert [effect.id for effect in kommo.ledger.of(OTHER)] == [kommo.ledger.effects[2].id]
        assert not kommo.ledger.of(OTHER, "lead")


async def test_a_client_that_left_was_not_answered() -> None:
    async with simulated_kommo(limits=UNLIMITED, mischief=ApiMischief(latency=1.0)) as kommo:
        async with client(kommo, read_seconds=0.5) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.post("/leads", json=[{"name": "A"}])
        (effect,) = kommo.ledger.effects
        while effect.delivered is None:
            await asyncio.sleep(0.01)
    assert (effect.status, effect.delivered) == (200, False)


async def test_hundreds_of_accounts_live_in_one_process() -> None:
    async with kommo_and_client() as (kommo, http):

        async def work(account: int) -> int:
            headers = {"Authorization": f"Bearer {kommo.token(account)}"}
            answer = await http.post("/leads", json=[{"name": f"{account}"}], headers=headers)
            identifier: int = answer.json()["_embedded"]["leads"][0]["id"]
            if account % 25 == 0:
                listed = (await http.get("/leads", headers=headers)).json()["_embedded"]["leads"]
                assert [(lead["name"], lead["account_id"]) for lead in listed] == [(f"{account}", account)]
            return identifier

        made = [await work(account) for account in range(1, 251)]
        assert len(set(made)) == 250
        assert Counter(effect.account for effect in kommo.ledger.effects) == Counter(range(1, 251))
