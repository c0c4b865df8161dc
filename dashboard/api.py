"""The JSON API: the lists under /api/v1, one for each view, and the live stream over two of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from dashboard import cursor, parameters
from dashboard.access import Access, Grant, unauthenticated
from dashboard.database import Database
from dashboard.live import Client, Live
from dashboard.models import ActivityPage, CallsPage, CommandsPage, DeadLettersPage, RecentUpdatesPage, TasksPage
from dashboard.openapi import SECURITY, problems
from dashboard.outbound import Outbound
from dashboard.pages import Pages
from dashboard.parameters import Parameter
from dashboard.stories import Stories
from dashboard.waiting import Waiting
from projections.queries import ACTIVITY, CALLS, COMMANDS, DEAD_LETTERS, RECENT_UPDATES, TASKS, Filter, View

SESSION_COOKIE = "kommo_streams_session"
PRIVATE = {"Cache-Control": "private, no-store"}


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes work with, one of each in a process."""

    database: Database
    access: Access
    pages: Pages
    waiting: Waiting
    live: Live
    stories: Stories
    outbound: Outbound

    def close(self) -> None:
        """End what would go on for long: live streams and waits."""
        self.live.close()
        self.waiting.close()
        self.stories.close()

    async def grant(self, request: Request) -> Grant | None:
        """Return what the request's bearer token, or else its session cookie, allows now; None: nothing."""
        header = request.headers.get("authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            return await self.access.grant(token.strip() if scheme.lower() == "bearer" else "", "api")
        return await self.access.grant(request.cookies.get(SESSION_COOKIE, ""), "session")

    async def reader(self, request: Request) -> Grant:
        """Return what the request may read. Raises Problem 401."""
        grant = await self.grant(request)
        if grant is None:
            raise unauthenticated()
        return grant


async def _answer(
    services: Services, request: Request, view: View, accepted: tuple[Parameter, ...] = parameters.LIST
) -> Response:
    grant = await services.reader(request)
    values = parameters.read(request.query_params.multi_items(), accepted)
    accounts = grant.narrowed(values.get("account"))
    wanted = _filter(view, values, accounts)
    after = _after(view, wanted, values.get("cursor"))
    limit = values.get("limit", parameters.DEFAULT_LIMIT)
    if "wait_for" in values:
        await services.waiting.until_visible(view, values["wait_for"], accounts)
    if wanted != Filter(accounts) or after is not None:
        body = await services.pages.read(view, wanted, after, limit)
    elif "wait_for" in values:
        body = await services.pages.fresh(view, accounts, limit)
    else:
        body = await services.pages.first(view, accounts, limit)
    return Response(body, media_type="application/json", headers=PRIVATE)


def _filter(view: View, values: Mapping[str, Any], accounts: tuple[int, ...] | None) -> Filter:
    entity_type, entity_id = values.get("entity", (None, None))
    return Filter(
        accounts=accounts,
        entity_type=entity_type,
        entity_id=entity_id,
        event_types=values.get("type", ()),
        since=values.get("since"),
        until=values.get("until"),
        more=tuple((name, values[name]) for name in view.filters if name in values),
    )


def _after(view: View, wanted: Filter, text: str | None) -> tuple[Any, ...] | None:
    if text is None:
        return None
    try:
        return cursor.decode(view, wanted, text)
    except cursor.CursorError as error:
        raise parameters.refuse({"cursor": str(error)}) from None


class _LiveResponse(StreamingResponse):
    """The stream of one client, which is detached however the answer ends."""

    def __init__(self, live: Live, client: Client, content: AsyncIterator[bytes]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._live, self._client = live, client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.detach(self._client)


_PAGED = (
    "\n\nGo on with `next_cursor`: rows that come in the meantime are neither repeated nor do they push others out. "
    "Of first pages without filters the answer may be a second old."
)


def _described(accepted: tuple[Parameter, ...]) -> dict[str, Any]:
    return {"parameters": [parameter.openapi() for parameter in accepted]}


def router(services: Services) -> APIRouter:
    """Return the routes under /api/v1."""
    routes = APIRouter(prefix="/api/v1", dependencies=SECURITY, tags=["projections"])
    listed = _described(parameters.LIST)

    @routes.get(
        "/activity",
        summary="The activity log: every event once, newest first",
        description="Order: `occurred_at`, then the order of one moment, all descending." + _PAGED,
        response_class=Response,
        responses={200: {"model": ActivityPage}, **problems(400, 401, 403, 500, 503, 504)},
        openapi_extra=listed,
    )
    async def activity(request: Request) -> Response:
        return await _answer(services, request, ACTIVITY)

    @routes.get(
        "/recent-updates",
        summary="Recent updates: one row per entity, last touched first",
        description="Order: `occurred_at`, account, entity type and id, all descending."
        + _PAGED
        + " An entity that is touched while you page moves to the front: it is on a new first page.",
        response_class=Response,
        responses={200: {"model": RecentUpdatesPage}, **problems(400, 401, 403, 500, 503, 504)},
        openapi_extra=listed,
    )
    async def recent_updates(request: Request) -> Response:
        return await _answer(services, request, RECENT_UPDATES)

    @routes.get(
        "/tasks",
        summary="The tasks: one row per task as it is now, last touched first",
        description="Order: `occurred_at` (the task's newest event), account and task id, all descending. `since` and "
        "`until` are about the deadline."
        + _PAGED
        + " A task that is touched while you page moves to the front: it is on a new first page.",
        response_class=Response,
        responses={200: {"model": TasksPage}, **problems(400, 401, 403, 500, 503, 504)},
        openapi_extra=_described(parameters.TASKS),
    )
    async def tasks(request: Request) -> Response:
        return await _answer(services, request, TASKS, parameters.TASKS)

    @routes.get(
        "/calls",
        summary="The calls: one row per call, newest first",
        description="Order: `occurred_at`, account and call id, all descending." + _PAGED,
        response_class=Response,
        responses={200: {"model": CallsPage}, **problems(400, 401, 403, 500, 503, 504)},
        openapi_extra=_described(parameters.CALLS),
    )
    async def calls(request: Request) -> Response:
        return await _answer(services, request, CALLS, parameters.CALLS)

    @routes.get(
        "/commands",
        summary="The commands: one row per command as it stands, last news first",
        description="Order: `occurred_at` (the command's newest event), account and command id, all descending."
        + _PAGED
        + " A command of which there is news while you page moves to the front: it is on a new first page.",
        response_class=Response,
        responses={200: {"model": CommandsPage}, **problems(400, 401, 403, 500, 503, 504)},
        openapi_extra=_described(parameters.COMMANDS),
    )
    async def commands(request: Request) -> Response:
        return await _answer(services, request, COMMANDS, parameters.COMMANDS)

    @routes.get(
        "/deadletters",
        summary="The dead letters: what was set aside, and why; newest first",
        description="Order: `occurred_at` (when it was set aside last) and letter id, descending. What names no "
        "account is seen only by a token for all. The original record is at `/api/v1/deadletters/{letter_id}`."
        + _PAGED,
        response_class=Response,
        responses={200: {"model": DeadLettersPage}, **problems(400, 401, 403, 500, 503)},
        openapi_extra=_described(parameters.DEAD_LETTERS),
    )
    async def deadletters(request: Request) -> Response:
        return await _answer(services, request, DEAD_LETTERS, parameters.DEAD_LETTERS)

    @routes.get(
        "/live",
        summary="Both first pages as server-sent events, again whenever they change",
        description="Events `activity` and `recent_updates`: the first 50 rows, as the lists answer them. Event "
        "`status`: `{reading, reason}`, whether the database can be read. A comment every 15 s shows that it lives.",
        response_class=Response,
        responses={
            200: {"description": "The stream.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            **problems(400, 401, 403, 500, 503),
        },
        openapi_extra={"parameters": [parameters.ACCOUNT.openapi()]},
    )
    async def live(request: Request) -> Response:
        grant = await services.reader(request)
        values = parameters.read(request.query_params.multi_items(), (parameters.ACCOUNT,))
        client = services.live.attach(grant.narrowed(values.get("account")))

        async def allowed() -> bool:
            return await services.grant(request) == grant

        return _LiveResponse(services.live, client, services.live.stream(client, allowed))

    return routes
