"""The gateway beside a bare ASGI handler that does the same produce."""

from __future__ import annotations

from bench.report import Report, compare
from bench.world import bodies, free_port, installation, load, process, webhook_path
from service.embedded import Addresses


async def run(addresses: Addresses, report: Report, rounds: int) -> None:
    """Deliveries a second through 64 connections, one process each, in turn."""
    async with installation(addresses) as settings:
        bare = settings.model_copy(update={"gateway_port": free_port()})
        items = [body for account, body in bodies(2000) if account == 16700680]
        path = webhook_path(settings)
        async with (
            process(settings, "service", "gateway", port=settings.gateway_port),
            process(bare, "bench.bare_door", port=bare.gateway_port),
        ):
            await compare(
                report,
                "gateway, deliveries",
                lambda: load(settings.gateway_port, path, items, 20_000),
                lambda: load(bare.gateway_port, path, items, 20_000),
                "bare ASGI handler, same produce",
                0.7,
                rounds,
            )
