"""The PostgreSQL pool."""

from __future__ import annotations

from typing import Any

import asyncpg

from runtime.settings import Settings


async def open_pool(settings: Settings, *, application: str, size: int | None = None) -> Any:
    """Open a pool of connections to PostgreSQL (an `asyncpg.Pool`); TLS is asked for in the URL, as in libpq.

    Connections are made when first needed, so a server that is away at this moment raises only on use: OSError,
    TimeoutError or asyncpg.PostgresError. Every statement is bounded to 30 s by the server.
    """
    return await asyncpg.create_pool(
        settings.database_url.get_secret_value(),
        min_size=0,
        max_size=size or settings.database_pool_size,
        timeout=5,
        command_timeout=35,
        server_settings={
            "application_name": f"kommo-streams {application}",
            "timezone": "UTC",
            "statement_timeout": "30000",
            "idle_in_transaction_session_timeout": "15000",
        },
    )


# What a server that is away, restarting, or refusing for now raises; worth another try later.
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)
