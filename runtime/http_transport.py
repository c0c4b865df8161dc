"""httpx's transport, under uvloop too: a connection that is reset as soon as it is there is a failed connection."""

from __future__ import annotations

import httpx


class HttpTransport(httpx.AsyncHTTPTransport):
    """httpx.AsyncHTTPTransport, whose every failure is an httpx.HTTPError.

    uvloop has no socket any more for a connection that was closed meanwhile, anyio (4.16) asks it for its peer all the
    same, and httpcore lets the AttributeError pass. It does so before it writes the first byte of a request.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises httpx.HTTPError; ConnectError where it is certain that nothing has left."""
        try:
            return await super().handle_async_request(request)
        except AttributeError as error:
            if error.name != "getpeername" or error.obj is not None:
                raise
            raise httpx.ConnectError("the connection was closed as soon as it was there", request=request) from None
