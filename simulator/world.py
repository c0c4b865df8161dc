"""The state of the simulated account: its records, its users, its time and its ids."""

from __future__ import annotations

import heapq
import itertools
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypedDict, TypeVar

from simulator import names
from simulator.facts import Fact
from simulator.records import Customer, Element, Incoming, Kind, Lead, Named, Person, Record, Talk, Task
from simulator.wire import Item

USER_NAMES: Final = {2852878 + 31 * number: name for number, name in enumerate(names.USERS)}
"""The users of the account by id."""

_USERS: Final = tuple(USER_NAMES)
_MOST_KEPT: Final = 2000  # of each kind: the company forgets what nobody touches, and its memory stays small
_IDS_FROM: Final = 1_735_689_600  # 2025-01-01

_R = TypeVar("_R", bound=Record)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Change:
    """One item of one webhook: `entity[action][0] = item`, at a time in unix seconds, and what it tells of."""

    entity: str
    action: str
    item: Item
    at: int
    facts: tuple[Fact, ...]
    stage_hook: bool = False
    """Whether a stage of the digital pipeline sends it: those have another account block."""


class Common(TypedDict):
    """What a new record starts with."""

    id: int
    created_at: int
    updated_at: int
    created_by: int
    modified_by: int
    responsible: int


class World:
    """The records of the account, and `now` in unix seconds. All chance comes from `rng`.

    `pace`: what is said to happen some seconds later happens so many times sooner.
    """

    def __init__(self, account: int, rng: random.Random, start: int, pace: float = 1.0) -> None:
        self.account = account
        self.rng = rng
        self.now = start
        self._pace = pace
        self.leads: list[Lead] = []  # the open ones
        self.closed_leads: list[Lead] = []  # won or lost
        self.people: dict[Kind, list[Person]] = {"contact": [], "company": []}
        self.customers: list[Customer] = []
        self.tasks: list[Task] = []  # the open ones
        self.done_tasks: list[Task] = []
        self.incoming: list[Incoming] = []
        self.talks: list[Talk] = []
        self.elements: list[Element] = []
        self.deleted_leads: list[Lead] = []
        self.deleted_people: dict[Kind, list[Person]] = {"contact": [], "company": []}
        # Ids grow with time and are spread by the seed, so that a second run on one account meets no known id.
        self._next_id = 30_000_000 + 8 * max(0, start - _IDS_FROM) + rng.randrange(50_000_000)
        # So are names that are random: two runs of one seed differ in them.
        self._salt = random.Random(start).getrandbits(256)  # noqa: S311 a simulation, nothing secret
        self._due: list[tuple[int, int, Callable[[], list[Change]]]] = []
        self._number = itertools.count()

    def change(self, entity: str, action: str, item: Item, *facts: Fact) -> Change:
        """Return a change that happens now."""
        return Change(entity, action, item, self.now, facts)

    def new_id(self) -> int:
        """Return an id no record has had."""
        self._next_id += self.rng.randrange(1, 4)  # the ids between belong to other accounts
        return self._next_id

    def bits(self, count: int) -> int:
        """Return a random number of so many bits (at most 256) for a name that no other thing has."""
        return self.rng.getrandbits(count) ^ self._salt >> 256 - count

    def uuid(self) -> str:
        """Return a new UUID."""
        return str(uuid.UUID(int=self.bits(128), version=4))

    def user(self) -> int:
        """Return some user's id."""
        return self.rng.choice(_USERS)

    def new(self) -> Common:
        """Return what a record starts with that some user makes now."""
        user = self.user()
        return {
            "id": self.new_id(),
            "created_at": self.now,
            "updated_at": self.now,
            "created_by": user,
            "modified_by": user,
            "responsible": user,
        }

    def keep(self, pool: list[_T], thing: _T) -> None:
        """Put something into a pool; a full pool forgets one of its own."""
        if len(pool) >= _MOST_KEPT:
            pool[self.rng.randrange(len(pool))] = thing
        else:
            pool.append(thing)

    def take(self, pool: list[_R], rest: int = 0) -> _R | None:
        """Return some record of the pool, stamped as changed now by some user; None where none is free.

        One that changed in this very second is left alone: within a second Kommo's clock orders nothing. So is one
        that changed less than `rest` seconds ago: a delete has no time but its receipt, which may lag.
        """
        for _ in range(4):
            if not pool:
                return None
            record = self.rng.choice(pool)
            if record.updated_at + rest < self.now and self.touch(record):
                return record
        return None

    def touch(self, record: Record, by: int | None = None) -> bool:
        """Stamp a record as changed now, by a user or by some user; False where this second has changed it already."""
        if record.updated_at >= self.now:
            return False
        record.updated_at = self.now
        record.modified_by = self.user() if by is None else by
        return True

    def hand_over(self, record: Record) -> int:
        """Give a record to another user and return the one before."""
        old = record.responsible
        record.responsible = self.rng.choice([user for user in _USERS if user != old])
        return old

    def element(self) -> Named | None:
        """Return what a task, note or call is about: mostly a lead. None in a company that has nothing yet."""
        chance = self.rng.random()
        pool: list[Lead] | list[Person] | list[Customer]
        if chance < 0.6:
            pool = self.leads
        elif chance < 0.95:
            pool = self.people["contact" if chance < 0.83 else "company"]
        else:
            pool = self.customers
        return self.rng.choice(pool) if pool else None

    def later(self, seconds: int, what: Callable[[], list[Change]]) -> None:
        """Let something happen some seconds from now."""
        at = self.now + max(1, round(seconds / self._pace))
        heapq.heappush(self._due, (at, next(self._number), what))

    def due(self) -> Callable[[], list[Change]] | None:
        """Return what is due now, the oldest first; None where nothing is."""
        if self._due and self._due[0][0] <= self.now:
            return heapq.heappop(self._due)[2]
        return None
