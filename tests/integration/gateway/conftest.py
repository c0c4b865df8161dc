"""A gateway on the real Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.process import gateway
from runtime.settings import Settings
from tests.integration.gateway.support import opened
from tests.support.waiting import running


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of a gateway that is ready."""
    async with (
        running(lambda stop: gateway(settings, stop)),
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{settings.gateway_port}",
            timeout=20,
            headers={"x-request-id": "of-a-test"},  # so that two errors are alike but for what makes them different
        ) as client,
    ):
        await opened(settings)
        yield client
