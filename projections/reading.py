"""A record of kommo.events as the projections read it: the envelope in columns, the data as it is."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.catalogue import EVENT_TYPES, EventType
from schemas.event import EventError, NewerEventError, TimeSource

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TOLD = ("kommo", "agent")
"""Where a time is from that is when it happened."""
_SEQUENCE = re.compile(r"[0-9]{16}-[0-9]{6}")


@dataclass(slots=True)
class LoggedEvent:
    """One event and where it lies. `sort_key` orders what shares a time: an entity's add, then the sequence."""

    account_id: int
    entity_type: str
    entity_id: str
    kind: EventType
    event_id: str
    time: dt.datetime
    sort_key: str
    time_source: TimeSource
    revision: int
    correlation_id: str
    data: dict[str, Any]
    partition: int
    offset: int

    @property
    def kommo_time(self) -> bool:
        """Whether the time is when it happened, by Kommo's clock or the clock of the agent that did it."""
        return self.time_source != "received"

    @property
    def received_us(self) -> int:
        """The gateway's receipt in microseconds since 1970, from the sequence."""
        return int(self.sort_key[2:18])

    @property
    def clock(self) -> tuple[dt.datetime, str, str]:
        """The place of the event in its entity's order (design: time, add before all else, sequence, id)."""
        return (self.time, self.sort_key, self.event_id)


def read_record(record: Any) -> LoggedEvent:
    """Read a record of kommo.events. Raises as read_event."""
    return read_event(record.value, record.partition, record.offset)


def read_event(value: bytes | None, partition: int, offset: int) -> LoggedEvent:
    """Read a record's value. Raises EventError, and NewerEventError for what only a newer program can read."""
    try:
        event = orjson.loads(value or b"")
        kind = EVENT_TYPES.get(event["type"])
        schema, _, version = event["dataschema"].rpartition(":")
        if kind is None and not event["type"].startswith("kommo."):
            raise EventError(f"not an event: its type is {event['type'][:80]}")
        if kind is None or int(version) > kind.version:
            raise NewerEventError(f"{event['type']} in version {version} is newer than this program: {schema}")
        entity_type, _, entity_id = event["subject"].partition("/")
        # Another gateway's event may be anything; what a fold could not take must not reach it.
        sequence, time, data = event["sequence"], dt.datetime.fromisoformat(event["time"]), event["data"]
        if not (_SEQUENCE.fullmatch(sequence) and _ID.fullmatch(event["id"]) and entity_id):
            raise EventError("not an event: its id, sequence or subject has another form")
        if time.tzinfo is None or type(event["revision"]) is not int or type(data) is not dict:
            raise EventError("not an event: its time has no zone, its revision is no number, or its data no map")
        if not (0 < event["revision"] < 2**31 and type(event["accountid"]) is type(event["correlationid"]) is str):
            raise EventError("not an event: its revision is out of range, or its accountid or correlationid no text")
        return LoggedEvent(
            int(event["accountid"]),
            entity_type,
            entity_id,
            kind,
            event["id"].lower(),
            time if time.tzinfo is dt.UTC else time.astimezone(dt.UTC),
            f"0-{sequence}" if kind.creates else f"1-{sequence}",
            event["timesource"] if event["timesource"] in _TOLD else "received",
            event["revision"],
            event["correlationid"],
            data,
            partition,
            offset,
        )
    except EventError:
        raise
    except KeyError as missing:
        raise EventError(f"not an event: no {missing.args[0]}") from None
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise EventError(f"not an event: {type(error).__name__}: {str(error)[:200]}") from None


def record_ids(value: bytes | None) -> tuple[str, ...]:
    """Return what a record may be recognised by when it is read again, the name to keep first.

    Its event's id, or a digest of what is no event. Both, since a later program may read what an earlier could not.
    """
    digest = f"sha256:{hashlib.sha256(value or b'').hexdigest()}"
    try:
        name = orjson.loads(value or b"")["id"]
    except (ValueError, TypeError, KeyError):
        return (digest,)
    return (name.lower(), digest) if type(name) is str and _ID.fullmatch(name.lower()) else (digest,)
