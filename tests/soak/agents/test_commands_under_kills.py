"""10,000 commands while everything is killed in turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.support.scenarios.commands_under_kills import AND_AGAIN, each_effect_is_there_once_or_it_says_why_not
from tests.support.servers import OwnServers


@pytest.mark.timeout(600)
@pytest.mark.kills_servers
async def test_each_of_10_000_commands_has_its_effect_once_or_says_why_not(
    mortal_servers: OwnServers, settings: Settings, tmp_path: Path
) -> None:
    await each_effect_is_there_once_or_it_says_why_not(10_000, AND_AGAIN, mortal_servers, settings, tmp_path)
