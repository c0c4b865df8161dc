"""GET /integrations/disabled without a Kafka."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr

from gateway.disabled import DisabledDoor
from gateway.intake import Intake
from gateway.process import gateway
from runtime.process import StartError
from schemas.delivery import Delivery
from tests.support.gateway import ACCOUNT, client_of, opened, without_kafka
from tests.support.waiting import running
from tests.unit.gateway.test_integrations import CLIENT, OTHER_SECRET, SECRET, integrations, signed

DOOR = "/integrations/disabled"


async def test_a_wrong_setting_ends_the_start() -> None:
    settings = without_kafka(integrations=SecretStr(f"{SECRET}:{CLIENT}"))
    with pytest.raises(StartError, match="INTEGRATIONS") as error:
        async with running(lambda stop: gateway(settings, stop)):
            pass
    assert SECRET not in str(error.value)


async def test_without_kafka_a_genuine_call_gets_503_and_others_404() -> None:
    settings = without_kafka(integrations=SecretStr(f"{CLIENT}:{SECRET}"))
    async with running(lambda stop: gateway(settings, stop)), client_of(settings) as client:
        await opened(settings)
        answer = await client.get(f"{DOOR}?{signed(ACCOUNT)}")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await client.get(f"{DOOR}?{signed(ACCOUNT, secret=OTHER_SECRET)}")).status_code == 404


async def test_nothing_is_written_before_the_topics_are_known_to_be_there() -> None:
    stored: list[Delivery] = []

    async def store(delivery: Delivery) -> None:
        stored.append(delivery)  # a broker might make the topic for it, with other settings than ours

    door = DisabledDoor(integrations(), Intake(store, ack_seconds=1), ready=lambda: False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://gateway") as client:
        assert (await client.get(f"{DOOR}?{signed(ACCOUNT)}")).status_code == 503
    assert stored == []
