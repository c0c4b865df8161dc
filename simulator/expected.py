"""What the tables must hold of one account: rows of recent_updates, tasks and calls, and lines of the activity log.

Rows have the names and words of the views' columns, times as unix seconds. Each holds what the company knows, and names
under `open` the columns that nobody can decide: docs/guarantees.md says why there are such. A row that need not be
there at all has `open: ["row"]`. The format is described in docs/how-to/simulate-kommo.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from simulator.telling import Telling, column, deleted, deletes_shown, newest

RECENT: Final = frozenset({"lead", "contact", "company", "customer", "task", "unsorted", "catalog_element", "talk"})
"""The entities that recent_updates has rows of."""

_NO_NEWS: Final = frozenset({"kommo.digital_pipeline.triggered"})
"""What is told of an entity and says nothing of it."""

Row = dict[str, Any]


def recent_updates(by_subject: Mapping[str, Sequence[Telling]]) -> list[Row]:
    """Return the rows of recent_updates."""
    rows = []
    for subject, tellings in by_subject.items():
        news = [telling for telling in tellings if telling.fact.type not in _NO_NEWS]
        if news and subject.partition("/")[0] in RECENT:
            rows.append(_recent_update(subject, news))
    return rows


def _recent_update(subject: str, tellings: Sequence[Telling]) -> Row:
    """Return the row of an entity."""
    entity, _, identifier = subject.partition("/")
    row: Row = {"entity_type": entity, "entity_id": identifier}
    undecided: list[str] = []
    for name in ("title", "responsible_user_id"):
        row[name] = _decide(name, column(tellings, name), undecided)
    row["deleted"] = _decide("deleted", deleted(tellings), undecided)
    last, open_last = _last(tellings)
    return row | last | {"open": _open(tellings, undecided + open_last)}


def _last(tellings: Sequence[Telling]) -> tuple[Row, list[str]]:
    """Return what happened last and when, and the names of what of it is open.

    Of deletes with nothing between them the first counts. `occurred_at` is unix seconds where Kommo's time counts;
    where the receipt does, `received_between` has the microseconds it must lie between.
    """
    candidates = newest(tellings)
    if candidates and all(telling.fact.deletes for telling in candidates):
        others = (t.not_before for t in tellings if t.certain and not t.fact.deletes)
        alive = max(others, default=0)
        candidates = [t for t in tellings if t.fact.deletes and t.not_after > alive]
    if not candidates or not deleted(tellings)[1]:
        return {"event_type": max(tellings, key=lambda telling: telling.at).fact.type}, ["event_type", "occurred_at"]
    kinds = {telling.fact.type for telling in candidates}
    row: Row = {"event_type": max(candidates, key=lambda telling: telling.at).fact.type}
    undecided = ["event_type"] if len(kinds) > 1 else []
    if all(telling.fact.timed for telling in candidates):
        times = {telling.fact.at for telling in candidates}
        return row | {"occurred_at": max(times)}, undecided + (["occurred_at"] if len(times) > 1 else [])
    if undecided:
        return row, ["event_type", "occurred_at"]
    spans = [(telling.first, telling.last) for telling in candidates if telling.first and telling.last]
    return row | {"received_between": [min(first for first, _ in spans), max(last for _, last in spans)]}, []


_TASK: Final = ("task_type", "entity_type", "entity_id", "responsible_user_id", "deadline", "result", "created_at")


def task(subject: str, tellings: Sequence[Telling]) -> Row:
    """Return the row of a task."""
    row: Row = {"task_id": subject.partition("/")[2]}
    undecided: list[str] = []
    gone, sure = deleted(tellings)
    state, told = column(tellings, "state")
    row["state"] = _decide("state", ("deleted", sure) if gone else (state, sure and told), undecided)
    row["text"] = _decide("text", column(tellings, "title"), undecided)
    for name in _TASK:
        row[name] = _decide(name, column(tellings, name), undecided)
    # Since when it is closed, and when it was reopened, a table knows by all webhooks up to the newest.
    all_arrived = all(telling.certain for telling in tellings if telling.fact.snapshot)
    for name in ("completed_at", "reopened_at"):
        value, sure = column(tellings, name)
        row[name] = _decide(name, (value, sure and all_arrived), undecided)
    last, open_last = _last(tellings)
    del last["event_type"]
    open_last = [name for name in open_last if name != "event_type"]
    return row | last | {"open": _open(tellings, undecided + open_last)}


_CALL: Final = ("call_id", "direction", "phone", "duration_seconds", "source")


def calls(tellings: Iterable[Telling]) -> list[Row]:
    """Return the calls, each once; `call_id` is None where the telephone system gave it none."""
    of_call: defaultdict[Any, list[Telling]] = defaultdict(list)
    for telling in tellings:
        of_call[telling.fact.says["call"]].append(telling)
    return [_call(list(found)) for found in of_call.values()]


def _call(tellings: Sequence[Telling]) -> Row:
    logged = [telling for telling in tellings if "direction" in telling.fact.says]
    fact, undecided = logged[0].fact, list[str]()
    row: Row = {name: fact.says[name] for name in _CALL}
    row["entity_type"], _, row["entity_id"] = fact.subject.partition("/")
    row["responsible_user_id"] = fact.says["caller"]
    row["recording_url"] = _decide("recording_url", column(tellings, "recording_url"), undecided)
    return row | {"occurred_at": fact.at, "open": _open(logged, undecided)}


def activity(by_subject: Mapping[str, Sequence[Telling]]) -> Row:
    """Return the lines of the activity log.

    `events` have an id, and each must be there exactly once; `open` ones need not be there. `nameless` ones are told
    apart by nothing in their bodies: the view must show `count` of a type and subject, where that is not `open`.
    """
    events: list[Row] = []
    nameless: list[Row] = []
    for subject, tellings in by_subject.items():
        events += [
            {
                "event_id": telling.id,
                "event_type": telling.fact.type,
                "subject": subject,
                "occurred_at": telling.fact.at if telling.fact.timed else None,
                "open": not telling.certain,
            }
            for telling in tellings
            if telling.id is not None
        ]
        nameless += _nameless(subject, tellings)
    return {"events": events, "nameless": nameless}


def _nameless(subject: str, tellings: Sequence[Telling]) -> list[Row]:
    found: list[Row] = []
    for kind in sorted({telling.fact.type for telling in tellings if telling.id is None}):
        same = [telling for telling in tellings if telling.fact.type == kind]
        count: int | None = len(same)
        if same[0].fact.deletes:
            count = deletes_shown(tellings)
        elif any((telling.certain, telling.possible) != (1, 1) for telling in same):
            count = None
        row = {"event_type": kind, "subject": subject, "count": len(same) if count is None else count}
        found.append(row | {"open": count is None})
    return found


def _decide(name: str, found: tuple[Any, bool], undecided: list[str]) -> Any:
    value, sure = found
    if not sure:
        undecided.append(name)
    return value


def _open(tellings: Sequence[Telling], undecided: list[str]) -> list[str]:
    """Return what of a row is open: all of it, where it is not certain that anything of these tellings arrived."""
    return sorted(set(undecided)) if any(telling.certain for telling in tellings) else ["row"]
