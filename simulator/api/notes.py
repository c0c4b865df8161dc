"""Notes and calls: POST /{leads|contacts|companies}/notes and /calls (https://developers.kommo.com/reference).

Notes of other types than NOTE_TYPES can be read, never written. A call goes by the last 10 digits of its number to the
one active lead of whom it belongs to, else to the contact or company; a number that nobody has is not added.
"""

from __future__ import annotations

from typing import Any, Final

from simulator.api import hooks
from simulator.api.asking import Asking, settle
from simulator.api.checks import Check
from simulator.api.errors import NOT_A_CHOICE, not_found
from simulator.api.hooks import NOTE_TYPES
from simulator.api.state import Account, Json
from simulator.leads import LOST, WON
from simulator.world import USER_NAMES

MOST_TEXT: Final = 20_000
CALL_STATUSES: Final = range(1, 9)

_TEXTS: Final = {
    "common": ("text",),
    "service_message": ("service", "text"),
    "extended_service_message": ("service", "text"),
    "sms_in": ("text", "phone"),
    "sms_out": ("text", "phone"),
    "call_in": ("uniq", "source", "phone"),
    "call_out": ("uniq", "source", "phone"),
    "geolocation": ("text", "address", "longitude", "latitude"),
    "attachment": ("version_uuid", "file_uuid", "file_name"),
}
"""The texts that the params of each note must have; of calls `duration` too. `link` may be missing (INFERRED)."""


def _checked(asking: Asking, kind: str, item: Json, entity: int | None) -> Check:
    check = Check(item)
    if entity is None:
        check.choice("entity_id", asking.account.entities[kind], required=True)
    check.choice("created_by", {0, *USER_NAMES})
    check.choice("responsible_user_id", USER_NAMES)
    check.seconds("created_at")
    note_type = check.choice("note_type", NOTE_TYPES, required=True)
    if note_type is not None:
        _check_params(check, note_type)
    return check


def _check_params(check: Check, note_type: str) -> None:
    params = check.item.get("params")
    if not isinstance(params, dict):
        check.missing("params")
        return
    for name in _TEXTS[note_type]:
        check.text(name, required=True, most=MOST_TEXT if name == "text" else None, of=params)
    if note_type in ("call_in", "call_out"):
        check.integer("duration", required=True, of=params)
        check.text("link", of=params)
        if params.get("call_status") not in (None, *CALL_STATUSES):
            check.no_choice("params.call_status")


def create(asking: Asking, kind: str, entity: int | None = None) -> Json:
    """Answer POST /{kind}/notes, or POST /{kind}/ID/notes."""
    if entity is not None and entity not in asking.account.entities[kind]:
        raise not_found()
    items = asking.items()
    settle([(name, _checked(asking, kind, item, entity)) for name, item in items])
    told = []
    for name, item in items:
        note = _made(asking, "note", kind, item, item.get("entity_id") if entity is None else entity, name)
        links = {"self": {"href": f"{asking.href}/{kind}/{note['entity_id']}/notes/{note['id']}"}}
        thin = {"id": note["id"], "entity_id": note["entity_id"], "request_id": name}
        told.append(thin | {"updated_at": note["updated_at"], "_links": links})
    return {"_links": {"self": {"href": f"{asking.href}/{kind}/notes"}}, "_embedded": {"notes": told}}


def update_one(asking: Asking, kind: str, identifier: int) -> Json:
    """Answer PATCH /{kind}/notes/ID: its params are replaced; no webhook tells of it."""
    before = asking.account.entities["notes"].get(identifier)
    if before is None or before["_kind"] != kind:
        raise not_found()
    item = asking.item()
    check = Check(before | item)
    _check_params(check, before["note_type"])
    settle([("0", check)])
    after = before | {"params": item.get("params", before["params"]), "updated_at": asking.now}
    after["updated_by"] = asking.user
    asking.account.entities["notes"][identifier] = after
    asking.change("note", "updated", after, None, item)
    links = {"self": {"href": f"{asking.href}/{kind}/{before['entity_id']}/notes/{identifier}"}}
    return {"id": identifier, "updated_at": after["updated_at"], "_links": links}


