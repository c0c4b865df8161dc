"""Commands over HTTP: give one, and read what became of it."""

from __future__ import annotations

import datetime as dt
import re
import time
import uuid
from collections import OrderedDict
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from dashboard import parameters
from dashboard.access import Grant
from dashboard.api import PRIVATE, Services
from dashboard.models import CommandStory, Taken
from dashboard.openapi import SECURITY, problems
from dashboard.posted import check_origin, read_json
from projections import queries
from runtime.logs import logger
from runtime.problem import Problem
from runtime.settings import Settings
from schemas.actions import ACTIONS
from schemas.command import PREFIX, Command, CommandError, id_of_key
from schemas.errors import ErrorClass

log = logger(__name__)

MOST_BODY_BYTES = 64 * 1024
PATH = "/api/v1/commands"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_MUST, _MAY = ("action", "account", "data"), ("after", "expires", "correlation_id", "causation_id")
_TOLD = {"correlation_id": "correlationid", "causation_id": "causationid"}
_FIELDS = {"type": "action", "accountid": "account", **{theirs: ours for ours, theirs in _TOLD.items()}}


def _refusal(wrong: dict[str, str]) -> Problem:
    listed = list(wrong.items())[:20]
    return Problem(
        400,
        "; ".join(f"{name}: {why}" for name, why in listed),
        errors=[{"field": name, "detail": why} for name, why in listed],
    )


class Pace:
    """How fast a credential may give commands: `burst` at once, then `rate` a second."""

    def __init__(self, rate: float = 20.0, burst: float = 100.0, most: int = 1024) -> None:
        self._rate, self._burst, self._most = rate, burst, most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how many, at which moment

    def check(self, who: str) -> None:
        """Count one. Raises Problem 429 where it is one too many now."""
        now = time.monotonic()
        left, at = self._left.pop(who, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        self._left[who] = (left - 1 if left >= 1 else left, now)
        while len(self._left) > self._most:
            self._left.popitem(last=False)
        if left < 1:
            raise Problem(
                429,
                f"too many commands: {self._rate:g} a second are taken of one token (Kommo takes 7 for an account)",
                error_class=ErrorClass.RATE_LIMIT,
                headers={"Retry-After": "1"},
            )


def _may_give(grant: Grant) -> None:
    if not grant.commands:
        raise Problem(
            403,
            "this token or session may read, and not give commands: `kommo-streams token create --commands` or "
            "`kommo-streams dashboard-url --commands` makes one that may",
            error_class=ErrorClass.AUTHORIZATION,
        )


def _account(body: Any, grant: Grant) -> int:
    """Return the account of a body whose fields are known by their names. Raises Problem 400 or 403."""
    if not isinstance(body, dict):
        raise Problem(400, 'send a JSON object: {"action": ..., "account": ..., "data": {...}}')
    wrong = {name[:64]: "is not known here" for name in body if name not in (*_MUST, *_MAY)}
    wrong |= {name: "is missing" for name in _MUST if body.get(name) is None}
    account = body.get("account")
    if account is not None and (type(account) is not int or not 0 < account < 10**18):
        wrong["account"] = "must be the number of a Kommo account, for example 31337"
    if body.get("action") is not None and body["action"] not in tuple(ACTIONS):
        wrong["action"] = f"must be one of {', '.join(ACTIONS)}"
    if wrong:
        raise _refusal(wrong)
    number: int = body["account"]
    if grant.accounts is not None and number not in grant.accounts:
        raise Problem(
            403,
            f"account: this token is not for account {number}",
            error_class=ErrorClass.AUTHORIZATION,
            errors=[{"field": "account", "detail": "is not an account of this token"}],
        )
    return number


def _command_id(request: Request, account: int) -> tuple[str, bool]:
    """Return the id of the command, and whether a key stands for it. Raises Problem 400."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return str(uuid.uuid4()), False
    try:
        if len(given) == 1:
            return id_of_key(account, given[0]), True
    except CommandError:
        pass
    raise _refusal({"Idempotency-Key": "must be given once, with 1 to 128 printable ASCII characters"})


async def _check_same(services: Services, command: Command) -> None:
    """Raise Problem 409 where the command's key is known to stand for another; that of the last moment is not known."""
    row = await queries.command(services.database, command.id, (command.account_id,))
    if row is None or row["data"] is None:
        return
    asked = orjson.loads(orjson.dumps(command.data()))
    if (row["action"], orjson.loads(row["data"])) != (command.name, asked):
        raise Problem(
            409,
            f"this Idempotency-Key stands for another command of the account: {PATH}/{command.id}",
            error_class=ErrorClass.VALIDATION,
            errors=[{"field": "Idempotency-Key", "detail": "was given with another action or other data"}],
        )


def _command(body: dict[str, Any], account: int, command_id: str, by: str) -> Command:
    """Return the command that a body asks for. Raises Problem 400 that names the wrong field."""
    envelope = {
        "specversion": "1.0",
        "id": command_id,
        "source": f"/kommo-streams/dashboard/{by}",
        "type": f"{PREFIX}{body['action']}",
        "time": dt.datetime.now(dt.UTC).isoformat(),
        "accountid": str(account),
        "data": body["data"],
        **{_TOLD.get(name, name): body[name] for name in _MAY if body.get(name) is not None},
    }
    try:
        command = Command.from_json(orjson.dumps(envelope))
        if command.expires is not None and command.expires <= dt.datetime.now(dt.UTC):
            raise CommandError("expires: has passed", "expires")
        return command
    except CommandError as error:
        field = _FIELDS.get(error.field, error.field)
        raise _refusal({field: str(error).removeprefix(f"{error.field}: ")}) from None


_BODY = {
    "type": "object",
    "required": list(_MUST),
    "additionalProperties": False,
    "properties": {
        "action": {"type": "string", "enum": list(ACTIONS)},
        "account": {"type": "integer", "minimum": 1, "exclusiveMaximum": 10**18, "description": "The Kommo account."},
        "data": {"type": "object", "description": "The action's fields."},
        "after": {
            "type": ["string", "null"],
            "format": "uuid",
            "description": 'A command that must have succeeded before; an id in `data` may be `"after"`, what it made.',
        },
        "expires": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "From then on it is not begun any more.",
        },
        "correlation_id": {"type": ["string", "null"], "maxLength": 128, "description": "On all that comes of it."},
        "causation_id": {"type": ["string", "null"], "maxLength": 128, "description": "What led to it, an event's id."},
    },
}
_EXAMPLE = {
    "action": "add_note",
    "account": 31337,
    "data": {"entity_type": "lead", "entity_id": 7, "text": "Called back"},
}
_POSTED = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The same key of an account is the same command, however often it is sent; with another "
            "action or other data it is answered 409. Without it each request is a command of its own.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 128},
        }
    ],
    "requestBody": {"required": True, "content": {"application/json": {"schema": _BODY, "example": _EXAMPLE}}},
}
_LOCATION = {"Location": {"description": "As `location` of the body.", "schema": {"type": "string"}}}
_ID = {
    "name": "command_id",
    "in": "path",
    "required": True,
    "description": "A command's id.",
    "schema": {"type": "string", "format": "uuid"},
}
_READ = (parameters.ACCOUNT, parameters.WAIT)


