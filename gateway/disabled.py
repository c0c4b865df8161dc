"""GET /integrations/disabled: Kommo tells the maker of an integration that an account disabled it.

What was said is stored as a webhook is, then answered with 200; the signature is not stored, since whoever reads it
could send it again. A closed account and a revoked webhook address do not matter here: Kommo has signed this call.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.answers import accept, not_now, refuse
from gateway.intake import Intake
from gateway.integrations import Integrations
from runtime.health import Receive, Scope, Send
from runtime.problem import Problem
from schemas.errors import ErrorClass

PATHS = frozenset({"/integrations/disabled", "/integrations/disabled/"})


class DisabledDoor:
    """The ASGI app of PATHS. `ready` says whether the topic is known to be there."""

    def __init__(self, integrations: Integrations, intake: Intake, *, ready: Callable[[], bool]) -> None:
        self._integrations = integrations
        self._intake = intake
        self._ready = ready

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await self._take(scope)
            await accept(send)
        except Problem as problem:
            await refuse(scope, send, problem)

    async def _take(self, scope: Scope) -> None:
        if scope["method"] != "GET":
            raise Problem(405, "this call is a GET", headers={"allow": "GET"})
        disabled = self._integrations.verify(scope["query_string"])
        if disabled is None:
            raise Problem(404, "no such call of a known integration", error_class=ErrorClass.NOT_FOUND)
        if not self._ready():
            raise not_now("whether the topics are there is not known yet")
        headers = dict(scope["headers"])
        await self._intake.take(scope, headers, disabled.account_id, disabled.query, "integration-disabled")
