"""The AsyncAPI document of the topics, written from the declarations: the catalogue, the models and the topics.

AsyncAPI 3.1 (https://www.asyncapi.com/docs/reference/specification/v3.1.0) with the Kafka bindings.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from typing import Any, cast

from pydantic.json_schema import models_json_schema

from docs import actions
from runtime.settings import Settings
from schemas.catalogue import EVENT_TYPES, EventType
from schemas.deadletter import PREFIX as DEAD_LETTER_PREFIX
from schemas.decoder import decode
from schemas.delivery import Delivery
from schemas.event import SCHEMA, Event
from schemas.outcome import Outcome, outcome_event
from streams.topics import ACCOUNTS, COMMANDS, DEADLETTERS, EVENTS, WEBHOOKS, Topic, physical, topics

_SCHEMAS = "#/components/schemas/"
_EXAMPLE = Delivery(16700680, "01996bd1-9a40-7000-8000-000000000001", 1_790_000_000_123_456, b"")

_DESCRIPTION = """\
The topics of kommo-streams, for programs in any language.

**Partitions.** The partition of a key is murmur2 of the key's bytes, as Kafka's Java client computes it. Clients on
librdkafka default to another hash: set `partitioner=murmur2_random` there, or the order of an entity is lost.

**Reading events.** Take what you know by `type`, skip the rest, and expect every event at least once: its `id` names
the occurrence, so that a repeat is the same event. Order an entity's events by (`time`, added before all else,
`sequence`, `id`), never by offset.

**Asking for an action.** Write a command with an `id` of your own (a UUID): it is carried out once, however often it
is written. What becomes of it are the events `kommo.command.*` of the same `correlationid`.
"""


def document(settings: Settings) -> dict[str, Any]:
    """Return the document. Topics are named and partitioned as these settings say."""
    declared = {topic.name: topic for topic in topics(settings)}
    messages = {name: _other(name) for name in (WEBHOOKS, DEADLETTERS, ACCOUNTS)}
    messages |= {kind.name: _event(kind) for kind in EVENT_TYPES.values()}
    messages |= {kind: actions.message(kind) for kind in actions.MESSAGES}
    in_topic = {name: [name] for name in (WEBHOOKS, DEADLETTERS, ACCOUNTS)}
    in_topic |= {EVENTS: list(EVENT_TYPES), COMMANDS: actions.MESSAGES}
    channels = {
        name: _channel(topic, physical(settings, name), in_topic[name])
        for name, topic in declared.items()
        if name in in_topic
    }
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "kommo-streams",
            "version": version("kommo-streams"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_slug(name): channel for name, channel in channels.items()},
        "operations": {
            _slug(f"{action} {name}"): {
                "action": action,
                "channel": {"$ref": f"#/channels/{_slug(name)}"},
                "summary": summary,
                "messages": [{"$ref": f"#/channels/{_slug(name)}/messages/{_slug(told)}"} for told in in_topic[name]],
            }
            for action, name, summary in (
                ("send", EVENTS, "The project sends; read what happened."),
                ("receive", EVENTS, "Any gateway may write events of the catalogue."),
                ("receive", COMMANDS, "Any program may ask for an action."),
                ("send", DEADLETTERS, "Read what was set aside, and why."),
                ("send", WEBHOOKS, "Read the bodies exactly as Kommo sent them."),
                ("send", ACCOUNTS, "Read which webhook addresses of an account are valid."),
            )
        },
        "components": {
            "messages": {_slug(name): message for name, message in messages.items()},
            "schemas": _schemas(),
        },
    }


def text(settings: Settings) -> str:
    """Return the document as JSON."""
    return json.dumps(document(settings), ensure_ascii=False, indent=1) + "\n"


def _slug(name: str) -> str:
    return name.replace(".", "_").replace(" ", "_")


def _channel(topic: Topic, address: str, messages: list[str]) -> dict[str, Any]:
    configs: dict[str, Any] = {
        "cleanup.policy": [topic.configs["cleanup.policy"]],
        "max.message.bytes": topic.max_message_bytes,
    }
    if topic.retention_ms >= 0:
        configs["retention.ms"] = topic.retention_ms
    kafka = {"partitions": topic.partitions, "topicConfiguration": configs, "bindingVersion": "0.5.0"}
    return {
        "address": address,
        "description": f"{topic.why} Key: {topic.key}. Value: {topic.value}.",
        "messages": {_slug(name): {"$ref": f"#/components/messages/{_slug(name)}"} for name in messages},
        "bindings": {"kafka": kafka},
    }


def _keyed(example: str) -> dict[str, Any]:
    return {"kafka": {"key": {"type": "string", "examples": [example]}, "bindingVersion": "0.5.0"}}


def _event_example(kind: EventType) -> tuple[bytes, bytes]:
    if kind.door is None:
        outcome = cast(Outcome, kind.name.rpartition(".")[2])
        command = json.loads(kind.example)["command"]
        return outcome_event(
            outcome,
            command,
            account_id=_EXAMPLE.account_id,
            correlation_id=command["id"],
            attempt=1,
            at_us=_EXAMPLE.received_us,
        )
    found = decode(replace(_EXAMPLE, body=kind.example.encode(), door=kind.door)).events
    return next((event.key, event.value) for event in found if event.type == kind.name)


def _event(kind: EventType) -> dict[str, Any]:
    key, value = _event_example(kind)
    return {
        "name": kind.name,
        "title": kind.meaning,
        "description": f"From {kind.bodies}. One occurrence is named by: {kind.identity}.",
        "contentType": "application/cloudevents+json",
        "payload": {
            "allOf": [
                {"$ref": f"{_SCHEMAS}Event"},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": kind.name},
                        "dataschema": {"const": f"{SCHEMA}{kind.name}:{kind.version}"},
                        "data": {"$ref": f"{_SCHEMAS}{kind.model.__name__}"},
                    },
                },
            ]
        },
        "bindings": _keyed(key.decode()),
        "examples": [{"payload": json.loads(value)}],
    }


def _other(name: str) -> dict[str, Any]:
    headers = {fact: {"type": "string"} for fact, _ in _EXAMPLE.headers()}
    if name == WEBHOOKS:
        return {
            "name": name,
            "title": "A body exactly as Kommo sent it; the facts of the request are in the headers.",
            "contentType": "application/x-www-form-urlencoded",
            "headers": {"type": "object", "properties": headers, "required": ["delivery_id", "received_us"]},
            "payload": {"type": "string", "maxLength": 1024 * 1024},
            "bindings": _keyed("16700680"),
        }
    if name == DEADLETTERS:
        reasons = ("reason", "error_class", "reader", "topic", "partition", "offset", "item", "correlation_id", "at_us")
        return {
            "name": name,
            "title": "A record that could not be read, with its own key, value and headers, and why it was set aside.",
            "contentType": "application/octet-stream",
            "headers": {
                "type": "object",
                "properties": {f"{DEAD_LETTER_PREFIX}{reason}": {"type": "string"} for reason in reasons},
            },
            "payload": {"type": "string"},
            "bindings": _keyed("16700680"),
        }
    return {
        "name": name,
        "title": "What processes must know of an account; the latest record of each key counts.",
        "contentType": "application/json",
        "payload": {"type": "object"},
        "bindings": _keyed("16700680"),
    }


def _schemas() -> dict[str, Any]:
    models = {kind.model for kind in EVENT_TYPES.values()} | {Event}
    pairs = [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)]
    _, written = models_json_schema(pairs, ref_template=f"{_SCHEMAS}{{model}}")  # type: ignore[arg-type]
    return {**written["$defs"], **actions.schemas()}
