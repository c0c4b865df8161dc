"""One request: posted as Kommo does, within 2 seconds, without following redirects. Addresses are never logged."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping

import httpx

from runtime.http_transport import HttpTransport


class Poster:
    """Posts bodies over connections that it keeps. Close it within the loop that it was used in."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._idle: list[httpx.AsyncClient] = []
        self._tls = ssl.create_default_context()
        logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes the whole address of every request

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Return the status of the answer. Raises TimeoutError and httpx.HTTPError."""
        client = self._idle.pop() if self._idle else self._connection()
        try:
            async with asyncio.timeout(self._timeout):  # the whole exchange; httpx would limit each step of it
                answer = await client.post(url, content=body, headers=dict(headers))
            return answer.status_code
        finally:
            self._idle.append(client)

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(client.aclose() for client in self._idle))

    def _connection(self) -> httpx.AsyncClient:
        """Return a client of one connection: httpx looks at all connections of a client for each request."""
        return httpx.AsyncClient(
            transport=HttpTransport(limits=httpx.Limits(max_connections=1), trust_env=False, verify=self._tls),
            timeout=None,  # noqa: S113 post limits the whole exchange
            trust_env=False,
        )
