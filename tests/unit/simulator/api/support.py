"""A simulated Kommo, and clients of its accounts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from simulator.api import Limits, Running, simulated_kommo

ACCOUNT = 16700680
OTHER = 27001234
UNLIMITED = Limits(rate=None)

Json = dict[str, Any]


@contextlib.asynccontextmanager
async def client(
    running: Running,
    account: int = ACCOUNT,
    *,
    read_seconds: float = 20,
    token: str | None = None,
    address: str | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client with an account's long-lived token; `address` is the local one that it comes from."""
    async with httpx.AsyncClient(
        base_url=f"{running.base_url}/api/v4",
        headers={"Authorization": f"Bearer {token or running.token(account)}"},
        timeout=httpx.Timeout(20, read=read_seconds),
        transport=httpx.AsyncHTTPTransport(local_address=address, verify=False),  # plain HTTP: no certificates to load
    ) as http:
        yield http


@contextlib.asynccontextmanager
async def kommo_and_client(**settings: Any) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """A simulated Kommo without limits (unless there are some), and a client of ACCOUNT."""
    async with simulated_kommo(**{"limits": UNLIMITED, **settings}) as running, client(running) as http:
        yield running, http


def ids(answer: httpx.Response, kind: str) -> list[int]:
    """The ids in an answer."""
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["_embedded"][kind]]


async def make(http: httpx.AsyncClient, kind: str, *items: Json) -> list[int]:
    """Make entities and return their ids."""
    return ids(await http.post(f"/{kind}", json=list(items)), kind)


def issues(answer: httpx.Response) -> list[tuple[str, str, str]]:
    """The request id, code and path of each thing that was wrong."""
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["title"], told["status"], told["type"]) == ("Bad Request", 400, "https://httpstatus.es/400")
    return [
        (one["request_id"], error["code"], error["path"])
        for one in told["validation-errors"]
        for error in one["errors"]
    ]