def create_calls(asking: Asking) -> Json:
    """Answer POST /calls. Not found is not refused: it stands in `errors` (the code 263 is INFERRED)."""
    items, checks = asking.items(), []
    for name, item in items:
        check = Check(item)
        check.choice("direction", ("inbound", "outbound"), required=True)
        for text in ("phone", "source"):
            check.text(text, required=True)
        check.integer("duration", required=True)
        for text in ("uniq", "link", "call_result"):
            check.text(text)
        check.choice("call_status", CALL_STATUSES)
        for user in ("responsible_user_id", "created_by"):
            check.choice(user, USER_NAMES)
        check.seconds("created_at")
        checks.append((name, check))
    settle(checks)
    calls, errors = [], []
    for name, item in items:
        found = _whose(asking.account, item["phone"])
        if found is None:
            errors.append({"request_id": name, "title": "Entity not found", "status": 263, "detail": NOT_A_CHOICE})
            continue
        calls.append(_call(asking, name, item, *found))
    return {"_total_items": len(calls), "errors": errors, "_embedded": {"calls": calls}}


def _call(asking: Asking, name: str, item: Json, kind: str, entity: int) -> Json:
    told = ("uniq", "duration", "source", "link", "phone", "call_result", "call_status", "call_responsible")
    params = {one: item.get(one) for one in told if item.get(one) is not None}
    params.setdefault("uniq", "")
    note_type = "call_in" if item["direction"] == "inbound" else "call_out"
    note = _made(asking, "call", kind, item | {"note_type": note_type, "params": params}, entity, name, sent=item)
    links = {"self": {"href": f"{asking.href}/{kind}/{entity}/notes/{note['id']}"}}
    thin = {"id": note["id"], "entity_id": entity, "entity_type": kind, "account_id": asking.account.id}
    return thin | {"request_id": name, "_links": links}


def _whose(account: Account, phone: str) -> tuple[str, int] | None:
    """Return whom a number belongs to: the plural of the entity, and its id."""
    wanted = _digits(phone)
    if not wanted:
        return None
    for kind in ("contacts", "companies"):
        for one in account.entities[kind].values():
            if wanted in (_digits(number) for number in _numbers(one)):
                leads = [account.entities["leads"][lead] for lead in account.leads_of(kind, one["id"])]
                active = [lead["id"] for lead in leads if lead["status_id"] not in (WON, LOST)]
                return ("leads", active[0]) if len(active) == 1 else (kind, one["id"])
    return None


def _numbers(one: Json) -> list[str]:
    fields = one["custom_fields_values"] or ()
    return [value["value"] for field in fields if field["field_code"] == "PHONE" for value in field["values"]]


def _digits(phone: str) -> str:
    return "".join(letter for letter in phone if letter.isdecimal())[-10:]


def _made(
    asking: Asking, kept_as: str, kind: str, item: Json, entity: Any, request_id: str, sent: Json | None = None
) -> Json:
    author = item.get("created_by", asking.user)
    note: Json = {"id": asking.accounts.new_id(), "entity_id": entity, "created_by": author, "updated_by": author}
    note |= {"created_at": item.get("created_at") or asking.now, "updated_at": asking.now}
    note |= {"responsible_user_id": item.get("responsible_user_id") or asking.user, "group_id": 0}
    note |= {"note_type": item["note_type"], "params": item["params"], "account_id": asking.account.id}
    note["_kind"] = kind
    asking.account.entities["notes"][note["id"]] = note
    asking.change(kept_as, "created", note, request_id, item if sent is None else sent)
    asking.hooks.append(hooks.of_note(asking.account.id, asking.user, kind, note))
    return note
