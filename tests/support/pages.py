"""The pages and their fenced blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

RUN = ("sh", "python", "sql")

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (not run|file|output)(?:: ?(.*?))? ?-->\n\Z")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `mark` is the comment right before it: not run (and why), file (and where), output, or empty."""

    page: Path
    line: int
    language: str
    text: str
    mark: str
    said: str

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.language in RUN and not self.mark

    @property
    def looks(self) -> bool:
        """Whether it only reads, so that it may be run again."""
        if self.language == "sql":
            return self.text.startswith("SELECT")
        commands = re.findall(r"^(\w[\w-]*)", self.text.replace("\\\n", " "), re.MULTILINE)
        return self.language == "sh" and set(commands) <= {"curl", "psql", "sleep"} and "--data" not in self.text


def name(page: Path) -> str:
    """The page's path from the root."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        mark = _MARK.search(text[: found.start()])
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found[1], found[2], mark[1] if mark else "", (mark[2] or "") if mark else "")


def prose(page: Path) -> str:
    """A page's text without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def ran() -> list[Path]:
    """The pages that have something to run."""
    return [page for page in PAGES if any(block.runs for block in blocks(page))]
