"""Twenty moments of kills, stops, joins and leaves at full rate."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.support.scenarios.deliveries_under_kills import every_accepted_delivery_is_in_the_tables_exactly_once


@pytest.mark.timeout(300)
async def test_twenty_kills_lose_and_double_nothing(settings: Settings, tmp_path: Path) -> None:
    await every_accepted_delivery_is_in_the_tables_exactly_once(20, 150.0, settings, tmp_path)
