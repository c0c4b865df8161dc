"""dead_letters, version 1: one row per record that was set aside, with everything it was set aside with.

It reads kommo.deadletters. A letter is named by what it is about: the original's topic, partition and offset, the part
of it, and who set it aside. So a letter written twice (a crash came between) is one row, which keeps the first and the
last time and the most attempts. Whatever another program put there is a row, too.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from projections.columns import text
from schemas.command import whose
from schemas.deadletter import PREFIX, read_headers
from schemas.errors import ErrorClass
from streams.topics import DEADLETTERS

_ACCOUNT = re.compile(rb"([1-9][0-9]{0,17})(?:/|$)")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MAX_REASON = 2000
_LATEST_US = 2**52

COLUMNS = (
    "letter_id",
    "account_id",
    "occurred_at",
    "first_at",
    "error_class",
    "reason",
    "reader",
    "attempts",
    "topic",
    "original_partition",
    "original_offset",
    "item",
    "correlation_id",
    "key",
    "value",
    "headers",
    "log_partition",
    "log_offset",
)

_BATCH = """
CREATE TEMPORARY TABLE IF NOT EXISTS dead_letters_v1_batch (LIKE kommo_projections.dead_letters_v1)
ON COMMIT DELETE ROWS
"""
_LATER = ", ".join(
    f"{name} = CASE WHEN (excluded.occurred_at, excluded.log_partition, excluded.log_offset) "
    f"> (old.occurred_at, old.log_partition, old.log_offset) THEN excluded.{name} ELSE old.{name} END"
    for name in ("error_class", "reason", "correlation_id", "key", "value", "headers", "log_partition", "log_offset")
)
# Of two records about the same the later one's words count, whichever is read first.
_MERGE = f"""
INSERT INTO kommo_projections.dead_letters_v1 AS old ({", ".join(COLUMNS)})
SELECT {", ".join(COLUMNS)} FROM dead_letters_v1_batch
ON CONFLICT (letter_id) DO UPDATE SET
    occurred_at = greatest(old.occurred_at, excluded.occurred_at),
    first_at = least(old.first_at, excluded.first_at),
    attempts = greatest(old.attempts, excluded.attempts),
    {_LATER}
"""  # noqa: S608 no value is in it


@dataclass(frozen=True, slots=True)
class Letter:
    """A record of kommo.deadletters. `received_us` is when it was set aside, in microseconds since 1970."""

    row: tuple[Any, ...]
    received_us: int
    correlation_id: str

    @property
    def event_id(self) -> str:
        """The letter's id, for log lines."""
        return str(self.row[0])


def read_letter(record: Any) -> Letter:
    """Return what a record of kommo.deadletters holds. Never raises: what cannot be read is told as it is."""
    ours = read_headers(record.headers)
    at_us = _number(ours.get("at_us"), _LATEST_US) or record.timestamp * 1000
    first_us = _number(ours.get("first_at_us"), _LATEST_US) or at_us
    topic, partition, offset = ours.get("topic", ""), _number(ours.get("partition"), 2**31), _number(ours.get("offset"))
    item, reader = ours.get("item", ""), ours.get("reader", "")
    named = [topic, partition, offset, item, reader] if topic else [record.partition, record.offset]
    account = _account(record, reader)
    too_large = any(name == f"{PREFIX}value" for name, _ in record.headers)
    kept = [(name, _shown(value)) for name, value in record.headers if not name.startswith(PREFIX)]
    row = (
        hashlib.sha256(orjson.dumps(named)).hexdigest()[:32],
        account,
        _moment(at_us),
        _moment(first_us),
        ours.get("error_class") if ours.get("error_class") in set(ErrorClass) else ErrorClass.INTERNAL.value,
        text(ours.get("reason"), _MAX_REASON) or "it does not say why",
        text(reader, 100) or "",
        max(1, _number(ours.get("attempts"), 2**31) or 1),
        text(topic, 300) or "",
        partition,
        offset,
        text(item, 300) or "",
        text(ours.get("correlation_id"), 128) or "",
        record.key,
        None if too_large else record.value,
        orjson.dumps(kept).decode(),
        record.partition,
        record.offset,
    )
    return Letter(row, at_us, ours.get("correlation_id", ""))


def _account(record: Any, reader: str) -> int | None:
    """Return whose the original is, by its key; a command that names another account is nobody's."""
    found = _ACCOUNT.match(record.key or b"")
    account = int(found[1]) if found else None
    named = whose(record.value).account_id if reader == "commands" else 0
    return account if named in (0, account) else None


def _number(value: str | None, below: int = 2**63) -> int | None:
    found = int(value) if value and value.isascii() and value.isdecimal() and len(value) < 20 else None
    return found if found is not None and found < below else None


def _moment(at_us: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=at_us)


def _shown(value: bytes | None) -> str | None:
    return None if value is None else text(value.decode("utf-8", "replace"), 2000)


class DeadLetters:
    """Writes each dead letter once."""

    name = "dead_letters"
    version = 1
    topic = DEADLETTERS

    def __init__(self) -> None:
        self._prepared: Any = None  # the connection that has the temporary table

    read = staticmethod(read_letter)

    def folds(self, letter: Letter) -> bool:
        """Every record is a letter."""
        return True

    async def prepare(self, connection: Any, letters: Sequence[Letter]) -> None:
        """Make the temporary table."""
        if connection is not self._prepared:
            await connection.execute(_BATCH)
            self._prepared = connection

    async def write(self, connection: Any, letters: Sequence[Letter]) -> None:
        """Write the rows of these letters."""
        newest: dict[str, tuple[Any, ...]] = {}
        for letter in letters:
            known = newest.get(letter.row[0])
            newest[letter.row[0]] = letter.row if known is None else _merged(known, letter.row)
        await connection.copy_records_to_table("dead_letters_v1_batch", records=newest.values(), columns=COLUMNS)
        await connection.execute(_MERGE)


def _merged(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return one row of two about the same: the later one's, with the first time and the most attempts."""
    earlier, later = sorted((one, other), key=lambda row: (row[2], row[16], row[17]))
    merged = list(later)
    merged[3], merged[7] = min(earlier[3], later[3]), max(earlier[7], later[7])
    return tuple(merged)
