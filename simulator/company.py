"""A small company at work in Kommo, as a stream of webhooks: deals come, move and close, people call and write.

The world is made of a seed. With a start given, everything is a pure function of seed, account and start; without
one it happens now. One happening may give several deliveries, and each delivery holds one item, as Kommo's do.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from simulator import deals, names, notes, people, tasks
from simulator.clock import Clock, OwnClock, WallClock, unix_seconds
from simulator.wire import account_block, encode_body, request_headers
from simulator.world import Change, World

DEFAULT_ACCOUNT: Final = 16700680

Happening = Callable[[World], list[Change]]

_HAPPENINGS: Final[dict[Happening, float]] = {
    deals.lead_added: 8,
    deals.lead_updated: 11,
    deals.lead_moved: 15,
    deals.lead_handed_over: 3,
    deals.lead_deleted: 2,
    deals.lead_restored: 1.5,
    partial(people.person_added, kind="contact"): 7,
    partial(people.person_updated, kind="contact"): 6,
    partial(people.person_handed_over, kind="contact"): 1.5,
    partial(people.person_deleted, kind="contact"): 1,
    partial(people.person_restored, kind="contact"): 1,
    partial(people.person_added, kind="company"): 3,
    partial(people.person_updated, kind="company"): 3,
    partial(people.person_handed_over, kind="company"): 1.5,
    partial(people.person_deleted, kind="company"): 1,
    partial(people.person_restored, kind="company"): 1,
    tasks.task_added: 9,
    tasks.task_completed: 6,
    tasks.task_changed: 4,
    tasks.task_handed_over: 2,
    tasks.task_deleted: 1.5,
    notes.note_written: 8,
    notes.call_made: 8,
}
"""What may happen, and how often beside the others."""


@dataclass(frozen=True, slots=True)
class SimulatedDelivery:
    """One request of Kommo's: its body and headers, and when it is sent (unix seconds)."""

    body: bytes
    headers: dict[str, str]
    at: int
    entity: str
    action: str


def deliveries(seed: int, account_id: int, start: dt.datetime | int | None = None) -> Iterator[SimulatedDelivery]:
    """Return the webhooks of a simulated account, without end.

    `start` (aware datetime, or unix seconds) makes the stream a pure function of its arguments, with a clock of its
    own that moves on by 20 seconds a happening on average. Without it each delivery happens when it is asked for.
    Raises ValueError for a start without a zone.
    """
    rng = random.Random(seed)  # noqa: S311 a simulation, nothing secret
    began = int(time.time()) if start is None else unix_seconds(start)
    clock = WallClock() if start is None else OwnClock(began, rng)
    return _encoded(World(account_id, rng, began), clock)


def changes(world: World, clock: Clock) -> Iterator[Change]:
    """Yield what happens in a world, without end, never going back in time."""
    happenings = list(_HAPPENINGS)
    weights = list(itertools.accumulate(_HAPPENINGS.values()))
    while True:
        world.now = clock.tick()
        due = world.due()
        if due is not None:
            yield from due()
            continue
        happening = world.rng.choices(happenings, cum_weights=weights)[0]
        # Where there is nobody yet to whom it could happen, a deal comes in.
        yield from happening(world) or deals.lead_added(world)


def _encoded(world: World, clock: Clock) -> Iterator[SimulatedDelivery]:
    account = account_block(world.account, names.SUBDOMAIN)
    for change in changes(world, clock):
        request_id = str(uuid.UUID(int=world.rng.getrandbits(128), version=4))
        body = encode_body(account, change.entity, change.action, change.item)
        yield SimulatedDelivery(body, request_headers(request_id), change.at, change.entity, change.action)
