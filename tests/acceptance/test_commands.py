"""Commands while everything is killed in turn, each once. The long figure is in tests/soak."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.support.scenarios.commands_under_kills import EACH_ONCE, each_effect_is_there_once_or_it_says_why_not
from tests.support.servers import OwnServers


@pytest.mark.timeout(300)
@pytest.mark.kills_servers
async def test_every_commands_effect_is_there_once_or_it_says_why_not(
    mortal_servers: OwnServers, settings: Settings, tmp_path: Path
) -> None:
    await each_effect_is_there_once_or_it_says_why_not(1_200, EACH_ONCE, mortal_servers, settings, tmp_path)
