"""The process `dashboard`: serves until it is told to stop, whatever becomes of PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
from typing import Any

from dashboard.access import Access
from dashboard.api import Services
from dashboard.app import build
from dashboard.database import PART, Database
from dashboard.live import Live
from dashboard.outbound import Outbound
from dashboard.pages import Pages
from dashboard.stories import Stories
from dashboard.waiting import WAIT_SECONDS, Waiting
from runtime.cache import Cache
from runtime.health import Health, with_health
from runtime.logs import logger
from runtime.postgres import open_pool
from runtime.process import serving
from runtime.settings import Settings

log = logger(__name__)

_CLOSE_SECONDS = 2.0


async def dashboard(settings: Settings, stop: asyncio.Event) -> None:
    """Serve the API and the page until `stop` is set. Raises StartError where the port is taken."""
    health = Health(PART)
    pool = await open_pool(settings, application="dashboard")
    cache = Cache(settings)
    database = Database(pool, health)
    services = assemble(settings, database, cache)
    try:
        app = with_health(health, build(settings, services))
        where = settings.dashboard_host, settings.dashboard_port, "KOMMO_STREAMS_DASHBOARD"
        async with serving(app, *where) as port, database.probing():
            log.info("the dashboard is open", host=settings.dashboard_host, port=port, url=settings.dashboard_url)
            await stop.wait()
            services.close()  # streams and waits first: the server waits for answers under way
    finally:
        await services.outbound.close()
        await cache.close()
        await _close(pool)


def assemble(settings: Settings, database: Database, cache: Cache) -> Services:
    """Return the parts of a dashboard that reads through `database`."""
    pages = Pages(database, cache, settings)
    return Services(
        database=database,
        access=Access(database),
        pages=pages,
        waiting=Waiting(database, WAIT_SECONDS),
        live=Live(database, pages),
        stories=Stories(database),
        outbound=Outbound(settings),
    )


async def _close(pool: Any) -> None:
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await pool.close()
    except TimeoutError:
        pool.terminate()
