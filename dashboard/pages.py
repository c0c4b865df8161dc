"""Pages of the views as JSON bytes; first pages without filters are cached per set of accounts for a second."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

import orjson

from dashboard import cursor
from projections import queries
from projections.queries import Accounts, Connection, Filter, Key, View
from runtime.cache import Cache
from runtime.settings import Settings

CACHE_MILLISECONDS = 1000
_HIDDEN = ("sort_key",)
_JSON = ("changes", "entities", "data")


def installation(settings: Settings) -> str:
    """Return a short name of the database read, so that installations that share a Redis share no key."""
    url = urlsplit(settings.database_url.get_secret_value())
    place = f"{url.netloc.rpartition('@')[2]}{url.path}?{url.query}"
    return hashlib.sha256(place.encode()).hexdigest()[:12]


def to_json(view: View, wanted: Filter, rows: list[dict[str, Any]], after: Key | None) -> bytes:
    """Return the answer {"items": [...], "next_cursor": text or null}."""
    following = None if after is None else cursor.encode(view, wanted, after)
    return dumped({"items": [told(row) for row in rows], "next_cursor": following})


def told(row: dict[str, Any]) -> dict[str, Any]:
    """Return what an answer tells of a row."""
    return {
        name: orjson.Fragment(value) if name in _JSON and isinstance(value, str) else value
        for name, value in row.items()
        if name not in _HIDDEN
    }


def dumped(answer: Any) -> bytes:
    """Return an answer as JSON; times in RFC 3339, UTC."""
    return orjson.dumps(answer, default=str, option=orjson.OPT_UTC_Z)


class Pages:
    """Reads pages. Any of them may raise DatabaseAway."""

    def __init__(self, database: Connection, cache: Cache, settings: Settings) -> None:
        self._database = database
        self._cache = cache
        self._prefix = f"kommo-streams:{installation(settings)}"

    async def read(self, view: View, wanted: Filter, after: Key | None, limit: int) -> bytes:
        """Return one page, from PostgreSQL."""
        rows, following = await queries.page(self._database, view, wanted, after, limit)
        return to_json(view, wanted, rows, following)

    async def first(self, view: View, accounts: Accounts, limit: int) -> bytes:
        """Return the first page of these accounts, at most a second old."""
        kept = await self._cache.get(self.key(view, accounts, limit))
        return kept if kept is not None else await self.fresh(view, accounts, limit)

    async def fresh(self, view: View, accounts: Accounts, limit: int) -> bytes:
        """Return the first page of these accounts as it is now, and keep it for first()."""
        body = await self.read(view, Filter(accounts), None, limit)
        await self._cache.put(self.key(view, accounts, limit), body, CACHE_MILLISECONDS)
        return body

    def key(self, view: View, accounts: Accounts, limit: int) -> str:
        """Return the cache key: installation, projection, version, every account by its number, and the limit."""
        who = "*" if accounts is None else ",".join(map(str, accounts))
        return f"{self._prefix}:{view.projection}:v{view.version}:{who}:{limit}"
