"""Monthly partitions, attached as their months come; rows that were in the default partition move along."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable
from typing import Any

import asyncpg

from runtime.logs import logger

log = logger(__name__)

_LOCK = 0x6D6F6E7468  # "month"
REFUSED_SECONDS = 30.0
"""How long no lock is asked for after one was not had: each try holds up the batch, and every reader behind it."""

KEPT_MONTHS = 24
"""Months before this one that get a partition of their own; older rows lie in the default partition."""


class Months:
    """The months of one partitioned table of schema kommo_projections that have a partition."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._known: set[str] = set()
        self._refused_until = 0.0

    async def attach(self, connection: Any, times: Iterable[dt.datetime]) -> None:
        """Attach the partitions that these times (UTC) need and that are not too old.

        A month whose lock cannot be had within 2 s (a long read of the default partition) is left for a later batch:
        its rows are in the default partition until then, and as visible.
        """
        if time.monotonic() < self._refused_until:
            return
        now = dt.datetime.now(dt.UTC)
        wanted = {(moment.year, moment.month) for moment in times}
        for year, month in sorted(wanted):
            age = (now.year - year) * 12 + now.month - month
            name = f"{self._table}_{year:04d}_{month:02d}"
            if name in self._known or not -1 <= age <= KEPT_MONTHS:
                continue
            try:
                await self._attach(connection, name, year, month)
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.QueryCanceledError):
                log.warning("a month's partition is attached later: its table is being read", partition=name)
                self._refused_until = time.monotonic() + REFUSED_SECONDS
                return
            self._known.add(name)

    async def _attach(self, connection: Any, name: str, year: int, month: int) -> None:
        start = dt.date(year, month, 1)
        end = dt.date(year + month // 12, month % 12 + 1, 1)
        parent = f"kommo_projections.{self._table}"
        child = f"kommo_projections.{name}"
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '2s'")
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if await connection.fetchval("SELECT to_regclass($1)", child) is not None:
                return
            # Names and dates here are made by this module, never from an event's text.
            bounds = f"'{start} 00:00:00+00'", f"'{end} 00:00:00+00'"
            inside = f"occurred_at >= {bounds[0]} AND occurred_at < {bounds[1]}"
            await connection.execute(f"CREATE TABLE {child} (LIKE {parent} INCLUDING DEFAULTS)")
            await connection.execute(f"LOCK TABLE {parent}_default IN ACCESS EXCLUSIVE MODE")
            await connection.execute(
                f"WITH moved AS (DELETE FROM {parent}_default WHERE {inside} RETURNING *) "  # noqa: S608
                f"INSERT INTO {child} SELECT * FROM moved"
            )
            await connection.execute(
                f"ALTER TABLE {parent} ATTACH PARTITION {child} FOR VALUES FROM ({bounds[0]}) TO ({bounds[1]})"
            )
        log.info("attached a month", partition=name)
