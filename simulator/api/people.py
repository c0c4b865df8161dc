"""Leads, contacts and companies are made and changed: POST and PATCH /{leads|contacts|companies}, /leads/complex.

Shapes as in https://developers.kommo.com/reference (leads, contacts, companies, complex leads) and the limits of
https://developers.kommo.com/docs/limitations. All items of a request are checked before the first is carried out.
"""

from __future__ import annotations

from typing import Final

from simulator.api import hooks
from simulator.api.asking import Asking, settle
from simulator.api.catalogue import MAIN_PIPELINE, STAGES
from simulator.api.checks import Check
from simulator.api.errors import limit_exceeded, not_found
from simulator.api.state import SINGULAR, Account, Json, merged_fields
from simulator.leads import LOST, WON
from simulator.world import USER_NAMES

COMPLEX_VALUES: Final = 40
"""Most custom field values of one entity in /leads/complex."""

COMPLEX_LEADS: Final = 50
_MOST_NAME: Final = 255


def checked(asking: Asking, kind: str, item: Json, before: Json | None, most_values: int | None = None) -> Check:
    """Check what an item says of a lead, contact or company (`before`: as it is, None for a new one)."""
    check = Check(item)
    for name in ("name", "first_name", "last_name"):
        check.text(name, most=_MOST_NAME)
    for name in ("responsible_user_id", "created_by", "updated_by"):
        check.choice(name, {0, *USER_NAMES} if name != "responsible_user_id" else USER_NAMES)
    check.seconds("created_at")
    check.fields(kind, most_values)
    check.listed("tags")
    if kind == "leads":
        check.integer("price")
        _check_stage(check, before)
        check.seconds("closed_at")
    if most_values is None:  # in /leads/complex these are entities to be made
        for tied in ("contacts", "companies", "leads"):
            for number, tie in enumerate(check.listed(tied)):
                if tie.get("id") not in asking.account.entities[tied]:
                    check.no_choice(f"_embedded.{tied}.{number}.id")
    return check


def _check_stage(check: Check, before: Json | None) -> None:
    """A stage is one of the pipeline's: of that which is sent, else of the lead's own (INFERRED)."""
    pipeline = check.choice("pipeline_id", STAGES)
    if pipeline is None and "pipeline_id" not in check.item:
        pipeline = MAIN_PIPELINE if before is None else before["pipeline_id"]
    stage = check.item.get("status_id")
    if stage is None:
        return
    known = STAGES.get(pipeline, ())
    if before is None and pipeline == MAIN_PIPELINE and "pipeline_id" not in check.item:
        known = tuple(one for stages in STAGES.values() for one in stages)  # a new lead goes where its stage is
    check.choice("status_id", known)


def create(asking: Asking, kind: str) -> Json:
    """Answer POST /{kind}."""
    items = asking.items()
    settle([(name, checked(asking, kind, item, None)) for name, item in items])
    return _thin(asking, kind, [(name, made(asking, kind, item, name)) for name, item in items])


def update(asking: Asking, kind: str) -> Json:
    """Answer PATCH /{kind}."""
    items, held, checks = asking.items(), asking.account.entities[kind], []
    for name, item in items:
        before = held.get(item["id"]) if isinstance(item.get("id"), int) else None
        check = checked(asking, kind, item, before)
        if "id" not in item:
            check.missing("id")
        elif before is None:
            check.no_choice("id")
        checks.append((name, check))
    settle(checks)
    return _thin(asking, kind, [(name, _changed(asking, kind, held[item["id"]], item, name)) for name, item in items])


def update_one(asking: Asking, kind: str, identifier: int) -> Json:
    """Answer PATCH /{kind}/ID."""
    before = asking.account.entities[kind].get(identifier)
    if before is None:
        raise not_found()  # INFERRED, as is that an unknown id in an array is no choice
    item = asking.item()
    settle([("0", checked(asking, kind, item, before))])
    after = _changed(asking, kind, before, item, None)
    return {"id": identifier, "updated_at": after["updated_at"], "_links": _self(asking, kind, identifier)}


def create_complex(asking: Asking) -> list[Json]:
    """Answer POST /leads/complex: each lead with the contact and the company that its `_embedded` holds."""
    items, checks = asking.items(), []
    if len(items) > COMPLEX_LEADS:
        raise limit_exceeded(COMPLEX_LEADS)
    for name, item in items:
        lead = checked(asking, "leads", item, None, COMPLEX_VALUES)
        for kind in ("contacts", "companies"):
            for number, inner in enumerate(lead.listed(kind)):
                found = _complex_part(asking, kind, inner)
                lead.issues += [one._replace(path=f"_embedded.{kind}.{number}.{one.path}") for one in found.issues]
        checks.append((name, lead))
    settle(checks)
    return [_made_complex(asking, name, check) for name, check in checks]


def _complex_part(asking: Asking, kind: str, item: Json) -> Check:
    if "id" not in item:
        return checked(asking, kind, item, None, COMPLEX_VALUES)
    check = Check(item)
    check.choice("id", asking.account.entities[kind])
    return check


def _made_complex(asking: Asking, name: str, check: Check) -> Json:
    ids: dict[str, int | None] = {"contacts": None, "companies": None}
    for kind in ("companies", "contacts"):
        for inner in check.listed(kind)[:1]:
            ids[kind] = inner["id"] if "id" in inner else made(asking, kind, inner, name)["id"]
    item = dict(check.item)
    ties = {kind: [{"id": tie}] for kind, tie in ids.items() if tie is not None}
    item["_embedded"] = {"tags": check.listed("tags"), **ties}
    lead = made(asking, "leads", item, name, sent=check.item)
    told = {"id": lead["id"], "contact_id": ids["contacts"], "company_id": ids["companies"]}
    return told | {"request_id": [name], "merged": False}


