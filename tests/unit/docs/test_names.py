"""What the pages name is there: pages, headings, tests, settings, metrics, commands, files."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from docs.generate import FOLDER
from projections.queries import VIEWS
from runtime.settings import PREFIX, Settings
from schemas.catalogue import EVENT_TYPES
from service.cli import cli
from tests.support import ROOT
from tests.support.pages import PAGES, blocks, name, prose

EACH = pytest.mark.parametrize("page", PAGES, ids=name)

_ADDED = {"kommo.invoice.paid"}  # what docs/how-to/add-an-event.md adds


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EACH
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.is_file(), f"{name(page)}: {link}"
        if anchor:
            assert anchor in _anchors(target), f"{name(page)}: {link}"


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(page))
        if not link.startswith("https://")
    }
    assert [name(page) for page in PAGES if page not in linked and page.name != "README.md"] == []


@EACH
def test_tests_exist(page: Path) -> None:
    for file, function in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", prose(page)):
        assert (ROOT / file).is_file(), f"{name(page)}: {file}"
        if function:
            assert re.search(rf"^(async )?def {function}\(", (ROOT / file).read_text(), re.MULTILINE), (
                f"{name(page)}: {file} has no {function}"
            )


def test_every_guarantee_names_its_test() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    sections = re.split(r"^##+ ", text, flags=re.MULTILINE)[1:-1]
    assert len(sections) >= 8
    for section in sections:
        heading = section.splitlines()[0]
        for word in ("Promise", "Mechanism", "Limit", "Test"):
            assert f"- **{word}.**" in section, f"{heading}: no {word}"
        assert "::test_" in section.partition("**Test.**")[2], heading


def test_the_tests_of_the_guarantees_are_in_make_test() -> None:
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert "\t$(PYTEST)" in recipe[1].splitlines()  # without a folder's name: pytest takes all of testpaths
    run = [Path(folder).parts for folder in configured["testpaths"]]
    named = set(re.findall(r"`(tests/[\w/]+\.py)", prose(ROOT / "docs" / "guarantees.md")))
    assert len(named) > 10
    left_out = [file for file in sorted(named) if not any(Path(file).parts[: len(parts)] == parts for parts in run)]
    assert left_out == []
    assert not any(("tests", "soak")[: len(parts)] == parts for parts in run)


@EACH
def test_settings_exist(page: Path) -> None:
    known = {f"{PREFIX}{setting.upper()}" for setting in Settings.model_fields}
    for found in re.findall(rf"{PREFIX}[A-Z_]+[A-Z]", page.read_text()):
        assert found in known or any(setting.startswith(f"{found}_") for setting in known), f"{name(page)}: {found}"


@functools.cache
def _reference() -> dict[str, str]:
    """The pages, written by a process of their own: click remembers the --help of a command that a test has run."""
    code = "import json; from docs.generate import pages; print(json.dumps(pages()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@functools.cache
def _metrics() -> set[str]:
    known = set(re.findall(r"`(kommo_streams_\w+)`", _reference()["metrics.md"]))
    return known | {f"{metric}{end}" for metric in known for end in ("_bucket", "_sum", "_count")}


@EACH
def test_metrics_exist(page: Path) -> None:
    for found in re.findall(r"\bkommo_streams_\w+", page.read_text()):
        assert found in _metrics() | {"kommo_streams_session"}, f"{name(page)}: {found}"


@EACH
def test_event_types_and_topics_exist(page: Path) -> None:
    for found in re.findall(r"`(kommo\.[a-z]+\.[a-z_]+)`", prose(page)):
        assert found in EVENT_TYPES or found in _ADDED or found.endswith(".g1"), f"{name(page)}: {found}"


@EACH
def test_commands_and_options_exist(page: Path) -> None:
    texts = [block.text for block in blocks(page) if block.language == "sh"]
    texts += re.findall(r"`(kommo-streams[^`]*)`", prose(page))
    for line in "\n".join(texts).replace("\\\n", " ").splitlines():
        for call in re.findall(r"kommo-streams ([^|;&#`]*)", line):
            _check(call.split(), f"{name(page)}: {line}")


def _check(words: list[str], where: str) -> None:
    command: click.Command = cli
    for word in words:
        if word.startswith("--"):
            options = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
            assert word.partition("=")[0] in options, f"{where}: {command.name} has no {word}"
        elif isinstance(command, click.Group):
            found = command.get_command(click.Context(command), word)
            if found is None and command is cli and not re.fullmatch(r"[a-z-]+", word):
                return
            assert found is not None, f"{where}: there is no {word}"
            command = found


@EACH
def test_files_exist(page: Path) -> None:
    folders = "schemas|runtime|streams|agents|projections|gateway|dashboard|simulator|service|tests|docs|deploy|bench"
    made = {block.said.partition(",")[0] for block in blocks(page) if block.mark == "file"}
    for found in re.findall(rf"`((?:{folders})/[\w./-]*)`", prose(page)):
        assert (ROOT / found).exists() or found in made, f"{name(page)}: {found}"


def test_the_columns_of_the_views_are_all_described() -> None:
    text = (ROOT / "docs" / "how-to" / "read-from-sql.md").read_text()
    for view in VIEWS:
        section = text.partition(f"## {view.name}\n")[2].partition("\n## ")[0]
        columns = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        assert tuple(columns) == view.columns, view.name


@pytest.mark.parametrize("file", sorted(page.name for page in FOLDER.iterdir()))
def test_the_reference_is_what_the_code_says(file: str) -> None:
    assert (FOLDER / file).read_text() == _reference().get(file), "write it anew: python -m docs.generate"


def test_the_reference_has_no_other_pages() -> None:
    assert {page.name for page in FOLDER.iterdir()} == set(_reference())


def test_benchmarks_has_its_place_for_the_figures() -> None:
    lines = (ROOT / "docs" / "benchmarks.md").read_text().splitlines()
    assert lines.index("<!-- figures -->") < lines.index("<!-- end of figures -->")


def test_decisions_have_their_parts_and_are_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    found = sorted(folder.glob("[0-9]*.md"))
    for number, page in enumerate(found, 1):
        text = page.read_text()
        assert page.name.startswith(f"{number:04d}-")
        assert text.startswith(f"# {number}. ")
        assert [line for line in text.splitlines() if line.startswith("## ")] == [
            "## Context",
            "## Decision",
            "## Consequence",
        ]
        assert f"[{text.splitlines()[0][2:]}]({page.name})" in (folder / "README.md").read_text()


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "images").glob("*.svg")), ids=lambda picture: picture.name)
def test_pictures_are_whole_and_say_what_they_show(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title") is not None
    assert root.find(f"{space}desc") is not None


@EACH
def test_nothing_of_one_machine_is_in_a_page(page: Path) -> None:
    text = page.read_text()
    assert str(Path.home()) not in text
    assert str(ROOT) not in text
    assert not re.search(r"/(?:home|tmp|Users)/\w+", text), name(page)
