"""A dead letter: the original record as it was, and in its headers why and where it came from."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from schemas.delivery import Headers
from schemas.errors import ErrorClass

PREFIX = "dead_letter_"
_MAX_REASON_BYTES = 2000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What is set aside: `reason` is for a person, the coordinates say where the original lies.

    `item` names the part of a delivery that failed, empty for the whole. `value` is None where it was too large.
    `attempts` counts those that failed, the first of which was at `first_at_us` (microseconds since 1970, 0: now).
    """

    reason: str
    error_class: ErrorClass
    reader: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    original_headers: tuple[tuple[str, bytes], ...] = ()
    item: str = ""
    correlation_id: str = ""
    attempts: int = 1
    first_at_us: int = 0

    @classmethod
    def of(
        cls,
        record: Any,
        *,
        reader: str,
        reason: str,
        error_class: ErrorClass,
        item: str = "",
        correlation_id: str = "",
    ) -> Self:
        """Return the dead letter of a record as a Kafka client hands it over (topic, partition, offset, key, ...)."""
        return cls(
            reason=reason,
            error_class=error_class,
            reader=reader,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            original_headers=tuple(record.headers),
            item=item,
            correlation_id=correlation_id,
        )

    def headers(self) -> Headers:
        """Return the headers of the dead letter's record: the original's own, then ours, prefixed."""
        now_us = time.time_ns() // 1000
        ours = {
            "reason": self.reason,
            "error_class": self.error_class.value,
            "reader": self.reader,
            "topic": self.topic,
            "partition": str(self.partition),
            "offset": str(self.offset),
            "item": self.item,
            "correlation_id": self.correlation_id,
            "attempts": str(self.attempts),
            "first_at_us": str(self.first_at_us or now_us),
            "at_us": str(now_us),
        }
        kept = [(name, value) for name, value in self.original_headers if not name.startswith(PREFIX)]
        return [
            *kept,
            *((PREFIX + name, text.encode("utf-8", "replace")[:_MAX_REASON_BYTES]) for name, text in ours.items()),
        ]


def read_headers(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Return our own headers of a dead letter's record without their prefix."""
    return {
        name.removeprefix(PREFIX): (value or b"").decode("utf-8", "replace")
        for name, value in headers
        if name.startswith(PREFIX)
    }
