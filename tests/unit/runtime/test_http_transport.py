"""A peer that resets connections as soon as they are there, under uvloop: each request is one failed connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator

import httpx
import pytest
import uvloop

from agents.kommo.problems import KommoError
from agents.kommo.wire import Call, exchange, open_http
from runtime.http_transport import HttpTransport
from runtime.settings import Settings
from schemas.errors import ErrorClass
from simulator.poster import Poster
from tests.support.installation import KEYS

AT_ONCE = 8
MOST_ROUNDS = 200  # some 18 of 100 connections are lost in the moment that is meant

Failures = Callable[[str], Awaitable[list[BaseException]]]


@pytest.fixture
def resetting() -> Iterator[str]:
    """The address of a server that answers every connection with RST."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


async def _raised(*requests: Awaitable[object]) -> list[BaseException]:
    told = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(error, Exception) for error in told)
    return [error for error in told if isinstance(error, BaseException)]


async def _of_httpx(url: str) -> list[BaseException]:
    async with httpx.AsyncClient(transport=HttpTransport()) as client:
        return await _raised(*(client.get(url) for _ in range(AT_ONCE)))


async def _of_the_simulated_kommo(url: str) -> list[BaseException]:
    poster = Poster(timeout=5)
    try:
        return await _raised(*(poster.post(url, b"x=1", {}) for _ in range(AT_ONCE)))
    finally:
        await poster.close()


async def _of_the_api_client(url: str) -> list[BaseException]:
    settings = Settings(kafka_bootstrap_servers="none:1", gateway_keys=KEYS)
    async with open_http(settings) as http:
        call = Call(1, "POST", "POST /leads", url, b"{}")
        return await _raised(*(exchange(http, call, seconds=5) for _ in range(AT_ONCE)))


@pytest.mark.parametrize("failures", [_of_httpx, _of_the_simulated_kommo, _of_the_api_client])
def test_a_connection_that_is_reset_at_once_has_failed(resetting: str, failures: Failures) -> None:
    async def main() -> None:
        for _ in range(MOST_ROUNDS):
            told = await failures(resetting)
            for error in told:
                assert isinstance(error, (httpx.HTTPError, KommoError)), repr(error)
                if isinstance(error, KommoError):
                    assert error.error_class is ErrorClass.EXTERNAL_SERVICE
            if any(_certainly_not_sent(error) for error in told):
                return
        pytest.fail("no connection was lost in the moment that is meant")

    uvloop.run(main())


def _certainly_not_sent(error: BaseException) -> bool:
    return not error.left if isinstance(error, KommoError) else isinstance(error, httpx.ConnectError)
