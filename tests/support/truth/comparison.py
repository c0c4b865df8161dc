"""Compares what the views show of an account with the truth about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.support.truth.received import UNRECOGNIZED
from tests.support.truth.tables import SECOND, Row, Shown

_TIMES = frozenset({"deadline", "created_at", "completed_at", "reopened_at", "occurred_at"})

COLUMNS = {
    "recent_updates": ("title", "event_type", "responsible_user_id", "deleted", "occurred_at"),
    "tasks": (
        *("state", "text", "task_type", "entity_type", "entity_id", "responsible_user_id", "deadline", "result"),
        *("created_at", "completed_at", "reopened_at", "occurred_at"),
    ),
    "calls": (
        *("entity_type", "entity_id", "direction", "phone", "duration_seconds", "source", "recording_url"),
        *("responsible_user_id", "occurred_at"),
    ),
}
"""What is compared, by view."""


class Comparison:
    """Fails where a view shows something else than the truth.

    Counts by (view, column) what was `compared`, and what was `open`, where the truth leaves it so.
    """

    def __init__(self, shown: Shown, truth: Row) -> None:
        self.compared: Counter[tuple[str, str]] = Counter()
        self.open: Counter[tuple[str, str]] = Counter()
        self._activity(shown.activity_log, truth["activity_log"])
        self._view("recent_updates", shown.recent_updates, truth["recent_updates"], "entity_type", "entity_id")
        self._view("tasks", shown.tasks, truth["tasks"], "task_id")
        self._view("calls", map(_named, shown.calls), map(_named, truth["calls"]), "call")

    def _view(self, view: str, found: Iterable[Row], truth: Iterable[Row], *key: str) -> None:
        rows = _by(found, *key)
        for row in truth:
            there = rows.pop(tuple(row[name] for name in key), None)
            assert there or row["open"] == ["row"], (view, "is not there", row)
            for column in COLUMNS[view]:
                if self._decided(view, column, row["open"] == ["row"] or column in row["open"]):
                    assert there, (view, row)
                    assert _agree(column, there[column], row), (view, column, row, there)
        assert not rows, (view, "has what is not there", rows)

    def _decided(self, view: str, column: str, is_open: bool) -> bool:
        (self.open if is_open else self.compared)[view, column] += 1
        return not is_open

    def _activity(self, lines: list[Row], truth: Row) -> None:
        found = _by(lines, "event_id")
        told = Counter((line["event_type"], f"{line['entity_type']}/{line['entity_id']}") for line in lines)
        for row in truth["events"]:
            line = found.pop((row["event_id"],), None)
            self._decided("activity_log", "event_id", row["open"])
            assert line or row["open"], row
            if line is not None:
                kind, subject = line["event_type"], f"{line['entity_type']}/{line['entity_id']}"
                assert (kind, subject) == (row["event_type"], row["subject"])
                assert row["occurred_at"] in (None, line["occurred_at"] / SECOND), (row, line)
        nameless = {(row["event_type"], row["subject"]) for row in truth["nameless"]}
        for line in found.values():
            subject = f"{line['entity_type']}/{line['entity_id']}"
            assert line["event_type"] == UNRECOGNIZED or (line["event_type"], subject) in nameless, line
        for row in truth["nameless"]:
            if self._decided("activity_log", "count", row["open"]):
                assert told[row["event_type"], row["subject"]] == row["count"], row


def _agree(column: str, found: Any, row: Row) -> bool:
    if column == "occurred_at" and "received_between" in row:
        first, last = row["received_between"]
        return bool(first <= found <= last)
    said = row[column]
    return bool(found == (said * SECOND if column in _TIMES and said is not None else said))


def _by(rows: Iterable[Row], *key: str) -> dict[tuple[Any, ...], Row]:
    """Rows by their key; each must be there once."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        name = tuple(row[part] for part in key)
        assert name not in found, (name, "is there twice")
        found[name] = row
    return found


def _named(call: Row) -> Row:
    """A call with what names it on both sides; one that the telephone system gave no id: number and time."""
    name, at = call["call_id"], call["occurred_at"]
    if name is None or name.startswith(("note:", "digest:")):
        name = f"{call['phone']} at {at if at < SECOND**2 else at // SECOND}"  # the truth's are seconds
    return call | {"call": name}
