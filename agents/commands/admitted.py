"""A command as the table has it: what was asked, and how far it is."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.command import Command


@dataclass(frozen=True, slots=True)
class Dependency:
    """What became of the command that another one waits for; `entities` are the ids it made or changed, by type."""

    id: str
    state: str
    entities: dict[str, int]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A command that is to be carried out now, under the lease of this epoch; its attempt is counted already.

    `attempts_before` are those before a person had it repeated, when its age began anew (`begun_at`, else
    `admitted_at`). `doubt`: since when its effect may be at Kommo, unseen; None: certainly not. `progress` is what is
    done of several steps. `value` and `headers` are those of its record. All moments are UTC, of the database's clock.
    """

    command: Command
    epoch: int
    attempts: int
    progress: dict[str, Any]
    doubt: dt.datetime | None
    admitted_at: dt.datetime
    claimed_at: dt.datetime
    expires_at: dt.datetime
    partition: int
    offset: int
    last_error_class: str | None
    dependency: Dependency | None
    attempts_before: int = 0
    begun_at: dt.datetime | None = None
    value: bytes = b""
    topic: str | None = None
    headers: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def of(cls, row: Any) -> Claimed:
        """Return what a row of the table holds."""
        command = Command.from_json(row["command"])
        dependency = None
        if command.after is not None and row["after_state"] is not None:
            result = orjson.loads(row["after_result"] or b"{}")
            dependency = Dependency(command.after, row["after_state"], result.get("entities", {}))
        return cls(
            command=command,
            epoch=row["claimed_epoch"],
            attempts=row["attempts"],
            progress=orjson.loads(row["progress"]),
            doubt=row["doubt"],
            admitted_at=row["admitted_at"],
            claimed_at=row["claimed_at"],
            expires_at=row["expires_at"],
            partition=row["partition"],
            offset=row["offset"],
            last_error_class=row["error_class"],
            dependency=dependency,
            attempts_before=row["attempts_before"],
            begun_at=row["begun_at"],
            value=row["command"],
            topic=row["topic"],
            headers=tuple((name, text.encode()) for name, text in orjson.loads(row["headers"])),
        )


def lane(command: Command) -> str:
    """Return what the commands that must not overtake each other share: their entity.

    What makes an entity shares it with those that would make one of the same name: else, while it is not known
    whether one of them was carried out, the other's effect could be taken for its own.
    """
    kind, entity_id = command.action.element()
    if entity_id is not None:
        return command.subject
    fields = command.data()
    named = [" ".join(str(fields.get(name) or "").split()) for name in ("name", "first_name", "last_name", "text")]
    return f"{kind}/new={hashlib.sha256(orjson.dumps(named)).hexdigest()[:32]}"
