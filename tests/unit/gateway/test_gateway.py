"""The gateway without a Kafka."""

from __future__ import annotations

from gateway.process import gateway
from tests.support.gateway import client_of, opened, path, without_kafka
from tests.support.waiting import running


async def test_without_kafka_it_starts_and_answers_503() -> None:
    settings = without_kafka()
    async with running(lambda stop: gateway(settings, stop)), client_of(settings) as client:
        await opened(settings)
        answer = await client.post(path(settings), content=b"a=1")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["error_class"] == "external_service"
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert set(ready.json()["not_ready"]) >= {"kafka", "accounts"}
        assert (await client.get("/livez")).status_code == 200
