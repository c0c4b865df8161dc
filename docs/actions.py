"""What can be asked of Kommo, for the page of the actions and the AsyncAPI document: written from the models."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from schemas.actions import ACTIONS
from schemas.command import PREFIX, SCHEMA, VERSION, Command, Envelope

ACCOUNT: Final = 16700680

_ID: Final = "7d0b3f6e-30a5-4a4f-9c53-0e1b6c7f2a10"
_SCHEMAS: Final = "#/components/schemas/"

EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "create_lead": {
        "name": "Kitchen, white",
        "price": 1500,
        "custom_fields": [{"field_code": "UTM_SOURCE", "values": [{"value": "google"}]}],
        "tags": ["web"],
        "contact": {"first_name": "Ana", "last_name": "Ruiz", "phones": [{"value": "+34 600 000 000", "kind": "MOB"}]},
    },
    "update_lead": {
        "lead_id": 30052055,
        "price": 1800,
        "status_id": 142,
        "custom_fields": [{"field_id": 467289, "values": [{"enum_id": 917603}]}],
        "tags_to_add": ["won"],
    },
    "create_contact": {"name": "Ana Ruiz", "emails": [{"value": "ana@example.com"}], "responsible_user_id": 2852878},
    "update_contact": {"contact_id": 41002233, "phones": [{"value": "+34 600 000 000"}]},
    "create_task": {
        "text": "Call back",
        "complete_till": "2026-12-01T09:30:00+01:00",
        "entity_type": "lead",
        "entity_id": 30052055,
    },
    "add_note": {"entity_type": "lead", "entity_id": 30052055, "text": "Asked for an offer"},
    "create_call_note": {
        "entity_type": "contact",
        "entity_id": 41002233,
        "direction": "in",
        "phone": "+34 600 000 000",
        "duration_seconds": 61,
        "status": "conversation",
        "link": "https://example.com/calls/1.mp3",
    },
    "create_meeting_note": {
        "entity_type": "lead",
        "entity_id": 30052055,
        "text": "At the showroom",
        "at": "2026-12-01T10:00:00Z",
        "duration_seconds": 3600,
        "done": True,
        "result": "Signed",
    },
    "send_email": {
        "entity_type": "lead",
        "entity_id": 30052055,
        "to": ["ana@example.com"],
        "subject": "Your offer",
        "text": "Dear Ana,\n\nhere it is.",
    },
}
"""The data of a command, by action."""

RULES: Final[dict[str, str]] = {
    "create_lead": "`POST /leads`, with `contact` `POST /leads/complex`. Give `contact` or `contact_id`, not both.",
    "update_lead": "`PATCH /leads/ID`. At least one change. An empty list of `values` clears a custom field.",
    "create_contact": "`POST /contacts`. A name, a phone or an email; `name`, or `first_name` and `last_name`.",
    "update_contact": "`PATCH /contacts/ID`. At least one change; an empty list of `phones`, `emails` or `tags` takes "
    "all of them away.",
    "create_task": "`POST /tasks`. `entity_type` and `entity_id`: both, or neither.",
    "add_note": "`POST /{leads|contacts|companies}/notes`, type `common`.",
    "create_call_note": "`POST /{leads|contacts|companies}/notes`, type `call_in` or `call_out`.",
    "create_meeting_note": "`POST /tasks`, type 2. `result` needs `done`.",
    "send_email": "By the server of `KOMMO_STREAMS_SMTP_URL`, to all recipients or to none; then the note, as "
    "`add_note`. Recipients are ASCII before the @. The Message-ID is made of the command's id.",
}
"""What Kommo is asked, and what the types of the fields do not say."""

MESSAGES: Final = [f"{PREFIX}{name}" for name in ACTIONS]
"""The types of all commands."""


def example(name: str) -> dict[str, Any]:
    """Return a command as it lies in kommo.commands."""
    return {
        "specversion": "1.0",
        "id": _ID,
        "source": "/your-program",
        "type": f"{PREFIX}{name}",
        "time": "2026-11-24T10:00:00Z",
        "accountid": str(ACCOUNT),
        "data": EXAMPLES[name],
    }


def message(kind: str) -> dict[str, Any]:
    """Return the AsyncAPI message of a command of this type."""
    name = kind.removeprefix(PREFIX)
    told = example(name)
    key = Command.from_json(json.dumps(told).encode()).key.decode()
    return {
        "name": kind,
        "title": (ACTIONS[name].__doc__ or "").split("\n")[0],
        "description": RULES[name],
        "contentType": "application/cloudevents+json",
        "payload": {
            "allOf": [
                {"$ref": f"{_SCHEMAS}Command"},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": kind},
                        "dataschema": {"enum": [f"{SCHEMA}{name}:{VERSION}", None]},
                        "data": {"$ref": f"{_SCHEMAS}Command{ACTIONS[name].__name__}"},
                    },
                },
            ]
        },
        "bindings": {"kafka": {"key": {"type": "string", "examples": [key]}, "bindingVersion": "0.5.0"}},
        "examples": [{"payload": told}],
    }


def schemas() -> dict[str, Any]:
    """Return the JSON Schemas of the envelope (Command) and of all that is in it (Command...)."""
    envelope = Envelope.model_json_schema()
    pairs: Any = [(model, "validation") for model in ACTIONS.values()]
    _, written = models_json_schema(pairs, ref_template=f"{_SCHEMAS}Command{{model}}")
    return {"Command": envelope, **{f"Command{name}": schema for name, schema in written["$defs"].items()}}


def parts() -> dict[str, tuple[str, list[tuple[str, str, str]]]]:
    """Return each object that a field can hold: what it is, and its fields' names, types, and whether they must be."""
    found = schemas()
    own = {f"Command{model.__name__}" for model in ACTIONS.values()} | {"Command"}
    return {
        name.removeprefix("Command"): (schema["description"], _rows(schema))
        for name, schema in found.items()
        if name not in own
    }


