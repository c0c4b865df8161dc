"""Lists: which entities a query asks for, in which order, and which page of them.

https://developers.kommo.com/reference: `filter[...]`, `order[...]`, `query`, `page` from 1 and `limit` of at most 250
(else 422); the next page is at `_links.next` while there is one; a page with nothing on it is 204 without a body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import parse_qsl

from simulator.api.errors import limit_exceeded, wrong_body
from simulator.api.state import ENTITIES, Json

MOST_PER_PAGE: Final = 250
DEFAULT_PER_PAGE: Final = 50

Keeps = Callable[[Json], bool]


def nested(query: str) -> Json:
    """Return a query string as PHP nests it; of a key that comes twice the last counts, `[]` counts on."""
    tree: Json = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        head, *rest = key.replace("]", "").split("[")
        branch, name = tree, head
        for following in rest:
            inner = branch.get(name)
            if not isinstance(inner, dict):
                inner = branch[name] = {}
            branch, name = inner, following or str(len(inner))
        branch[name] = value
    return tree


def values(told: Any) -> list[str]:
    """Return the values of a filter: one, several with commas between, or a list."""
    if isinstance(told, dict):
        return [value for inner in told.values() for value in values(inner)]
    return str(told).split(",")


def among(name: str, told: Any) -> Keeps:
    """Keep what has one of some values."""
    wanted = set(values(told))
    return lambda entity: str(entity[name]) in wanted


def within(name: str, told: Any) -> Keeps:
    """Keep what lies between `from` and `to`, both included; a bare time is `from`."""
    span = told if isinstance(told, dict) else {"from": told}
    first, last = (_number(span.get(end, default)) for end, default in (("from", 0), ("to", 2**62)))
    return lambda entity: first <= (entity[name] or 0) <= last


def true_or_not(name: str, told: Any) -> Keeps:
    """Keep what is so (1), or is not (0)."""
    wanted = str(told).lower() in ("1", "true")
    return lambda entity: bool(entity[name]) is wanted


def stages(told: Any) -> Keeps:
    """Keep leads of some stages: statuses[0][pipeline_id] with statuses[0][status_id]."""
    pairs = [one for one in told.values() if isinstance(one, dict)] if isinstance(told, dict) else []
    wanted = {(str(one.get("pipeline_id")), str(one.get("status_id"))) for one in pairs}
    return lambda lead: (str(lead["pipeline_id"]), str(lead["status_id"])) in wanted


def containing(words: str) -> Keeps:
    """Keep what has some words in its name or in a custom field; of numbers the digits count."""
    wanted = words.casefold()
    digits = "".join(letter for letter in words if letter.isdecimal())
    numeric = len(digits) >= 5 and not any(letter.isalpha() for letter in words)

    def keeps(entity: Json) -> bool:
        if wanted in str(entity["name"]).casefold():
            return True
        for one in entity["custom_fields_values"] or ():
            for value in one["values"]:
                text = str(value["value"]).casefold()
                if wanted in text or (numeric and digits in "".join(filter(str.isdecimal, text))):
                    return True
        return False

    return keeps


_Filter = Callable[[str, Any], Keeps]

_PEOPLE: Final[dict[str, _Filter]] = {
    "id": among,
    "name": among,
    "created_by": among,
    "updated_by": among,
    "responsible_user_id": among,
    "created_at": within,
    "updated_at": within,
    "closest_task_at": within,
}
_FILTERS: Final[dict[str, dict[str, _Filter]]] = {
    "leads": {
        **_PEOPLE,
        "price": within,
        "pipeline_id": among,
        "closed_at": within,
        "statuses": lambda _, told: stages(told),
    },
    "contacts": _PEOPLE,
    "companies": _PEOPLE,
    "tasks": {
        "id": among,
        "responsible_user_id": among,
        "is_completed": true_or_not,
        "task_type": lambda _, told: among("task_type_id", told),
        "task_type_id": among,
        "entity_type": among,
        "entity_id": among,
        "updated_at": within,
    },
    "notes": {"id": among, "entity_id": among, "note_type": among, "updated_at": within},
}
"""What can be asked for, as Kommo's pages list it; tasks and notes, for one, not by who made them or when."""


def chosen(kind: str, entities: Iterable[Json], query: Json) -> list[Json]:
    """Return what a query asks for, in its order (by id where it names none).

    A filter that the kind does not have has no effect (INFERRED), nor has entity_id of tasks without entity_type.
    """
    own, told = _FILTERS[kind], query.get("filter")
    asked = told if isinstance(told, dict) else {}
    if kind == "tasks" and "entity_type" not in asked:
        asked = {name: value for name, value in asked.items() if name != "entity_id"}
    tests = [own[name](name, value) for name, value in asked.items() if name in own]
    if query.get("query") and kind in ENTITIES:
        tests.append(containing(str(query["query"])))
    found = [entity for entity in entities if all(keeps(entity) for keeps in tests)]
    order = query.get("order")
    for name, direction in reversed((order if isinstance(order, dict) else {"id": "asc"}).items()):
        if name in ("id", "created_at", "updated_at", "complete_till"):
            found.sort(key=lambda entity: entity.get(name) or 0, reverse=str(direction).lower() == "desc")
    return found


def page_of(query: Json) -> tuple[int, int]:
    """Return page and limit of a query. Raises Refused (422, 400)."""
    limit, page = _number(query.get("limit", DEFAULT_PER_PAGE)), _number(query.get("page", 1))
    if limit > MOST_PER_PAGE:
        raise limit_exceeded(MOST_PER_PAGE)
    if limit < 1 or page < 1:
        raise wrong_body("page and limit must be 1 or more")
    return page, limit


def _number(told: Any) -> int:
    try:
        return int(told)
    except (TypeError, ValueError):
        raise wrong_body(f"{told!r} is no number") from None
