"""What tests of the gateway share, with servers and without."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from prometheus_client import REGISTRY

from gateway.tokens import Keyring, Token
from runtime.settings import Settings
from tests.support.installation import installation
from tests.support.servers import Servers
from tests.support.waiting import eventually

ACCOUNT = 16700680
NO_KAFKA = "127.0.0.1:1"
_NONE = "postgresql://127.0.0.1:1/none"


def without_kafka(**more: Any) -> Settings:
    """Settings of a gateway whose Kafka is not there: nothing listens on that port."""
    return installation(Servers(NO_KAFKA, _NONE, "redis://127.0.0.1:1/0"), _NONE).model_copy(update=more)


def path(settings: Settings, account: int = ACCOUNT, generation: int = 1) -> str:
    return f"/webhooks/{Keyring.from_settings(settings).sign(Token(account, generation))}"


def client_of(settings: Settings) -> httpx.AsyncClient:
    """An HTTP client of the gateway with these settings."""
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{settings.gateway_port}",
        timeout=20,
        headers={"x-request-id": "of-a-test"},  # so that two errors are alike but for what makes them different
    )


async def is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def opened(settings: Settings) -> None:
    """Wait until the gateway listens, and is ready where it has a Kafka."""

    async def open_() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", settings.gateway_port)
        except OSError:
            return False
        writer.close()
        return True

    await eventually(open_)
    if settings.kafka_bootstrap_servers != NO_KAFKA:
        async with client_of(settings) as client:
            await eventually(lambda: is_ready(client))


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"kommo_streams_gateway_{name}", labels)


def shown() -> tuple[float | None, ...]:
    """What the metrics say of bad answers: accounts with 50 and more, with 100 and more, and the worst one's."""
    near = "accounts_near_disabling"
    return metric(near, threshold="50"), metric(near, threshold="100"), metric("worst_account_bad_answers")
