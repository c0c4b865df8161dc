from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice

import pytest
from click.testing import CliRunner

from runtime.health import ASGIApp, Receive, Scope, Send
from runtime.process import serving
from simulator.commands import simulate, token_account
from simulator.company import SimulatedDelivery, deliveries
from simulator.sender import Sender

TOKEN = "k1.16700680.1.c2lnbmF0dXJl"
START = 1_770_000_000


class Door:
    """A gateway's stand-in that keeps what it gets and answers as it is told."""

    def __init__(self, status: Callable[[int], int] = lambda _: 200, seconds: float = 0.0) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[bytes, bytes]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._status = status
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await self._answer(scope, receive, send)
        finally:
            self._at_once -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.headers.append(dict(scope["headers"]))
        self.bodies.append(body)
        number = len(self.bodies)
        if self._seconds:
            await asyncio.sleep(self._seconds)
        await send({"type": "http.response.start", "status": self._status(number), "headers": []})
        await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def standing(door: ASGIApp) -> AsyncIterator[str]:
    async with serving(door, "127.0.0.1", 0, "a port") as port:
        yield f"http://127.0.0.1:{port}/webhooks/{TOKEN}"


def some(count: int | None) -> Iterator[SimulatedDelivery]:
    return islice(deliveries(1, 16700680, START), count)


async def test_bodies_and_headers_arrive_as_they_are() -> None:
    door = Door()
    async with standing(door) as url:
        counts = await Sender(url, 1000, in_flight=1).run(some(50), asyncio.Event())
    assert counts.sent == counts.accepted == counts.ended == 50
    assert door.bodies == [delivery.body for delivery in some(50)]
    for got, delivery in zip(door.headers, some(50), strict=True):
        assert got[b"user-agent"] == b"amoCRM-Webhooks/3.0"
        assert got[b"content-type"] == b"application/x-www-form-urlencoded"
        assert got[b"x-amocrm-requestid"].decode() == delivery.headers["X-Amocrm-Requestid"]


async def test_answers_are_counted_by_status() -> None:
    door = Door(status=lambda number: {1: 503, 2: 413}.get(number % 5, 200))
    async with standing(door) as url:
        counts = await Sender(url, 500).run(some(50), asyncio.Event())
    assert counts.answers == {200: 30, 503: 10, 413: 10}
    assert counts.accepted == 30
    assert counts.ended == 50
    assert not counts.wrong_address


async def test_a_redirect_is_an_answer_that_is_not_followed() -> None:
    door = Door(status=lambda _: 302)
    async with standing(door) as url:
        counts = await Sender(url, 500).run(some(3), asyncio.Event())
    assert counts.answers == {302: 3}
    assert counts.accepted == 0
    assert len(door.bodies) == 3


async def test_an_answer_after_two_seconds_is_none() -> None:
    door = Door(seconds=2.6)
    began = time.monotonic()
    async with standing(door) as url:
        counts = await Sender(url, 100).run(some(3), asyncio.Event())
        took = time.monotonic() - began
    assert (counts.timed_out, counts.answers) == (3, {})
    assert 2.0 <= took < 2.6


async def test_a_closed_door_is_counted_by_name() -> None:
    async with standing(Door()) as url:
        pass
    counts = await Sender(url, 100).run(some(3), asyncio.Event())
    assert counts.failed == {"ConnectError": 3}
    assert counts.ended == 3


async def test_the_rate_is_kept() -> None:
    async with standing(Door()) as url:
        began = time.monotonic()
        await Sender(url, 40).run(some(41), asyncio.Event())
        took = time.monotonic() - began
    assert 0.95 <= took < 1.6


async def test_no_more_than_allowed_are_under_way() -> None:
    door = Door(seconds=0.05)
    async with standing(door) as url:
        counts = await Sender(url, 5000, in_flight=4).run(some(40), asyncio.Event())
    assert counts.accepted == 40
    assert door.most_at_once == 4


@pytest.mark.parametrize("seconds", [0.0, 1.9])
@pytest.mark.parametrize("rate", [0.05, 500])
async def test_it_stops_within_a_second(seconds: float, rate: float) -> None:
    door = Door(seconds=seconds)
    stop = asyncio.Event()
    async with standing(door) as url:
        running = asyncio.create_task(Sender(url, rate, in_flight=8).run(some(None), stop))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        stop.set()
        counts = await running
        assert time.monotonic() - began < 1.0
    assert 0 < counts.sent == counts.ended


async def test_the_address_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with standing(Door()) as url:
            await Sender(url, 500).run(some(3), asyncio.Event())
    assert TOKEN not in caplog.text


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
        ([], "KOMMO_STREAMS_WEBHOOK_URL"),
    ],
)
def test_wrong_arguments_are_exit_code_2(arguments: list[str], said: str) -> None:
    code, output = command(*arguments)
    assert code == 2
    assert said in " ".join(output.split())
    assert "a.1.b.c" not in output
    assert "c2lnbmF0dXJl" not in output


async def _command(url: str, *arguments: str, until: Callable[[], bool] | None = None) -> tuple[int, str]:
    """Run the command as a process of its own, as its signals are; with `until`: SIGTERM once that is true."""
    program = "from simulator.commands import simulate; simulate()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *arguments),
        env={"KOMMO_STREAMS_WEBHOOK_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(30):
            while until is not None and not until():
                await asyncio.sleep(0.02)
            if until is not None:
                process.send_signal(signal.SIGTERM)
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    assert b"c2lnbmF0dXJl" not in output
    return process.returncode, output.decode()


async def test_the_command_sends_counts_and_ends_with_0() -> None:
    door = Door()
    async with standing(door) as url:
        code, output = await _command(url, "--count", "20", "--rate", "200", "--seed", "7")
    assert code == 0
    assert len(door.bodies) == 20
    assert all(b"account%5Bid%5D=16700680" in body for body in door.bodies)
    assert output.startswith("sent 20 in ")
    assert "20 accepted; account 16700680, seed 7" in output


async def test_the_command_ends_with_0_on_sigterm() -> None:
    door = Door()
    async with standing(door) as url:
        code, output = await _command(url, "--rate", "50", until=lambda: len(door.bodies) > 5)
    assert code == 0
    assert output.startswith("sent ")
    assert len(output.splitlines()) == 1


async def test_an_address_that_is_not_valid_ends_the_command_with_1() -> None:
    door = Door(status=lambda _: 404)
    async with standing(door) as url:
        code, output = await _command(url, "--rate", "50")
    assert code == 1
    assert "the webhook address is not valid" in output


async def test_a_gateway_that_is_not_there_ends_the_command_with_1() -> None:
    async with standing(Door()) as url:
        pass
    code, output = await _command(url, "--rate", "50", "--count", "3")
    assert code == 1
    assert "cannot be reached" in output


async def test_one_accepted_delivery_is_enough_for_0() -> None:
    door = Door(status=lambda number: 200 if number == 1 else 404)
    async with standing(door) as url:
        code, output = await _command(url, "--rate", "100", "--count", "20")
    assert code == 0
    assert "1 accepted, 19 answered 404" in output