def router(services: Services, settings: Settings) -> APIRouter:
    """Return the routes under /api/v1/commands that are about one command."""
    routes = APIRouter(prefix=PATH, dependencies=SECURITY, tags=["commands"])
    pace = Pace()

    @routes.post(
        "",
        summary="Give a command",
        description="The answer 202 says that it is kept and will be carried out once; what becomes of it is at "
        "`location`. It needs a token or session that may give commands.",
        status_code=202,
        response_class=Response,
        responses={
            202: {"model": Taken, "headers": _LOCATION},
            **problems(400, 401, 403, 409, 413, 415, 429, 500, 503),
        },
        openapi_extra=_POSTED,
    )
    async def give(request: Request) -> Response:
        grant = await services.reader(request)
        if grant.kind == "session":  # which a browser sends by itself, whoever's page asks for it
            check_origin(request, settings.dashboard_url)
        _may_give(grant)
        parameters.read(request.query_params.multi_items(), ())
        pace.check(grant.id)
        body = await read_json(request, MOST_BODY_BYTES)
        account = _account(body, grant)
        command_id, has_key = _command_id(request, account)
        command = _command(body, account, command_id, grant.id)
        if has_key:
            await _check_same(services, command)
        await services.outbound.put(command)
        log.info(
            "command given",
            command=command.id,
            action=command.name,
            entity=command.subject,
            by=grant.id,
            correlation_id=command.correlation_id,
        )
        location = f"{PATH}/{command.id}"
        return Response(
            orjson.dumps({"id": command.id, "location": location}),
            202,
            {**PRIVATE, "Location": location},
            media_type="application/json",
        )

    @routes.get(
        "/{command_id}",
        summary="A command and its story",
        response_class=Response,
        responses={200: {"model": CommandStory}, **problems(400, 401, 403, 404, 500, 503)},
        openapi_extra={"parameters": [_ID, *(parameter.openapi() for parameter in _READ)]},
    )
    async def tell(request: Request) -> Response:
        grant = await services.reader(request)
        command_id = request.path_params["command_id"].lower()
        if not _UUID.fullmatch(command_id):
            raise parameters.refuse({"command_id": "must be the id of a command (a UUID)"})
        values = parameters.read(request.query_params.multi_items(), _READ)
        body = await services.stories.read(command_id, grant.narrowed(values.get("account")), values.get("wait", 0))
        if body is None:
            raise Problem(
                404,
                f"there is no command {command_id} for this token; one that was just sent may not be taken on yet: "
                f"ask again, or with ?wait={parameters.MOST_WAIT}",
                error_class=ErrorClass.NOT_FOUND,
                headers={"Retry-After": "1"},
            )
        return Response(body, media_type="application/json", headers=PRIVATE)

    return routes
