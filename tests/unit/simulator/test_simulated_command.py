from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from runtime.settings import Settings
from simulator.addresses import by_account, token_account
from simulator.commands import _progress, simulate
from simulator.sender import Manner, Sender
from tests.support.waiting import eventually
from tests.unit.simulator.door import ACCOUNT, TOKEN, Door, standing, standing_beside


@pytest.mark.parametrize(
    ("url", "account"),
    [
        (f"https://x/webhooks/{TOKEN}", 16700680),
        (f"https://x/webhooks/{TOKEN}/", 16700680),
        (f"https://x/a/{TOKEN}?b=1.2.3.4", 16700680),
        ("https://x/webhooks/secret", None),
        ("https://x/webhooks/a.b.c.d", None),
        ("https://1.2.3.4", None),
    ],
)
def test_the_account_is_read_from_the_token(url: str, account: int | None) -> None:
    assert token_account(url) == account


def test_addresses_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "addresses"
    file.write_text(f"https://x/{TOKEN}\nhttps://x/k1.5.1.c2lnbmF0dXJl\n")
    found = by_account([f"@{file}", "https://x/k1.6.1.c2ln"], Settings(), None, None)
    assert list(found) == [16700680, 5, 6]
    assert found[5] == "https://x/k1.5.1.c2lnbmF0dXJl"


def command(*arguments: str, address: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(simulate, list(arguments), env={"KOMMO_STREAMS_WEBHOOK_URL": address})
    assert "Traceback" not in result.output
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "0"], "--rate"),
        (["--count", "0"], "--count"),
        (["--url", "ftp://x/webhooks/a.1.b.c"], "not an http:// or https:// address"),
        (["--url", "http://[x/webhooks/a.1.b.c"], "not an http:// or https:// address"),
        (["--url", f"http://127.0.0.1:9/{TOKEN}", "--account", "5"], "belongs to account 16700680"),
        (["--url", f"http://127.0.0.1:9/{TOKEN}", "--accounts", "2"], "each needs its own"),
        (["--url", f"http://127.0.0.1:9/{TOKEN}", "--url", f"http://127.0.0.1:8/{TOKEN}"], "only 1 name an account"),
        (["--url", f"http://9/{TOKEN}", "--url", "http://9/k1.2.1.c2lnbmF0dXJl", "--account", "2"], "one address only"),
        (["--url", "@/nowhere/addresses"], "the file cannot be read"),
        (["--url", f"http://127.0.0.1:9/{TOKEN}", "--truth", "/nowhere/truth.json"], "there is no folder /nowhere"),
        (["--url", f"http://127.0.0.1:9/{TOKEN}", "--year", "1999"], "2016"),
        (["--url", f"http://127.0.0.1:9/{TOKEN}", "--losses", "2"], "--losses"),
        ([], "KOMMO_STREAMS_WEBHOOK_URL"),
    ],
)
def test_wrong_arguments_are_exit_code_2(arguments: list[str], said: str) -> None:
    code, output = command(*arguments)
    assert code == 2
    assert said in " ".join(output.split())
    assert "a.1.b.c" not in output
    assert "c2lnbmF0dXJl" not in output


def _command(url: str, *arguments: str) -> tuple[int, str]:
    """Run the command in this process, while the door stands in a thread beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulator.commands.Manner", partial(Manner, timeout=60.0))  # for a busy machine
        code, output = command(*arguments, address=url)
    assert "c2lnbmF0dXJl" not in output
    return code, output


async def test_as_a_process_it_sends_and_ends_with_0_on_sigterm() -> None:
    door = Door()
    async with standing(door) as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from simulator.commands import simulate; simulate()", "--rate", "50"),
            env={"KOMMO_STREAMS_WEBHOOK_URL": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            await eventually(lambda: len(door.bodies) > 5, 60)
            process.send_signal(signal.SIGTERM)
            output, _ = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0
    assert b"c2lnbmF0dXJl" not in output
    assert output.startswith(b"sent ")
    assert len(output.splitlines()) == 1


def test_the_command_sends_counts_and_ends_with_0() -> None:
    door = Door()
    with standing_beside(door) as url:
        code, output = _command(url, "--count", "20", "--rate", "200", "--seed", "7")
    assert code == 0
    assert len(door.bodies) == 20
    assert all(b"account%5Bid%5D=16700680" in body for body in door.bodies)
    assert output.startswith("sent 20 in ")
    assert "20 accepted; account 16700680, seed 7" in output


def test_an_address_that_is_not_valid_ends_the_command_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.commands._PROGRESS_SECONDS", 0.05)
    with standing_beside(Door(status=lambda _: 404)) as url:
        code, output = _command(url, "--rate", "50")
    assert code == 1
    assert "the webhook address is not valid" in output
    assert "disabled" not in output  # it ended long before a hundred failures


def test_a_gateway_that_is_not_there_ends_the_command_with_1() -> None:
    with standing_beside(Door()) as url:
        pass
    code, output = _command(url, "--rate", "50", "--count", "3")
    assert code == 1
    assert "cannot be reached" in output


def test_one_accepted_delivery_is_enough_for_0() -> None:
    with standing_beside(Door(status=lambda number: 200 if number == 1 else 404)) as url:
        code, output = _command(url, "--rate", "100", "--count", "20", "--speed", "10000")
    assert code == 0
    assert ": 20 new, 38 retried; 1 accepted, 57 answered 404, 19 given up; account" in output


def test_the_progress_tells_what_was_sent_and_fits_into_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Sender({ACCOUNT: ""}, Manner(rate=1))
    counts = sender.counts
    counts.sent, counts.repeats, counts.attempts_again, counts.garbage, counts.lost = 80, 12, 5, 3, 2
    counts.answers.update({200: 74, 503: 5})
    whole = "sent 80: 60 new, 12 repeated, 5 retried, 3 garbage; 74 accepted, 5 refused or unanswered; 2 lost"
    monkeypatch.setenv("COLUMNS", "200")
    assert _progress(sender) == whole
    monkeypatch.setenv("COLUMNS", "60")
    assert _progress(sender) == whole[:59]


def test_several_accounts_and_the_truth_about_them(tmp_path: Path) -> None:
    door = Door()
    truth = tmp_path / "truth.json"
    with standing_beside(door) as url:
        urls = " ".join(url.replace("16700680", str(account)) for account in (16700680, 16700681, 16700682))
        switches = ["--repeats", "0.1", "--garbage", "0.1", "--year", "2017", "--year", "2026", "--speed", "100000"]
        arguments = ["--accounts", "2", "--count", "100", "--rate", "1000", "--truth", str(truth), *switches]
        code, output = _command(urls, *arguments)
    assert code == 0, output
    assert "accounts 16700680, 16700681, seed" in output
    told = orjson.loads(truth.read_bytes())
    assert told["version"] == 1
    assert set(told["accounts"]) == {"16700680", "16700681"}
    assert sum(sum(account["deliveries"].values()) for account in told["accounts"].values()) >= 100
    assert any(b"account%5Bid%5D=16700681" in body for body in door.bodies)
    agents = {headers[b"user-agent"] for headers in door.headers}
    assert agents == {b"amoCRM-WebHook-client/2.0", b"amoCRM-Webhooks/3.0"}


def test_a_disabled_webhook_ends_the_command_with_1() -> None:
    door = Door(status=lambda number: 200 if number == 1 else 500)
    with standing_beside(door) as url:
        code, output = _command(url, "--rate", "1000", "--speed", "1000")
    assert code == 1
    assert "account 16700680: Kommo has disabled the webhook" in output
    assert "all webhooks were disabled" in output
