"""Which handler answers which path of /api/v4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from simulator.api import links, notes, people, reads, tasks
from simulator.api.asking import Asking
from simulator.api.errors import not_allowed, not_found
from simulator.api.state import ENTITIES

_Methods = dict[str, Callable[..., Any]]
"""By method: takes Asking and the ids in the path, returns the body of the answer, None for 204. Raises Refused."""


def handle(asking: Asking) -> Any:
    """Answer a request. Raises Refused: 404 for a path there is not, 405 for a method that it does not have."""
    methods, arguments = _find(asking.path)
    handler = methods.get(asking.method)
    if handler is None:
        raise not_allowed()
    return handler(asking, *arguments)


def _find(path: str) -> tuple[_Methods, list[Any]]:
    """Return the methods of a path and the ids in it, those of entities after their kind."""
    parts = path.strip("/").split("/")
    shape = "/".join("ID" if part.isdecimal() else part for part in parts)
    ids: list[Any] = [int(part) for part in parts if part.isdecimal()]
    fixed = _FIXED.get(shape)
    if fixed is not None:
        return fixed, ids
    kind, _, rest = shape.partition("/")
    own = _OF_ENTITIES.get(rest) if kind in ENTITIES else None
    if own is None:
        raise not_found()
    return own, [kind, *ids]


_FIXED: Final[dict[str, _Methods]] = {
    "account": {"GET": reads.account},
    "users": {"GET": reads.users},
    "users/ID": {"GET": reads.users},
    "webhooks": {"GET": reads.webhooks},
    "calls": {"POST": notes.create_calls},
    "tasks": {
        "GET": lambda asking: reads.listed(asking, "tasks"),
        "POST": tasks.create,
        "PATCH": tasks.update,
    },
    "tasks/ID": {
        "GET": lambda asking, task: reads.single(asking, "tasks", task),
        "PATCH": tasks.update_one,
    },
    "leads/complex": {"POST": people.create_complex},
    "leads/pipelines": {"GET": reads.pipelines},
    "leads/pipelines/ID": {"GET": reads.pipelines},
    "leads/pipelines/ID/statuses": {"GET": reads.statuses},
    "leads/pipelines/ID/statuses/ID": {"GET": reads.statuses},
}

_OF_ENTITIES: Final[dict[str, _Methods]] = {
    "": {"GET": reads.listed, "POST": people.create, "PATCH": people.update},
    "ID": {"GET": reads.single, "PATCH": people.update_one},
    "ID/links": {"GET": reads.links},
    "ID/link": {"POST": links.link},
    "ID/unlink": {"POST": links.unlink},
    "custom_fields": {"GET": reads.custom_fields},
    "custom_fields/ID": {"GET": reads.custom_fields},
    "notes": {"GET": reads.notes, "POST": notes.create},
    "notes/ID": {"GET": reads.note, "PATCH": notes.update_one},
    "ID/notes": {"GET": reads.notes, "POST": notes.create},
    "ID/notes/ID": {"GET": lambda asking, kind, entity, note: reads.note(asking, kind, note)},
}
