"""Every type of event has a line in tests/support/lines.py, which is tried on real tables."""

from __future__ import annotations

from schemas.catalogue import EVENT_TYPES
from tests.support.lines import ENDED, SAID, TOLD


def test_every_type_has_a_line_here() -> None:
    assert EVENT_TYPES.keys() == SAID.keys() | ENDED.keys() | TOLD.keys()
