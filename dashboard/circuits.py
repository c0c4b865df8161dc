"""Where Kommo does not answer: the open circuits, as the workers tell them in the view kommo.circuits.

The view belongs to the workers. Where none has run in this database, or its tables are not for this user, there is
nothing to tell, and the dashboard works all the same.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from dashboard import parameters
from dashboard.api import PRIVATE, Services
from dashboard.models import Circuits
from dashboard.openapi import SECURITY, problems
from dashboard.pages import dumped
from projections.queries import Accounts, Connection, Row

MOST_CIRCUITS = 500

# Asked first: a statement that names a view that is not there fails whatever it says.
_THERE = "SELECT has_table_privilege(to_regclass('kommo.circuits'), 'SELECT') IS TRUE AS there"
_OPEN = """
SELECT account_id, kind, since, until FROM kommo.circuits
WHERE $1::bigint[] IS NULL OR account_id = ANY($1)
ORDER BY since, account_id, kind LIMIT $2
"""
_READ = (parameters.ACCOUNT,)


async def open_circuits(database: Connection, accounts: Accounts) -> list[Row]:
    """Return the open circuits of these accounts, open for longest first; MOST_CIRCUITS at most."""
    (found,) = await database.fetch(_THERE)
    if not found["there"]:
        return []
    rows = await database.fetch(_OPEN, None if accounts is None else list(accounts), MOST_CIRCUITS)
    return [dict(row) for row in rows]


def router(services: Services) -> APIRouter:
    """Return the route of the circuits."""
    routes = APIRouter(prefix="/api/v1/circuits", dependencies=SECURITY, tags=["commands"])

    @routes.get(
        "",
        summary="Where Kommo does not answer now",
        description="One item for each account and kind of endpoint that fails: nothing but a probe is sent there, and "
        "commands that need it wait. The list is empty, too, where no worker has run.",
        response_class=Response,
        responses={200: {"model": Circuits}, **problems(400, 401, 403, 500, 503)},
        openapi_extra={"parameters": [parameter.openapi() for parameter in _READ]},
    )
    async def circuits(request: Request) -> Response:
        grant = await services.reader(request)
        values = parameters.read(request.query_params.multi_items(), _READ)
        items = await open_circuits(services.database, grant.narrowed(values.get("account")))
        return Response(dumped({"items": items}), media_type="application/json", headers=PRIVATE)

    return routes
