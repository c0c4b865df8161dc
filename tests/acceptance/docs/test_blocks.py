"""Every command and snippet of the README and of docs/ is run, and prints what the page shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.docs.house import Reader, missing
from tests.support.pages import blocks, name, ran

PATIENCE = 10.0


@pytest.mark.parametrize("page", ran(), ids=name)
def test_a_page_does_what_it_says(page: Path, reader: Callable[..., Reader]) -> None:
    found = list(blocks(page))
    someone = reader(source=any(block.mark == "file" for block in found))
    printed, last = "", None
    for block in found:
        if block.mark == "file":
            someone.edit(block)
        elif block.mark == "output":
            limit = time.monotonic() + PATIENCE
            # What was sent a moment ago may not be in the tables yet: whoever only looks may look again.
            while (lacking := list(missing(block.text, printed))) and last and last.looks and time.monotonic() < limit:
                time.sleep(0.2)
                printed = someone.run(last)
            assert not lacking, f"{block}: {lacking} is not in what was printed:\n{printed}"
        elif block.runs:
            printed, last = someone.run(block), block