def made(asking: Asking, kind: str, item: Json, request_id: str, sent: Json | None = None) -> Json:
    """Make an entity of a checked item. `sent`: what the request says of it, where that is another."""
    author = _said(item, "created_by", asking.user)
    created = _said(item, "created_at", asking.now)
    after: Json = {"id": asking.accounts.new_id(), "name": item.get("name") or _full_name(item)}
    after |= {"responsible_user_id": _said(item, "responsible_user_id", asking.user), "group_id": 0}
    if kind == "contacts":
        after |= {"first_name": item.get("first_name") or "", "last_name": item.get("last_name") or ""}
    if kind == "leads":
        after |= {"price": item.get("price") or 0, **_stage(item), "loss_reason_id": None, "closed_at": None}
    after |= {"created_by": author, "updated_by": author, "created_at": created, "updated_at": asking.now}
    after |= {"closest_task_at": None, "is_deleted": False, "custom_fields_values": None}
    after |= {"account_id": asking.account.id, "_tags": [], "_contacts": [], "_company": None}
    _set(asking, kind, after, item)
    return _kept(asking, kind, None, after, request_id, item if sent is None else sent)


def _changed(asking: Asking, kind: str, before: Json, item: Json, request_id: str | None) -> Json:
    after = dict(before)
    for name in ("name", "first_name", "last_name", "price", "responsible_user_id", "pipeline_id", "status_id"):
        if item.get(name) is not None and name in before:
            after[name] = item[name]
    if kind == "contacts" and item.get("name") is None and ("first_name" in item or "last_name" in item):
        after["name"] = _full_name(after)
    if after.get("pipeline_id") != before.get("pipeline_id") and item.get("status_id") is None:
        after["status_id"] = STAGES[after["pipeline_id"]][0]
    after |= {"updated_at": asking.now, "updated_by": _said(item, "updated_by", asking.user)}
    _set(asking, kind, after, item)
    return _kept(asking, kind, before, after, request_id, item)


def _kept(asking: Asking, kind: str, before: Json | None, after: Json, request_id: str | None, sent: Json) -> Json:
    if kind == "leads":
        closed = after["status_id"] in (WON, LOST)
        after["closed_at"] = (after["closed_at"] or sent.get("closed_at") or asking.now) if closed else None
    account, identifier = asking.account, after["id"]
    account.entities[kind][identifier] = after
    asking.change(SINGULAR[kind], "created" if before is None else "updated", after, request_id, sent)
    if kind == "leads":
        asking.hooks += hooks.of_lead(account.id, asking.user, before, after)
    else:
        leads = account.leads_of(kind, identifier) if before is not None else []  # a new one has none yet
        asking.hooks.append(hooks.of_person(account.id, asking.user, kind, leads, before, after))
    return after


def _set(asking: Asking, kind: str, after: Json, item: Json) -> None:
    """Set custom fields, tags and ties, where the item has them; tags and contacts replace what was there."""
    fields = Check(item).fields(kind)
    if fields is not None:
        after["custom_fields_values"] = merged_fields(after["custom_fields_values"], fields)
    embedded = item.get("_embedded")
    if not isinstance(embedded, dict):
        return
    if "tags" in embedded:
        after["_tags"] = [_tag(asking, tag) for tag in embedded["tags"] or ()]
    if kind == "leads" and embedded.get("contacts"):
        ties = embedded["contacts"]
        main = next((tie["id"] for tie in ties if tie.get("is_main")), ties[0]["id"])
        after["_contacts"] = [{"id": tie["id"], "is_main": tie["id"] == main} for tie in ties]
    if embedded.get("companies"):
        after["_company"] = embedded["companies"][0]["id"]


def _tag(asking: Asking, tag: Json) -> Json:
    known: Account = asking.account
    name = tag.get("name")
    if not isinstance(name, str):
        name = next((text for text, one in known.tags.items() if one == tag.get("id")), str(tag.get("id")))
    if name not in known.tags:
        known.tags[name] = asking.accounts.new_id()
    return {"id": known.tags[name], "name": name, "color": None}


def _stage(item: Json) -> Json:
    stage, pipeline = item.get("status_id"), item.get("pipeline_id")
    if pipeline is None:
        pipeline = next((one for one, stages in STAGES.items() if stage in stages), MAIN_PIPELINE)
    return {"pipeline_id": pipeline, "status_id": STAGES[pipeline][0] if stage is None else stage}


def _full_name(item: Json) -> str:
    return f"{item.get('first_name') or ''} {item.get('last_name') or ''}".strip()


def _said(item: Json, name: str, default: int) -> int:
    value = item.get(name)
    return default if value is None else int(value)


def _self(asking: Asking, kind: str, identifier: int) -> Json:
    return {"self": {"href": f"{asking.href}/{kind}/{identifier}"}}


def _thin(asking: Asking, kind: str, done: list[tuple[str, Json]]) -> Json:
    told = [
        {
            "id": after["id"],
            "request_id": name,
            "updated_at": after["updated_at"],
            "_links": _self(asking, kind, after["id"]),
        }
        for name, after in done
    ]
    return {"_links": {"self": {"href": f"{asking.href}/{kind}"}}, "_embedded": {kind: told}}
