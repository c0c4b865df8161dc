"""What GET answers: lists and single entities as https://developers.kommo.com/reference shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from simulator.api import catalogue
from simulator.api.asking import Asking
from simulator.api.errors import forbidden, not_found
from simulator.api.queries import chosen, page_of
from simulator.api.state import Json
from simulator.world import USER_NAMES

_SETTINGS: Final = (
    *("add_lead", "update_lead", "status_lead", "responsible_lead", "note_lead", "add_task", "update_task"),
    *("add_contact", "update_contact", "note_contact", "add_company", "update_company", "note_company"),
)

Answer = Json | None
"""A body; None is 204."""


def account(asking: Asking) -> Answer:
    """GET /account."""
    told = catalogue.account(asking.account.id, asking.user, _with(asking))
    return told | {"_links": _self(asking, "account")}


def listed(asking: Asking, kind: str) -> Answer:
    """GET /{leads|contacts|companies|tasks}."""
    found = chosen(kind, asking.account.entities[kind].values(), asking.query)
    return _page(asking, kind, kind, found, lambda one: shown(asking, kind, one))


def single(asking: Asking, kind: str, identifier: int) -> Answer:
    """GET /{leads|contacts|companies|tasks}/ID: 204 where there is no such entity."""
    found = asking.account.entities[kind].get(identifier)
    return None if found is None else shown(asking, kind, found)


def notes(asking: Asking, kind: str, entity: int | None = None) -> Answer:
    """GET /{kind}/notes and /{kind}/ID/notes."""
    own = [
        note
        for note in asking.account.entities["notes"].values()
        if note["_kind"] == kind and entity in (None, note["entity_id"])
    ]
    path = f"{kind}/notes" if entity is None else f"{kind}/{entity}/notes"
    return _page(asking, path, "notes", chosen("notes", own, asking.query), lambda note: _note(asking, note))


def note(asking: Asking, kind: str, identifier: int) -> Answer:
    """GET /{kind}/ID/notes/NOTE and /{kind}/notes/NOTE."""
    found = asking.account.entities["notes"].get(identifier)
    return None if found is None or found["_kind"] != kind else _note(asking, found)


def links(asking: Asking, kind: str, identifier: int) -> Answer:
    """GET /{kind}/ID/links."""
    if identifier not in asking.account.entities[kind]:
        raise not_found()
    ties = [
        {
            "to_entity_id": tie,
            "to_entity_type": tied,
            "metadata": {"main_contact": main} if tied == "contacts" else None,
        }
        for tied, tie, main in _ties(asking, kind, identifier)
    ]
    return {"_links": _self(asking, f"{kind}/{identifier}/links"), "_embedded": {"links": ties}} if ties else None


def users(asking: Asking, identifier: int | None = None) -> Answer:
    """GET /users and /users/ID."""
    if identifier is not None:
        return _user(asking, identifier) if identifier in USER_NAMES else None
    return _page(asking, "users", "users", list(USER_NAMES), lambda user: _user(asking, user), counted=True)


def pipelines(asking: Asking, identifier: int | None = None) -> Answer:
    """GET /leads/pipelines and /leads/pipelines/ID; they have no pages."""
    if identifier is not None:
        return _pipeline(asking, identifier) if identifier in catalogue.STAGES else None
    found = [_pipeline(asking, one) for one in catalogue.STAGES]
    return _whole(asking, "leads/pipelines", "pipelines", found)


def statuses(asking: Asking, pipeline: int, identifier: int | None = None) -> Answer:
    """GET /leads/pipelines/ID/statuses, with or without a stage's id."""
    if pipeline not in catalogue.STAGES:
        raise not_found()
    found = catalogue.statuses(pipeline, asking.account.id)
    if identifier is not None:
        return next((stage for stage in found if stage["id"] == identifier), None)
    return _whole(asking, f"leads/pipelines/{pipeline}/statuses", "statuses", found)


def custom_fields(asking: Asking, kind: str, identifier: int | None = None) -> Answer:
    """GET /{kind}/custom_fields, with or without a field's id."""
    own = catalogue.FIELDS[kind]
    if identifier is not None:
        if identifier not in own:
            raise not_found()
        return catalogue.custom_field(kind, own[identifier], asking.account.id)
    path, found = f"{kind}/custom_fields", list(own.values())
    show = lambda one: catalogue.custom_field(kind, one, asking.account.id)  # noqa: E731
    return _page(asking, path, "custom_fields", found, show, counted=True)


