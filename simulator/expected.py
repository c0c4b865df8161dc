"""What the tables must hold of one account: rows of recent_updates, tasks and calls, and lines of the activity log.

Each row holds what the company knows, and names under `open` the columns that nobody can decide: docs/guarantees.md
says why there are such. A row that need not be there at all has `open: ["row"]`.
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
    """Return the row of an entity.

    `occurred_at` is unix seconds where Kommo's time counts; where the receipt does, `received_between` has the
    microseconds it must lie between.
    """
    row, undecided = _begin(subject, tellings)
    row["title"] = _decide("title", column(tellings, "title"), undecided)
    row["responsible_user_id"] = _decide("responsible_user_id", column(tellings, "responsible_user_id"), undecided)
    row["deleted"] = _decide("deleted", deleted(tellings), undecided)
    row |= _last(tellings, undecided)
    return row | {"open": _open(tellings, undecided)}


def _last(tellings: Sequence[Telling], undecided: list[str]) -> Row:
    """Return what happened last. Of deletes with nothing between them the first counts."""
    candidates = newest(tellings)
    if candidates and all(telling.fact.deletes for telling in candidates):
        others = (t.not_before for t in tellings if t.certain and not t.fact.deletes)
        alive = max(others, default=0)
        candidates = [t for t in tellings if t.fact.deletes and t.not_after > alive]
    kinds = {telling.fact.type for telling in candidates}
    if len(kinds) != 1 or "deleted" in undecided:
        undecided += ["event_type", "occurred_at"]
        return {"event_type": max(tellings, key=lambda telling: telling.at).fact.type}
    row: Row = {"event_type": kinds.pop()}
    if all(telling.fact.timed for telling in candidates):
        times = {telling.fact.at for telling in candidates}
        undecided += ["occurred_at"] if len(times) > 1 else []
        return row | {"occurred_at": max(times)}
    spans = [(telling.first, telling.last) for telling in candidates if telling.first and telling.last]
    return row | {"received_between": [min(first for first, _ in spans), max(last for _, last in spans)]}


def task(subject: str, tellings: Sequence[Telling]) -> Row:
    """Return the row of a task: `state` open or done, `deadline` unix seconds, `result` a text or none."""
    row, undecided = _begin(subject, tellings)
    for name in ("title", "state", "deadline", "result", "responsible_user_id"):
        shown = "text" if name == "title" else name
        row[shown] = _decide(shown, column(tellings, name), undecided)
    row["deleted"] = _decide("deleted", deleted(tellings), undecided)
    return row | {"open": _open(tellings, undecided)}


def calls(tellings: Iterable[Telling]) -> list[Row]:
    """Return the calls, each once. `duration` is seconds; `recording` an address, or none; `uniq` may be empty."""
    of_call: defaultdict[Any, list[Telling]] = defaultdict(list)
    for telling in tellings:
        of_call[telling.fact.says["call"]].append(telling)
    return [_call(list(found)) for found in of_call.values()]


def _call(tellings: Sequence[Telling]) -> Row:
    logged = [telling for telling in tellings if "direction" in telling.fact.says]
    row, undecided = _begin(logged[0].fact.subject, logged)
    for name in ("uniq", "direction", "phone", "duration"):
        row[name] = logged[0].fact.says[name]
    row["occurred_at"] = logged[0].fact.at
    row["recording"] = _decide("recording", column(tellings, "recording"), undecided)
    return row | {"open": _open(logged, undecided)}


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


def _begin(subject: str, tellings: Sequence[Telling]) -> tuple[Row, list[str]]:
    entity, _, identifier = subject.partition("/")
    nothing = not any(telling.certain for telling in tellings)
    return {"entity_type": entity, "entity_id": identifier}, ["row"] if nothing else []


def _decide(name: str, found: tuple[Any, bool], undecided: list[str]) -> Any:
    value, sure = found
    if not sure:
        undecided.append(name)
    return value


def _open(tellings: Sequence[Telling], undecided: list[str]) -> list[str]:
    return ["row"] if "row" in undecided else sorted(set(undecided))
