"""The PostgreSQL pool."""

from __future__ import annotations

from typing import Any

import asyncpg

from runtime.classify import classify, failing_as
from runtime.settings import Settings
from schemas.errors import ErrorClass


def _options(settings: Settings, application: str) -> dict[str, Any]:
    return {
        "dsn": settings.database_url.get_secret_value(),
        "timeout": 5,
        "command_timeout": 35,
        "server_settings": {
            "application_name": f"kommo-streams {application}",
            "timezone": "UTC",
            "statement_timeout": "30000",
            "idle_in_transaction_session_timeout": "15000",
        },
    }


async def connect(settings: Settings, *, application: str) -> Any:
    """Open one connection (an `asyncpg.Connection`). Raises one of AWAY where the server is away."""
    return await _connect(**_options(settings, application))


async def _connect(*args: Any, **options: Any) -> Any:
    with failing_as(ErrorClass.DATABASE):
        return await asyncpg.connect(*args, **options)


async def open_pool(settings: Settings, *, application: str, size: int | None = None) -> Any:
    """Open a pool of connections (an `asyncpg.Pool`); TLS is asked for in the URL, as in libpq.

    Connections are made when first needed, so a server that is away at this moment raises only on use, one of AWAY.
    Every statement is bounded to 30 s by the server.
    """
    return await asyncpg.create_pool(
        **_options(settings, application),
        connect=_connect,
        min_size=0,
        max_size=size or settings.database_pool_size,
    )


# InternalClientError is what asyncpg makes of a connection that ends at the wrong moment.
AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a server that is away, full, restarting or failing over raises: worth another try, unless it is `refused`."""


def refused(error: Exception) -> bool:
    """Whether PostgreSQL, or asyncpg on its way there, refused a value: no further try will make it storable."""
    return classify(error) is ErrorClass.VALIDATION
