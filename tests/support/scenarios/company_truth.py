"""What the decoder and the projections make of deliveries is what the simulated companies did."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import lru_cache
from itertools import islice
from typing import Any

import asyncpg

from simulator.company import SimulatedDelivery, deliveries
from simulator.generations import GENERATIONS
from simulator.mischief import Mischief
from simulator.names import RESULTS
from tests.support.truth.comparison import COLUMNS, Comparison
from tests.support.truth.received import Received, received
from tests.support.truth.tables import shown, write_all

_ACCOUNT = 16700680
_START = 1_770_000_000
_ALL_YEARS = tuple(GENERATIONS)

CASES = {
    "nothing goes wrong": (Mischief(), (2026,)),
    "repeats": (Mischief(repeats=0.3), (2026,)),
    "reorderings": (Mischief(reorderings=0.5), (2026,)),
    "delays": (Mischief(delays=0.3), (2026,)),
    "losses": (Mischief(losses=0.1), (2026,)),
    "garbage": (Mischief(garbage=0.2), (2026,)),
    "formats": (Mischief(), _ALL_YEARS),
    "everything": (
        Mischief(repeats=0.15, reorderings=0.2, delays=0.15, losses=0.03, garbage=0.05),
        _ALL_YEARS,
    ),
}

_ALL = [("activity_log", "event_id"), ("activity_log", "count")]
_ALL += [(view, column) for view, columns in COLUMNS.items() for column in columns]

_ON = {"lead", "contact", "company", "customer"}
_VARIED: dict[tuple[str, str], set[Any]] = {
    ("recent_updates", "deleted"): {True, False},
    ("tasks", "state"): {"open", "completed", "deleted"},
    ("tasks", "entity_type"): _ON,
    ("tasks", "result"): {None, *RESULTS},
    ("tasks", "reopened_at"): {None},
    ("calls", "entity_type"): _ON,
    ("calls", "direction"): {"in", "out"},
    ("calls", "recording_url"): {None},
    ("calls", "call_id"): {None},
}
"""Values that are among the compared, so that there is something to see; beside None alone there are many others."""


@lru_cache(maxsize=8)
def _did(seed: int, years: tuple[int, ...], count: int) -> list[SimulatedDelivery]:
    """The same in most cases, so made once."""
    return list(islice(deliveries(seed, _ACCOUNT + seed, _START, years=years), count))


def _company(case: str, seed: int, count: int) -> Received:
    """What arrives of one company, each in an account of its own."""
    mischief, years = CASES[case]
    return received(_did(seed, years, count), mischief, seed, _ACCOUNT + seed)


async def the_tables_hold_what_the_companies_did(
    case: str, seeds: Sequence[int], count: int, floor: int, database: str, processes: Executor | None = None
) -> None:
    """Compare what the companies of these seeds did in `count` deliveries each with the tables of a database.

    The tables must be empty. Of every column more than `floor` values must be compared. Many young companies meet more
    than one old one: what is deleted is soon restored.
    """
    mischief, loop = CASES[case][0], asyncio.get_running_loop()
    received_by = await asyncio.gather(
        *(loop.run_in_executor(processes, _company, case, seed, count) for seed in seeds)
    )
    assert all((one.rejections > 0) == (mischief.garbage > 0) for one in received_by)
    await write_all(database, [one.events() for one in received_by], len(case))
    compared, undecided = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    connection = await asyncpg.connect(database)
    try:
        for one in received_by:
            found = Comparison(await shown(connection, one.account), one.truth)
            compared += found.compared
            undecided += found.open
    finally:
        await connection.close()
    # Conversations and incoming leads have no name at Kommo.
    unnamed = undecided.pop(("recent_updates", "title")) if not mischief.losses else 0
    assert unnamed < 0.05 * compared.total()
    # What is open is the exception, and only what the guarantees call undecidable.
    assert undecided.total() < (0.1 if mischief.losses else 0.02) * compared.total()
    if not mischief.losses:
        assert set(undecided) <= {
            ("recent_updates", "event_type"),  # two events of one second
            ("recent_updates", "occurred_at"),
            ("recent_updates", "deleted"),  # a delete that came after what was after it
            ("tasks", "state"),
            ("tasks", "occurred_at"),
            ("tasks", "result"),  # of one that was reopened
            ("activity_log", "count"),  # a repeated hook of the digital pipeline, a delete repeated after a restore
        }
    for what in _ALL:
        assert compared[what] > max(floor, 3 * undecided[what]), what
    for (view, column), values in _VARIED.items():
        there = {row[column] for one in received_by for row in one.truth[view]}
        assert values <= there, (view, column)
        assert values != {None} or len(there) > floor // 25, (view, column)
