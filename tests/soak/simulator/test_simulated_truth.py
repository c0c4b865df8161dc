"""What the decoder and the projections make of 100,000 deliveries is what the companies did."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.support.databases import new_database
from tests.support.scenarios.company_truth import CASES, the_tables_hold_what_the_companies_did
from tests.support.servers import Servers

SEEDS, COUNT = range(5), 2500


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Two of them: what a company does and what is decoded of it costs more than to write it."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("case", CASES)
async def test_the_tables_hold_what_the_company_did(
    case: str, servers: Servers, processes: ProcessPoolExecutor
) -> None:
    async with new_database(servers, "projections") as database:
        await the_tables_hold_what_the_companies_did(case, SEEDS, COUNT, 500, database, processes)


def test_at_least_100_000_deliveries_are_compared() -> None:
    assert len(CASES) * len(SEEDS) * COUNT >= 100_000
