"""What the decoder and the projections make of deliveries is what the company did; tests/soak does it with 100,000."""

from __future__ import annotations

import pytest

from tests.support.databases import new_database
from tests.support.scenarios.company_truth import CASES, the_tables_hold_what_the_companies_did
from tests.support.servers import Servers

SEEDS = (4, 5, 15)
"""Companies that do everything within few deliveries."""


@pytest.mark.parametrize("case", CASES)
async def test_the_tables_hold_what_the_company_did(case: str, servers: Servers) -> None:
    async with new_database(servers, "projections") as database:
        await the_tables_hold_what_the_companies_did(case, SEEDS, 500, 50, database)
