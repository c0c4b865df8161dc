"""The reference for the gateway: a bare ASGI handler that does the same produce, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import uvicorn
import uvloop
from aiokafka import AIOKafkaProducer

from runtime.settings import load_settings
from streams.topics import WEBHOOKS, physical


async def main() -> None:
    settings = load_settings()
    topic = physical(settings, WEBHOOKS)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        enable_idempotence=True,
        acks="all",
        compression_type="zstd",
        max_request_size=2 * 1024 * 1024,
    )
    await producer.start()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["method"] == "POST":
            await (await producer.send(topic, body, key=b"16700680"))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=settings.gateway_port,
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
    with contextlib.suppress(KeyboardInterrupt):
        await uvicorn.Server(config).serve()
    await producer.stop()


if __name__ == "__main__":
    uvloop.run(main())
    asyncio.set_event_loop(None)