def webhooks(asking: Asking) -> Answer:
    """GET /webhooks: the addresses that this account's webhooks are posted to."""
    if asking.user != catalogue.FIRST_USER:  # who is not the account's admin
        raise forbidden()
    told = asking.query.get("filter")
    wanted = told.get("destination") if isinstance(told, dict) else None
    found = [
        {
            "id": number,
            "destination": address,
            "created_at": 1_700_000_000,
            "updated_at": 1_700_000_000,
            "account_id": asking.account.id,
            "created_by": catalogue.FIRST_USER,
            "sort": number,
            "disabled": False,
            "settings": list(_SETTINGS),
        }
        for number, address in enumerate(asking.addresses, 1)
        if wanted in (None, address)
    ]
    return _whole(asking, "webhooks", "webhooks", found) if found else None


def shown(asking: Asking, kind: str, entity: Json) -> Json:
    """Return an entity as it is shown: its ties in `_embedded`, those that `with` names too."""
    told = {name: value for name, value in entity.items() if not name.startswith("_")}
    told["_links"] = _self(asking, f"{kind}/{entity['id']}")
    if kind == "tasks":
        return told | {"result": entity["result"] or []}  # PHP writes an empty map as a list
    embedded: Json = {"tags": entity["_tags"]}
    if kind != "companies":
        company = entity["_company"]
        embedded["companies"] = [] if company is None else [_tie(asking, "companies", company)]
    wanted = _with(asking)
    if kind == "leads" and "contacts" in wanted:
        embedded["contacts"] = [
            _tie(asking, "contacts", tie["id"]) | {"is_main": tie["is_main"]} for tie in entity["_contacts"]
        ]
    if kind != "leads" and "leads" in wanted:
        embedded["leads"] = [_tie(asking, "leads", lead) for lead in asking.account.leads_of(kind, entity["id"])]
    if kind == "companies" and "contacts" in wanted:
        found = asking.account.contacts_of(entity["id"])
        embedded["contacts"] = [_tie(asking, "contacts", contact) for contact in found]
    return told | {"_embedded": embedded}


def _ties(asking: Asking, kind: str, identifier: int) -> Iterable[tuple[str, int, bool]]:
    entity = asking.account.entities[kind][identifier]
    yield from (("contacts", tie["id"], tie["is_main"]) for tie in entity["_contacts"])
    if entity["_company"] is not None:
        yield "companies", entity["_company"], False
    if kind != "leads":
        yield from (("leads", lead, False) for lead in asking.account.leads_of(kind, identifier))


def _tie(asking: Asking, kind: str, identifier: int) -> Json:
    return {"id": identifier, "_links": _self(asking, f"{kind}/{identifier}")}


def _note(asking: Asking, note: Json) -> Json:
    told = {name: value for name, value in note.items() if not name.startswith("_")}
    return told | {"_links": _self(asking, f"{note['_kind']}/{note['entity_id']}/notes/{note['id']}")}


def _user(asking: Asking, identifier: int) -> Json:
    return catalogue.user(identifier) | {"_links": _self(asking, f"users/{identifier}")}


def _pipeline(asking: Asking, identifier: int) -> Json:
    told = catalogue.pipeline(identifier, asking.account.id)
    return told | {"_links": _self(asking, f"leads/pipelines/{identifier}")}


def _whole(asking: Asking, path: str, key: str, found: list[Json]) -> Json:
    return {"_total_items": len(found), "_links": _self(asking, path), "_embedded": {key: found}}


def _page(
    asking: Asking, path: str, key: str, found: Sequence[Any], show: Callable[[Any], Json], *, counted: bool = False
) -> Answer:
    page, limit = page_of(asking.query)
    here = found[(page - 1) * limit : page * limit]
    if not here:
        return None
    told: Json = {"_page": page, "_links": {"self": {"href": _address(asking, path, page, limit)}}}
    if page * limit < len(found):
        told["_links"]["next"] = {"href": _address(asking, path, page + 1, limit)}
    if counted:
        told |= {"_total_items": len(found), "_page_count": -(-len(found) // limit)}
    return told | {"_embedded": {key: [show(one) for one in here]}}


def _address(asking: Asking, path: str, page: int, limit: int) -> str:
    rest = {name: value for name, value in asking.query.items() if name not in ("page", "limit")}
    pairs = [("page", str(page)), ("limit", str(limit)), *_pairs(rest)]
    return f"{asking.href}/{path}?{urlencode(pairs)}"


def _pairs(tree: Json, prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in tree.items():
        key = f"{prefix}[{name}]" if prefix else name
        if isinstance(value, dict):
            yield from _pairs(value, key)
        else:
            yield key, str(value)


def _with(asking: Asking) -> frozenset[str]:
    return frozenset(str(asking.query.get("with", "")).split(","))


def _self(asking: Asking, path: str) -> Json:
    return {"self": {"href": f"{asking.href}/{path}"}}
