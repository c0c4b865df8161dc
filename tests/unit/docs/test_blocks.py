"""Every block of a page is run by tests/acceptance/docs, or says why not."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.acceptance.docs.house import missing
from tests.support import ROOT
from tests.support.pages import PAGES, RUN, Block, blocks

_SHOWN_ONLY = {"text", "mermaid"}
_NOT_RUN = [block for page in PAGES for block in blocks(page) if block.mark == "not run"]


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
