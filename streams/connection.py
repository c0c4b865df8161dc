"""How every Kafka client of the project connects: one place for addresses, SASL and TLS."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from aiokafka.helpers import create_ssl_context

from runtime.process import StartError
from runtime.settings import PREFIX, Settings
from streams.uvloop_repair import repair

repair()


def connection(settings: Settings, client_id: str) -> dict[str, Any]:
    """Return the keyword arguments that all aiokafka clients share.

    Raises StartError where a certificate file cannot be read, or a SASL protocol has no user or password.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "client_id": f"kommo-streams-{client_id}",
        "security_protocol": settings.kafka_security_protocol,
        "metadata_max_age_ms": 30_000,
    }
    if settings.kafka_security_protocol in ("SSL", "SASL_SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL_"):
        if settings.kafka_sasl_username is None or settings.kafka_sasl_password is None:
            raise StartError(
                f"{settings.kafka_security_protocol} needs {PREFIX}KAFKA_SASL_USERNAME and {PREFIX}KAFKA_SASL_PASSWORD"
            )
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password.get_secret_value()
    return options


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=settings.kafka_ssl_cafile,
            certfile=settings.kafka_ssl_certfile,
            keyfile=settings.kafka_ssl_keyfile,
        )
    except OSError as error:
        raise StartError(f"cannot read Kafka's TLS files ({error}): see {PREFIX}KAFKA_SSL_CAFILE and its kin") from None
    return context


STOP_SECONDS = 2.0


async def started(client: Any) -> None:
    """Start an aiokafka client; one that cannot start is closed again, as aiokafka leaves that to its caller.

    Raises what `start` raises: KafkaError or OSError where the cluster is away.
    """
    try:
        await client.start()
    except BaseException:
        await stopped(client)
        raise


async def stopped(client: Any) -> bool:
    """Stop an aiokafka client; False where it did not end within STOP_SECONDS, as may be while Kafka is away."""
    # In a task of its own: a consumer that waits to try a fetch again makes aiokafka's stop raise CancelledError.
    ending = asyncio.ensure_future(client.stop() if hasattr(client, "stop") else client.close())
    await asyncio.wait([ending], timeout=STOP_SECONDS)
    if not ending.done():
        ending.cancel()
        return False
    return ending.cancelled() or ending.exception() is None
