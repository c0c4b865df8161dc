"""A request that was let in, stored in kommo.webhooks: acknowledged by all in-sync replicas, within a bounded wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka.errors import KafkaError, KafkaTimeoutError

from gateway.answers import not_now
from runtime.health import Scope
from runtime.logs import logger
from runtime.metrics import ANSWER_SECONDS, DELIVERIES, DELIVERY_BYTES
from schemas.delivery import Delivery, Door
from schemas.identity import new_delivery_id

log = logger(__name__)

Store = Callable[[Delivery], Awaitable[Any]]


class Intake:
    """What the doors share. `store` returns a future of Kafka's acknowledgement, waited for `ack_seconds`."""

    def __init__(self, store: Store, *, ack_seconds: float) -> None:
        self._store = store
        self._ack_seconds = ack_seconds

    async def take(
        self, scope: Scope, headers: Mapping[bytes, bytes], account_id: int, body: bytes, door: Door = "webhook"
    ) -> None:
        """Store a delivery of an account and return once it is safe. Raises Problem 503 where it is not."""
        start = time.monotonic()
        client = scope.get("client")
        delivery = Delivery(
            account_id,
            new_delivery_id(),
            time.time_ns() // 1000,
            body,
            content_type=_text(headers.get(b"content-type")),
            request_id=_text(headers.get(b"x-amocrm-requestid")),
            user_agent=_text(headers.get(b"user-agent")),
            remote_address=client[0] if client else "",
            door=door,
        )
        try:
            async with asyncio.timeout(self._ack_seconds):
                await (await self._store(delivery))
        except (TimeoutError, KafkaTimeoutError) as error:
            late = f"Kafka did not acknowledge the delivery within {self._ack_seconds:g} s"
            raise not_now(late, delivery.delivery_id) from error
        except (KafkaError, OSError) as error:
            raise not_now("Kafka did not take the delivery", delivery.delivery_id) from error
        ANSWER_SECONDS.observe(time.monotonic() - start)
        DELIVERIES.inc()
        DELIVERY_BYTES.inc(len(body))
        log.debug("accepted", correlation_id=delivery.delivery_id, bytes=len(body))


def _text(value: bytes | None) -> str:
    return value.decode("latin-1") if value else ""
