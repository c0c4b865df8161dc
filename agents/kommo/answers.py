"""What Kommo answers with: JSON, HAL pages (`_embedded`, `_links.next.href`), its clock, or nothing (204)."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from agents.kommo.problems import KommoError
from agents.kommo.wire import Reply

API = "/api/v4"

_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)+")


@dataclass(frozen=True, slots=True)
class Answer:
    """What Kommo answered: a 2xx. `body` is the JSON value, None of a 204; `date` Kommo's clock, to the second."""

    status: int
    body: Any = field(repr=False)
    date: dt.datetime | None


def is_path(path: str) -> bool:
    """Whether a path below /api/v4 is plain and without a query: `/leads/123`."""
    return _PATH.fullmatch(path) is not None


def answer_of(what: str, reply: Reply) -> Answer:
    """Read a 2xx. Raises KommoError (it may have been carried out) where it cannot be read."""
    date = date_of(reply.headers)
    if not reply.content:
        if reply.status in (202, 204):
            return Answer(reply.status, None, date)
        raise KommoError.unreadable(what, reply.status, "an empty answer")
    try:
        return Answer(reply.status, orjson.loads(reply.content), date)
    except ValueError:
        if reply.status == 202:  # taken; what it says beside that does not matter
            return Answer(reply.status, None, date)
    raise KommoError.unreadable(what, reply.status, "an answer that is not JSON")


def date_of(headers: Mapping[str, str]) -> dt.datetime | None:
    """Return what the Date header says."""
    try:
        date = parsedate_to_datetime(headers["date"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=dt.UTC)


def embedded(page: Any, name: str) -> list[dict[str, Any]]:
    """Return the entities of a page: its `_embedded[name]`."""
    found = page.get("_embedded") if isinstance(page, dict) else None
    items = found.get(name) if isinstance(found, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def next_of(page: Any, base_url: str, what: str) -> tuple[str, dict[str, list[str]]] | None:
    """Return path and query of a page's next one; None where there is none.

    Raises KommoError where it is not in the API of the account at `base_url`: no token goes there.
    """
    links = page.get("_links") if isinstance(page, dict) else None
    link = links.get("next") if isinstance(links, dict) else None
    href = link.get("href") if isinstance(link, dict) else None
    if not isinstance(href, str) or not href:
        return None
    home = urlsplit(base_url)
    try:
        to = urlsplit(href)
        same = (to.scheme, to.hostname, to.port, to.username) == (home.scheme, home.hostname, home.port, None)
        path, text = to.path.removeprefix(API), to.query
        same = same and path != to.path
    except ValueError:
        same, path, text = False, "", ""
    if not same or not is_path(path):
        raise KommoError.unreadable(what, 200, "a next page that is not the account's")
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        query.setdefault(name, []).append(value)
    return path, query
