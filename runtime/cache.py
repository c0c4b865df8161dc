"""Redis as a cache: a read that fails is a miss, a write that fails is forgotten, and neither is waited for long."""

from __future__ import annotations

import time
from typing import cast

import redis.asyncio as redis
from redis.exceptions import RedisError

from runtime.logs import logger
from runtime.metrics import CACHE
from runtime.settings import Settings

log = logger(__name__)

_PATIENCE_SECONDS = 0.1
_CONNECT_SECONDS = 0.5  # a TLS handshake is more than one way there and back
_REST_SECONDS = 2.0


class Cache:
    """Bytes by key for a short time. Without Redis, or while it is away, everything is a miss."""

    def __init__(self, settings: Settings) -> None:
        url = settings.redis_url
        self._resting_until = 0.0
        self._redis: redis.Redis | None = None
        if url is not None:
            pool = redis.BlockingConnectionPool.from_url(
                url.get_secret_value(),
                max_connections=32,
                timeout=_PATIENCE_SECONDS,
                socket_timeout=_PATIENCE_SECONDS,
                socket_connect_timeout=_CONNECT_SECONDS,
            )
            self._redis = redis.Redis.from_pool(pool)

    async def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None."""
        if self._redis is None or time.monotonic() < self._resting_until:
            CACHE.labels("off").inc()
            return None
        try:
            value = cast("bytes | None", await self._redis.get(key))
        except (RedisError, OSError, TimeoutError) as error:
            self._rest(error)
            return None
        CACHE.labels("miss" if value is None else "hit").inc()
        return value

    async def put(self, key: str, value: bytes, milliseconds: int) -> None:
        """Keep a value for a number of milliseconds."""
        if self._redis is None or time.monotonic() < self._resting_until:
            return
        try:
            await self._redis.set(key, value, px=milliseconds)
        except (RedisError, OSError, TimeoutError) as error:
            self._rest(error)

    async def close(self) -> None:
        """Give the connections back."""
        if self._redis is not None:
            await self._redis.aclose()

    def _rest(self, error: Exception) -> None:
        # One slow answer in two seconds, not one for each request.
        CACHE.labels("error").inc()
        if time.monotonic() >= self._resting_until:
            self._resting_until = time.monotonic() + _REST_SECONDS
            log.warning("the cache is away, reading without it", error=type(error).__name__)
