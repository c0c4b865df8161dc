"""The events by which the agent `commands` tells of a command: made of the command's id and attempt, so that a repeat
is the same event.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import orjson

from schemas.catalogue import EVENT_TYPES
from schemas.event import encode, sequence, utc_text
from schemas.identity import event_id

Outcome = Literal["admitted", "succeeded", "retried", "failed", "unknown"]


class OutcomeEvent(NamedTuple):
    """The key and value of a record of kommo.events."""

    key: bytes
    value: bytes


def outcome_event(
    outcome: Outcome, command: dict[str, Any], *, account_id: int, correlation_id: str, attempt: int, at_us: int
) -> OutcomeEvent:
    """Return the event that tells of a command (the fields of schemas.models.CommandFacts) at a time in microseconds.

    Its subject is the command itself; it is caused by the command, and has the command's correlation id.
    """
    kind = EVENT_TYPES[f"kommo.command.{outcome}"]
    subject = f"command/{command['id']}"
    value = encode(
        event_id=event_id(account_id, kind.name, subject, {"attempt": str(attempt)}),
        event_type=kind.name,
        version=kind.version,
        subject=subject,
        time=utc_text(at_us),
        account_id=account_id,
        sequence=sequence(at_us, attempt),
        time_source="agent",
        delivery_id="",
        item="",
        revision=1,
        origin="live",
        data=orjson.dumps({"command": {name: value for name, value in command.items() if value is not None}}),
        correlation_id=correlation_id,
        causation_id=command["id"],
    )
    return OutcomeEvent(f"{account_id}/{subject}".encode(), value)
