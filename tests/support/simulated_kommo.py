"""The simulated Kommo as a process of its own, which may be killed: its ledger outlives it."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import httpx
import orjson

from simulator.api.ledger import Effect
from tests.support import ROOT
from tests.support.launching import service
from tests.support.ports import free_port
from tests.support.waiting import eventually


class SimulatedKommo:
    """`kommo-streams simulate-api` on a port and a ledger file that stay the same."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._ledger, self._log = folder / "kommo.ledger", folder / "kommo.log"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        program = service("simulate-api", "--port", str(self.port))
        options = ["--rate-limit", "none", "--ledger", str(self._ledger), "--no-webhooks"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*program, *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        await eventually(self._answers, 40, "the simulated Kommo answers")

    async def _answers(self) -> bool:
        try:
            return (await self._ask("GET", "/_simulator")).status_code == 200
        except httpx.TransportError:
            await asyncio.sleep(0.1)
            return False

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as client:
            return await client.request(method, path, **more)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def mischief(self, account: int | None = None, **wanted: Any) -> None:
        """Let go wrong what is asked for, for one account or all."""
        params = {} if account is None else {"account": account}
        answer = await self._ask("PUT", "/_simulator/mischief", params=params, json=wanted)
        assert answer.status_code < 300, answer.text

    async def effects(self) -> list[Effect]:
        """Everything that it really did."""
        answer = await self._ask("GET", "/_simulator/ledger")
        assert answer.status_code == 200
        return [Effect(**orjson.loads(line)) for line in answer.content.splitlines()]

    async def token(self, account: int) -> str:
        """Return a long-lived token of an account."""
        answer = await self._ask("POST", "/_simulator/token", params={"account": account})
        assert answer.status_code < 300, answer.text
        token: str = answer.json()["token"]
        return token
