"""A small company at work in Kommo, as a stream of webhooks: deals come, move and close, people call and write.

The world is made of a seed. With a start given, everything is a pure function of the arguments; without one it
happens now. One happening may give several deliveries, and each delivery holds one item, as Kommo's do.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from simulator.clock import Clock, OwnClock, WallClock, unix_seconds
from simulator.facts import Fact
from simulator.generations import GENERATIONS, NEWEST, Generation
from simulator.happenings import HAPPENINGS
from simulator.leads import lead_added
from simulator.wire import Item, request_headers
from simulator.world import Change, World

DEFAULT_ACCOUNT: Final = 16700680


@dataclass(frozen=True, slots=True)
class SimulatedDelivery:
    """One request of Kommo's: its body and headers, and when it is sent (unix seconds).

    `item` is the item as it stands in the body, `facts` what it tells of: the truth is made of these. A body that is
    no webhook tells of nothing, and has no entity.
    """

    body: bytes
    headers: dict[str, str]
    at: int
    entity: str
    action: str
    account: int
    item: Item = field(compare=False, repr=False)
    facts: tuple[Fact, ...] = field(compare=False, repr=False)


def deliveries(
    seed: int,
    account_id: int,
    start: dt.datetime | int | None = None,
    *,
    years: Sequence[int] = (NEWEST,),
    pace: float = 1.0,
) -> Iterator[SimulatedDelivery]:
    """Return the webhooks of a simulated account, without end.

    `start` (aware datetime, or unix seconds) makes the stream a pure function of its arguments, with a clock of its
    own that moves on by 20 seconds a happening on average. Without it each delivery happens when it is asked for.
    `years`: the formats of bodies, of which each happening has one. `pace`: what follows from something a while
    later (a recording, a result) follows so many times sooner. Raises ValueError for a start without a zone, and for
    a year whose format is not known.
    """
    unknown = set(years) - set(GENERATIONS)
    if unknown or not years:
        known = ", ".join(str(year) for year in GENERATIONS)
        raise ValueError(f"the format of {sorted(unknown) or 'no year'} is not known: choose of {known}")
    rng = random.Random(seed)  # noqa: S311 a simulation, nothing secret
    began = int(time.time()) if start is None else unix_seconds(start)
    clock = WallClock() if start is None else OwnClock(began, rng)
    world = World(account_id, rng, began, pace)
    return _encoded(world, clock, [GENERATIONS[year] for year in years])


def changes(world: World, clock: Clock) -> Iterator[list[Change]]:
    """Yield what happens in a world, without end, never going back in time."""
    happenings = list(HAPPENINGS)
    weights = list(itertools.accumulate(HAPPENINGS.values()))
    while True:
        world.now = clock.tick()
        due = world.due()
        if due is not None:
            yield due()
            continue
        happening = world.rng.choices(happenings, cum_weights=weights)[0]
        # Where there is nobody yet to whom it could happen, a deal comes in.
        yield happening(world) or lead_added(world)


def _encoded(world: World, clock: Clock, generations: list[Generation]) -> Iterator[SimulatedDelivery]:
    generation = generations[0]
    for happened in changes(world, clock):
        if len(generations) > 1:
            generation = world.rng.choice(generations)
        for change in happened:
            headers = request_headers(world.uuid(), generation.user_agent)
            body, item = generation.body(change, world.account)
            yield SimulatedDelivery(
                body, headers, change.at, change.entity, change.action, world.account, item, change.facts
            )
