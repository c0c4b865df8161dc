"""aiokafka under uvloop: a connection that the broker closed is a broken connection, not a fault of the program.

Writing to a closed transport, asyncio says nothing and uvloop raises RuntimeError. aiokafka 0.14 expects OSError there,
so the RuntimeError ends one of its background tasks (metadata, heartbeat, fetches), and the client waits for ever, in
silence: https://github.com/aio-libs/aiokafka/issues/1038. A projector was seen to stand still after a broker came back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_REPAIRED = "__kommo_streams_repaired__"


def repair() -> None:
    """Make aiokafka's connections raise KafkaConnectionError for a closed transport; once, however often called."""
    for name in ("send", "_send_sasl_token"):
        method = getattr(AIOKafkaConnection, name)
        if not hasattr(method, _REPAIRED):
            setattr(AIOKafkaConnection, name, _broken_if_closed(method))


def _broken_if_closed(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def send(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error

    setattr(send, _REPAIRED, True)
    return send
