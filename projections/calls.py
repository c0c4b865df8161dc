"""calls, version 1: one row per call, however many notes tell of it and wherever they are.

A telephone system may log one call on the contact and on the lead, log it again with the recording, and Kommo may
repeat any of it. All of that is one row: it is named by UNIQ, the id the telephone system gave the call. What the
first note says of place and time stays (who pages through the list sees no call move); every other column comes from
the newest note that says it, so a recording that comes later is added and nothing is cleared.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from projections.columns import number, text
from projections.folding import (
    Folding,
    Key,
    Mark,
    Marks,
    State,
    account_link,
    earliest,
    entity_url,
    keep_newest,
    keep_oldest,
    moment,
    said,
)
from projections.reading import LoggedEvent
from projections.summary import tell
from schemas import wire
from schemas.catalogue import EVENT_TYPES

_LOGGED = EVENT_TYPES["kommo.call.logged"]
_RECORDED = EVENT_TYPES["kommo.call.recorded"]

_MAX_ID = 128  # so that it fits into indexes and cursors, whatever its characters are
_MAX_PHONE = 64
_MAX_SOURCE = 128
_MAX_RESULT = 1000
_MAX_URL = 2000
_MAX_SECONDS = 10**9

_LOCK = 0x63616C6C  # "call"
_BUCKETS = 64


@dataclass(slots=True)
class CallState(State):
    """What a row is worked out from.

    `logged` and `recorded`: of the oldest second with an event of that type, saying entity type and id. The others: of
    the newest second with an event that says the column, saying it. `writers` says who is responsible where the call
    itself does not name anybody.
    """

    logged: Marks = field(default_factory=dict)
    recorded: Marks = field(default_factory=dict)
    directions: Marks = field(default_factory=dict)
    phones: Marks = field(default_factory=dict)
    durations: Marks = field(default_factory=dict)
    outcomes: Marks = field(default_factory=dict)
    results: Marks = field(default_factory=dict)
    sources: Marks = field(default_factory=dict)
    recordings: Marks = field(default_factory=dict)
    responsible: Marks = field(default_factory=dict)
    writers: Marks = field(default_factory=dict)
    links: Marks = field(default_factory=dict)

    def fold(self, event: LoggedEvent) -> None:
        """Take one event in."""
        mark = Mark.of(event)
        first = self.logged if event.kind is _LOGGED else self.recorded
        keep_oldest(first, event.event_id, mark.saying(event.entity_type, event.entity_id))
        call, note = _part(event, "call"), _part(event, "note")
        direction = call.get("direction")
        for marks, column in (
            (self.directions, direction if direction in ("in", "out") else None),
            (self.phones, _words(call.get("phone"), _MAX_PHONE)),
            (self.durations, _duration(call.get("duration"))),
            # The words of the activity log; it tells them of a call that was logged.
            (self.outcomes, tell(dataclasses.replace(event, kind=_LOGGED)).outcome),
            (self.results, _words(call.get("call_result"), _MAX_RESULT)),
            (self.sources, _words(call.get("source"), _MAX_SOURCE)),
            (self.recordings, _address(call.get("link"))),
            (self.responsible, _named_in(call)),
            (self.writers, number(note.get("main_user_id")) or number(note.get("created_by"))),
            (self.links, account_link(event)),
        ):
            if column is not None:
                keep_newest(marks, event.event_id, mark.saying(column))

    def columns(self) -> tuple[Any, ...]:
        """Return the columns of Calls, in their order."""
        (at, _, event_id), mark = earliest(self.logged or self.recorded)
        entity_type, entity_id = mark.says
        return (
            entity_type,
            entity_id,
            said(self.directions),
            said(self.phones),
            said(self.durations),
            said(self.outcomes),
            said(self.results),
            said(self.sources),
            said(self.recordings),
            said(self.responsible or self.writers),
            moment(at),
            event_id,
            entity_url(said(self.links), entity_type, entity_id),
        )


def _part(event: LoggedEvent, name: str) -> Mapping[str, Any]:
    found = event.data.get(name)
    return found if isinstance(found, dict) else {}


def _words(value: Any, limit: int) -> str | None:
    """Return a text; telephone systems also write numbers bare."""
    return str(value) if type(value) is int and number(value) is not None else text(value, limit)


def _duration(value: Any) -> int | None:
    """Return seconds, None for what cannot be the length of a call."""
    return value if type(value) is int and 0 <= value < _MAX_SECONDS else None


def _address(value: Any) -> str | None:
    """Return a web address, whole or not at all; None for anything else, so that no page links to it."""
    if type(value) is not str or not value.lower().startswith(("https://", "http://")):
        return None
    return value if value.isprintable() and text(value, _MAX_URL) == value else None


def _named_in(call: Mapping[str, Any]) -> int | None:
    """Return the user that call_responsible names; it may be a person's name as well, which is none."""
    for name, value in call.items():
        if name.lower() == "call_responsible":
            found = number(wire.number(value))
            if found is not None:
                return found
    return None


def call_id(event: LoggedEvent) -> str:
    """Return what names the call: UNIQ, or the note's id where that is empty, or else a digest of what is said.

    The same as names the event (schemas/readers.py), but of any entity: UNIQ is the call's, wherever it was logged.
    """
    call, note = _part(event, "call"), _part(event, "note")
    uniq = call.get("uniq")
    if uniq and type(uniq) in (str, int):
        name = str(uniq)
        return name if _fits(name) and not name.startswith(("note:", "digest:")) else _digest(["UNIQ", name])
    identifier = note.get("id")
    if identifier and type(identifier) in (str, int):
        name = f"note:{identifier}"
        return name if _fits(name) else _digest(["note", str(identifier)])
    return _digest([event.entity_type, event.entity_id, call, note, event.data.get("beside")], event.event_id)


def _fits(name: str) -> bool:
    return len(name) <= _MAX_ID and name.isprintable()


def _digest(said: Any, otherwise: str = "") -> str:
    try:
        written = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # nested too deep to be written
        written = otherwise.encode()
    return f"digest:{hashlib.sha256(written).hexdigest()}"


class Calls(Folding[CallState]):
    """Folds what is told of a call into its row."""

    name = "calls"
    version = 1
    key = (("account_id", "bigint"), ("call_id", "text"))
    columns = (
        "entity_type",
        "entity_id",
        "direction",
        "phone",
        "duration_seconds",
        "outcome",
        "result",
        "source",
        "recording_url",
        "responsible_user_id",
        "occurred_at",
        "event_id",
        "url",
    )
    state = CallState

    def folds(self, event: LoggedEvent) -> bool:
        """Calls and their recordings."""
        return event.kind in (_LOGGED, _RECORDED)

    def key_of(self, event: LoggedEvent) -> Key:
        """The call."""
        return (event.account_id, call_id(event))

    async def lock(self, connection: Any, keys: Sequence[Key]) -> None:
        """Lock these accounts' calls: one call may be told of in two partitions, which two processes may read."""
        # In one order, and after all other locks of the transaction, so that nobody waits in a circle.
        buckets = sorted({account % _BUCKETS for account, _ in keys})
        await connection.execute(
            "SELECT pg_advisory_xact_lock($1::int, bucket) FROM unnest($2::int[]) AS bucket", _LOCK, buckets
        )
