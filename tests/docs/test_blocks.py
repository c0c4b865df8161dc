"""Every command and snippet of the README and of docs/ is run, and prints what the page shows."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.docs.house import Reader, missing
from tests.docs.pages import PAGES, RUN, Block, blocks, name, ran

PATIENCE = 10.0
_SHOWN_ONLY = {"text", "mermaid"}
_NOT_RUN = [block for page in PAGES for block in blocks(page) if block.mark == "not run"]


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


def test_no_block_is_left_out_by_its_language() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert block.language in {*RUN, *_SHOWN_ONLY}, f"{block}: what is {block.language!r}?"


def test_what_is_not_run_is_little_and_says_why() -> None:
    assert len(_NOT_RUN) <= 8
    for block in _NOT_RUN:
        assert block.language == "sh", str(block)
        assert len(block.said) > 10, f"{block} does not say why it is not run"


@pytest.mark.parametrize("block", _NOT_RUN, ids=str)
def test_what_is_not_run_names_what_is_there(block: Block) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for line in block.text.splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["make"]:
            assert words[1] in targets, line
        elif words[:2] == ["docker", "compose"]:
            assert words[2] in ("build", "up", "exec"), line
            services = re.findall(r"exec (\S+)", line) + re.findall(r"--scale (\w+)=", line)
            assert set(services) <= set(compose["services"]), line
        elif words[:1] == ["cp"]:
            assert (ROOT / words[1]).is_file(), line


def test_an_output_that_is_not_printed_is_noticed() -> None:
    assert list(missing("b\na", "a  b")) == ["a"]
    assert list(missing("a  b\nc", " a b\n\n c")) == []
