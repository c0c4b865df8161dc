"""Without the extra `worker`: what needs it says so, and everything else works."""

import asyncio
import os
import re
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from runtime.settings import Settings
from service.extras import WORKER
from tests.support.processes import SCRIPTS

ABSENT = ",".join((*WORKER, "mode", "sentry_sdk"))
TOKEN_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
INSTALL = "pip install 'kommo-streams[worker]'"

Run = Callable[..., Coroutine[Any, Any, tuple[int, str, str]]]


@pytest.fixture
def run(settings: Settings) -> Run:
    """Run a command line without the extra, on servers: exit code, output, errors."""
    told = {
        "KOMMO_STREAMS_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "KOMMO_STREAMS_KAFKA_PREFIX": settings.kafka_prefix,
        "KOMMO_STREAMS_DATABASE_URL": settings.database_url.get_secret_value(),
        "KOMMO_STREAMS_TOKEN_KEYS": TOKEN_KEY,
    }

    async def work(*arguments: str, given: str = "") -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(SCRIPTS / "without.py"), ABSENT, *arguments),
            env={**os.environ, **told},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate(given.encode())
        assert "Traceback" not in errors.decode()
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()

    return work


async def test_the_worker_says_what_to_install(run: Run) -> None:
    code, _, errors = await run("worker")
    assert code == 2
    assert INSTALL in errors
    assert len(errors.splitlines()) == 1


async def test_a_token_cannot_be_kept_without_it_and_accounts_can_be_listed(run: Run) -> None:
    connect = ("account", "connect", "--url", "http://127.0.0.1:1", "--token-file", "-")
    code, _, errors = await run(*connect, given="a-token-that-is-long-enough")
    assert code == 2
    assert INSTALL in errors
    assert (await run("account", "list", "--json"))[:2] == (0, "[]\n")


async def test_commands_can_be_asked_for_without_it(run: Run) -> None:
    assert (await run("init"))[0] == 0  # makes the agents' tables and topics too
    code, output, errors = await run("command", "send", "create_lead", "--account", "1", "name=A deal")
    assert (code, errors) == (0, "")
    assert re.fullmatch(r"[0-9a-f-]{36}\n", output)
    assert (await run("command", "list"))[:2] == (0, "")  # no worker has taken it on
