"""What may be put into the outbox."""

from __future__ import annotations

import pytest

from agents.commands.table import Outgoing


def test_what_nobody_would_publish_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kommo\.accounts"):
        Outgoing("kommo.accounts", b"k", b"v")
