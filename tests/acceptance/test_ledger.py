"""Ingest and projector killed, stopped, joined and left under load, each once. The long run is in tests/soak."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.support.scenarios.deliveries_under_kills import every_accepted_delivery_is_in_the_tables_exactly_once


@pytest.mark.timeout(300)
async def test_every_accepted_delivery_is_in_both_tables_exactly_once(settings: Settings, tmp_path: Path) -> None:
    await every_accepted_delivery_is_in_the_tables_exactly_once(8, 60.0, settings, tmp_path)
