"""What the tables would hold: deliveries decoded as they arrive and folded in memory, and compared with a truth."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from projections.reading import LoggedEvent, read_event
from projections.recent_updates import NO_NEWS, State
from schemas.decoder import decode
from schemas.delivery import Delivery
from simulator.company import SimulatedDelivery
from simulator.expected import RECENT
from simulator.mischief import Mischief, arrivals
from simulator.truth import Told, Truth

UNRECOGNIZED = "kommo.unrecognized"
SECOND = 1_000_000

Row = dict[str, Any]


@dataclass
class Tables:
    """What tables hold of one account; times are microseconds since 1970.

    `lines`: type, subject and time of each event, by id. `shown`: how many lines people see of each type and subject.
    `recent` and `tasks` by subject, `calls` by subject and name. None: that table is not looked at.
    """

    lines: dict[str, tuple[str, str, int]]
    shown: Counter[tuple[str, str]]
    recent: dict[str, Row]
    tasks: dict[str, Row] | None = None
    calls: dict[tuple[str, str], Row] | None = None


@dataclass
class Receiver:
    """Decodes what it receives and keeps it, without any server."""

    account: int
    events: dict[str, LoggedEvent] = field(default_factory=dict)
    recent: defaultdict[str, State] = field(default_factory=lambda: defaultdict(State))
    received: int = 0
    rejections: int = 0

    def receive(self, delivery: SimulatedDelivery, received_us: int) -> None:
        self.received += 1
        raw = Delivery(
            self.account, f"d{self.received}", received_us, delivery.body, content_type=delivery.headers["Content-Type"]
        )
        decoded = decode(raw)
        assert not (decoded.rejections and delivery.entity), decoded.rejections
        self.rejections += len(decoded.rejections)
        for encoded in decoded.events:
            event = read_event(encoded.value, 0, 0)
            assert event.kind.name != UNRECOGNIZED or not delivery.entity
            known = self.events.get(event.event_id)
            if known is None or event.sort_key < known.sort_key:
                self.events[event.event_id] = event
            if event.entity_type in RECENT and event.kind.name not in NO_NEWS:
                self.recent[subject(event)].fold(event)

    def tables(self) -> Tables:
        events = sorted(self.events.values(), key=lambda event: event.clock)
        lines = {event.event_id: (event.kind.name, subject(event), microseconds(event.time)) for event in events}
        recent = {name: recent_row(state.columns()) for name, state in self.recent.items()}
        return Tables(lines, shown(events), recent, tasks(events), calls(events))


def recent_row(columns: tuple[Any, ...]) -> Row:
    title, kind, _, responsible, time, _, deleted, _ = columns
    row: Row = {"title": title, "event_type": kind, "responsible_user_id": responsible, "deleted": deleted}
    return row | {"occurred_at": microseconds(time)}


def microseconds(time: dt.datetime) -> int:
    return round(time.timestamp() * SECOND)


def subject(event: LoggedEvent) -> str:
    return f"{event.entity_type}/{event.entity_id}"


def shown(events: list[LoggedEvent]) -> Counter[tuple[str, str]]:
    """The lines that people see: of deletes with nothing between them the first."""
    deleted: set[str] = set()
    found: Counter[tuple[str, str]] = Counter()
    for event in events:
        name = subject(event)
        if not (event.kind.deletes and name in deleted):
            found[event.kind.name, name] += 1
        if event.kind.deletes:
            deleted.add(name)
        elif event.kommo_time:
            deleted.discard(name)
    return found


def tasks(events: list[LoggedEvent]) -> dict[str, Row]:
    rows: defaultdict[str, Row] = defaultdict(dict)
    for event in events:
        if event.entity_type != "task" or event.kind.name == UNRECOGNIZED:
            continue
        row, fields = rows[subject(event)], event.data.get("task", {})
        if event.kind.deletes:
            row["deleted"] = True
        elif event.kind.snapshot:
            row |= {"deleted": False, "text": fields["text"], "responsible_user_id": fields["responsible_user_id"]}
            row["deadline"] = fields.get("complete_before") or unix_seconds(fields["complete_till"])
            row["state"] = "done" if fields["status"] == 1 else "open"
            if event.kind.name == "kommo.task.result_added":
                row["result"] = fields["result"]["text"]
    return rows


def unix_seconds(text: str) -> int:
    return int(dt.datetime.fromisoformat(f"{text}+00:00").timestamp())


def calls(events: list[LoggedEvent]) -> dict[tuple[str, str], Row]:
    rows: defaultdict[tuple[str, str], Row] = defaultdict(lambda: {"logged": 0})
    for event in events:
        if event.kind.name in ("kommo.call.logged", "kommo.call.recorded"):
            call = event.data["call"]
            row = rows[subject(event), call["uniq"] or f"{call['phone']} at {event.time.timestamp():.0f}"]
            row |= {key: call[key] for key in ("direction", "phone", "duration")}
            row["logged"] += event.kind.name == "kommo.call.logged"
            if event.kind.name == "kommo.call.recorded":
                row["recording"] = call["link"]
    return rows


def simulated(
    deliveries: Iterable[SimulatedDelivery], mischief: Mischief, seed: int, account: int
) -> tuple[Receiver, Row]:
    """Receive what comes of these deliveries; returns the receiver, and the truth."""
    receiver, truth = Receiver(account), Truth()
    told: dict[int, tuple[SimulatedDelivery, Told]] = {}
    for received_us, delivery in arrivals(deliveries, mischief, seed):
        if id(delivery) not in told:
            told[id(delivery)] = (delivery, truth.tell(delivery))
        if received_us is not None:
            told[id(delivery)][1].arrived(received_us, received_us, certain=True)
            receiver.receive(delivery, received_us)
    return receiver, truth.to_json()["accounts"][str(account)]


class Comparison:
    """Fails where a table holds something else than the truth; counts what was compared, and what is open."""

    def __init__(self, tables: Tables, truth: Row) -> None:
        self.compared: Counter[str] = Counter()
        self._recent(dict(tables.recent), truth["recent_updates"])
        self._activity(dict(tables.lines), Counter(tables.shown), truth["activity_log"])
        if tables.tasks is not None:
            self._tasks(dict(tables.tasks), truth["tasks"])
        if tables.calls is not None:
            self._calls(dict(tables.calls), truth["calls"])

    def _decided(self, row: Row, column: str, table: str) -> bool:
        is_open = "row" in row["open"] or column in row["open"]
        self.compared[f"{table} {'open ' * is_open}{column}"] += 1
        return not is_open

    def _rows(self, table: str, found: Row, row: Row, *columns: str) -> None:
        for column in columns:
            if self._decided(row, column, table):
                assert found.get(column) == row[column], (table, column, row, found)

    def _recent(self, rows: dict[str, Row], truth: list[Row]) -> None:
        for row in truth:
            found = rows.pop(_name(row), {})
            assert found or row["open"] == ["row"], row
            self._rows("recent", found, row, "title", "event_type", "responsible_user_id", "deleted")
            if self._decided(row, "occurred_at", "recent"):
                first, last = row.get("received_between") or [row["occurred_at"] * SECOND] * 2
                assert first <= found["occurred_at"] <= last, (row, found)
        assert not rows, "recent_updates holds what is not there"

    def _activity(self, lines: dict[str, tuple[str, str, int]], shown: Counter[tuple[str, str]], truth: Row) -> None:
        for row in truth["events"]:
            line = lines.pop(row["event_id"], None)
            self.compared[f"event{' open' * row['open']}"] += 1
            if line is None:
                assert row["open"], row
                continue
            kind, subject, time = line
            assert (kind, subject) == (row["event_type"], row["subject"])
            assert row["occurred_at"] in (None, time / SECOND), (row, time)
        told = {(row["event_type"], row["subject"]) for row in truth["nameless"]}
        assert {(kind, subject) for kind, subject, _ in lines.values() if kind != UNRECOGNIZED} <= told
        for row in truth["nameless"]:
            self.compared[f"nameless{' open' * row['open']}"] += 1
            assert row["open"] or shown[row["event_type"], row["subject"]] == row["count"], row

    def _tasks(self, rows: dict[str, Row], truth: list[Row]) -> None:
        for row in truth:
            found = rows.pop(_name(row), {})
            self._rows("task", found, row, "text", "state", "deadline", "result", "responsible_user_id", "deleted")
        assert not rows, "there are tasks that nobody made"

    def _calls(self, rows: dict[tuple[str, str], Row], truth: list[Row]) -> None:
        for row in truth:
            found = rows.pop((_name(row), row["uniq"] or f"{row['phone']} at {row['occurred_at']}"), {})
            assert found.get("logged") == 1 or row["open"] == ["row"], (row, found)
            self._rows("call", found, row, "direction", "phone", "duration", "recording")
        assert not rows, "there are calls that nobody made"


def _name(row: Row) -> str:
    return f"{row['entity_type']}/{row['entity_id']}"
