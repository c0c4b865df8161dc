"""Each message's schema in the AsyncAPI document takes what ingest writes."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from docs.generate import FOLDER
from schemas.actions import ACTIONS
from schemas.catalogue import EVENT_TYPES
from schemas.command import Command, CommandError
from schemas.decoder import decode
from tests.support.webhooks import bodies, corpus_delivery, load

DOCUMENT: dict[str, Any] = json.loads((FOLDER / "asyncapi.json").read_text(encoding="utf-8"))


@functools.cache
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