def fields(name: str) -> list[tuple[str, str, str]]:
    """Return name, type and whether it must be there, of each field of an action."""
    return _rows(schemas()[f"Command{ACTIONS[name].__name__}"])


def attributes() -> list[tuple[str, str, str]]:
    """Return the same of the envelope."""
    return _rows(Envelope.model_json_schema())


def _rows(schema: dict[str, Any]) -> list[tuple[str, str, str]]:
    required = schema.get("required", [])
    return [
        (f"`{name}`", _type(told), "yes" if name in required else _default(told))
        for name, told in schema["properties"].items()
    ]


def _default(told: dict[str, Any]) -> str:
    default = told.get("default")
    return "no" if default in (None, []) else f"no: `{json.dumps(default)}`"


_NAMES: Final[dict[str, str]] = {"string": "text", "boolean": "true or false"}
_FORMATS: Final = {
    "date-time": "date and time with its zone (RFC 3339)",
    "email": "mail address",
    r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$": "UUID in lower case",
    r"^[1-9][0-9]{0,17}$": "number as text",
    r"^https?://[^\s]+$": "http or https address",
    "[0-9]": "text with a digit in it",
}


def _type(told: dict[str, Any]) -> str:
    if "$ref" in told:
        name = told["$ref"].removeprefix(f"{_SCHEMAS}Command")
        return f"[{name}](#{name.lower()})"
    if "anyOf" in told:
        return " or ".join(_type(one) for one in told["anyOf"] if one != {"type": "null"})
    if "const" in told:
        return f"`{json.dumps(told['const'])}`"
    if "enum" in told:
        return "one of " + ", ".join(f"`{one}`" for one in told["enum"])
    kinds = told["type"]
    if isinstance(kinds, list):
        return ", ".join(_NAMES.get(str(kind), str(kind)) for kind in kinds)
    if kinds == "array":
        least, most = told.get("minItems"), told.get("maxItems")
        count = f" ({least} to {most})" if least else f" (at most {most})" if most else ""
        return f"list{count} of {_type(told['items'])}"
    if kinds == "integer":
        return f"whole number{_range(told)}"
    if kinds == "string":
        known = _FORMATS.get(told.get("format") or told.get("pattern") or "", "text")
        return f"{known}{_length(told)}"
    return _NAMES.get(kinds, str(kinds))


def _range(told: dict[str, Any]) -> str:
    least = told.get("minimum", told.get("exclusiveMinimum", -1) + 1)
    most = told.get("maximum")
    if most is None and told.get("exclusiveMaximum", 2**63) < 2**63:
        most = told["exclusiveMaximum"] - 1
    return f", {least} to {most}" if most is not None else f", from {least}"


def _length(told: dict[str, Any]) -> str:
    least, most = told.get("minLength"), told.get("maxLength")
    if most is None:
        return ""
    return f", {least} to {most} characters" if least else f", at most {most} characters"
