"""Ties between entities: POST /{leads|contacts|companies}/ID/link and /unlink (https://developers.kommo.com/reference).

They are kept with the lead, and a contact's company with the contact, from whichever side they are made. A contact or
company that gets a lead is told of by contacts[update] (INFERRED).
"""

from __future__ import annotations

from simulator.api import hooks
from simulator.api.asking import Asking, settle
from simulator.api.checks import Check
from simulator.api.errors import not_found
from simulator.api.state import ENTITIES, SINGULAR, Json


def link(asking: Asking, kind: str, identifier: int) -> Json:
    """Answer POST /{kind}/ID/link."""
    told = []
    for name, item in _checked(asking, kind, identifier):
        other, tied = item["to_entity_type"], item["to_entity_id"]
        metadata = item.get("metadata") or {}
        _tie(asking, (kind, identifier), (other, tied), bool(metadata.get("is_main")), name, item)
        found = {"entity_id": identifier, "entity_type": kind, "to_entity_id": tied, "to_entity_type": other}
        told.append(found | {"metadata": metadata or None})
    links = {"self": {"href": f"{asking.href}/{kind}/{identifier}/links"}}
    return {"_total_items": len(told), "_links": links, "_embedded": {"links": told}}


def unlink(asking: Asking, kind: str, identifier: int) -> None:
    """Answer POST /{kind}/ID/unlink: 204."""
    for name, item in _checked(asking, kind, identifier):
        (owner, owned), (other, tied) = _ordered((kind, identifier), (item["to_entity_type"], item["to_entity_id"]))
        before = asking.account.entities[owner][owned]
        if other == "companies":
            _keep(asking, owner, before | {"_company": None}, name, item)
        else:
            rest = [tie for tie in before["_contacts"] if tie["id"] != tied]
            _keep(asking, owner, before | {"_contacts": rest}, name, item)


def _checked(asking: Asking, kind: str, identifier: int) -> list[tuple[str, Json]]:
    if identifier not in asking.account.entities[kind]:
        raise not_found()
    items, checks = asking.items(), []
    for name, item in items:
        check = Check(item)
        # A company has no ties of its own but to these; two of a kind are not tied.
        other = check.choice("to_entity_type", [one for one in ENTITIES if one != kind], required=True)
        if other is not None:
            check.choice("to_entity_id", asking.account.entities[other], required=True)
        checks.append((name, check))
    settle(checks)
    return items


def _ordered(one: tuple[str, int], other: tuple[str, int]) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return who keeps the tie, and to whom: a lead keeps all of its own, a contact that to its company."""
    first, second = sorted((one, other), key=lambda entity: ENTITIES.index(entity[0]))
    return first, second


def _tie(asking: Asking, one: tuple[str, int], two: tuple[str, int], main: bool, request_id: str, item: Json) -> None:
    (owner, owned), (other, tied) = _ordered(one, two)
    before = asking.account.entities[owner][owned]
    if other == "companies":
        after = before | {"_company": tied}
    else:
        rest = [tie for tie in before["_contacts"] if tie["id"] != tied]
        main = main or not rest
        kept = [tie | {"is_main": tie["is_main"] and not main} for tie in rest]
        after = before | {"_contacts": [*kept, {"id": tied, "is_main": main}]}
    _keep(asking, owner, after, request_id, item)
    if owner == "leads":
        person = asking.account.entities[other][tied]
        leads = asking.account.leads_of(other, tied)
        asking.hooks.append(hooks.of_person(asking.account.id, asking.user, other, leads, person, person))


def _keep(asking: Asking, kind: str, after: Json, request_id: str, item: Json) -> None:
    after["updated_at"] = asking.now
    asking.account.entities[kind][after["id"]] = after
    asking.change(SINGULAR[kind], "updated", after, request_id, item)
