"""Incoming leads (`unsorted`): forms, chats and mail that wait until somebody accepts or declines them."""

from __future__ import annotations

import uuid
from typing import Final

from simulator import names
from simulator.facts import UNTITLED, Fact, ended, whole
from simulator.leads import PIPELINES, lead_added
from simulator.records import Category, Incoming
from simulator.wire import Item
from simulator.world import Change, World

_CATEGORIES: Final[tuple[Category, ...]] = ("forms", "forms", "chats", "mail")
_FORM: Final = 1303311


def came_in(world: World) -> list[Change]:
    """Let somebody write by a form, a chat or a mail."""
    rng, speaks = world.rng, names.language(world.rng)
    incoming = Incoming(
        uid=f"{world.bits(240):060x}",
        category=rng.choice(_CATEGORIES),
        lead=world.new_id(),
        name=names.deal(rng, speaks, ""),
        client=names.person(rng, speaks),
        pipeline=rng.choice(tuple(PIPELINES)),
        created_at=world.now,
    )
    world.keep(world.incoming, incoming)
    fact = Fact("kommo.unsorted.added", incoming.subject, world.now, whole, UNTITLED, creates=True, snapshot=True)
    return [world.change("unsorted", "add", _item(world, incoming), fact)]


def corrected(world: World) -> list[Change]:
    """Give an incoming lead another name; its update has no time of its own."""
    if not world.incoming:
        return []
    incoming = world.rng.choice(world.incoming)
    incoming.name = f"{incoming.name} #{world.rng.randrange(10**6)}"[-120:]
    fact = Fact("kommo.unsorted.updated", incoming.subject, world.now, whole, UNTITLED, timed=False, snapshot=True)
    return [world.change("unsorted", "update", _item(world, incoming), fact)]


def accepted(world: World) -> list[Change]:
    """Accept an incoming lead: it is a lead from now on."""
    incoming = _taken(world)
    if incoming is None:
        return []
    return [
        _ended(world, incoming, "accept", "accepted"),
        *lead_added(world, identifier=incoming.lead, name=incoming.name),
    ]


def declined(world: World) -> list[Change]:
    """Decline an incoming lead."""
    incoming = _taken(world)
    return [] if incoming is None else [_ended(world, incoming, "decline", "declined")]


def removed(world: World) -> list[Change]:
    """Remove an incoming lead by neither: no body of this is known, receivers must stand it all the same."""
    incoming = _taken(world)
    if incoming is None:
        return []
    item: Item = {"uid": incoming.uid, "category": incoming.category}
    return [world.change("unsorted", "delete", item, ended(incoming.subject, world.now))]


def _taken(world: World) -> Incoming | None:
    return world.incoming.pop(world.rng.randrange(len(world.incoming))) if world.incoming else None


def _ended(world: World, incoming: Incoming, action: str, verb: str) -> Change:
    item: Item = {"action": action, "uid": incoming.uid, f"{action}_result": {"leads": [incoming.lead]}}
    item |= {"category": incoming.category, "created_at": world.now, "modified_user_id": world.user()}
    fact = Fact(f"kommo.unsorted.{verb}", incoming.subject, world.now, whole, timed=False)
    return world.change("unsorted", "delete", item, fact)


def _item(world: World, incoming: Incoming) -> Item:
    lead: Item = {"last_modified": incoming.created_at, "name": incoming.name, "pipeline_id": incoming.pipeline}
    lead |= {"modified_user_id": 0, "date_create": incoming.created_at, "source_id": 36504}
    if incoming.category == "forms":
        lead |= {"visitor_uid": _uuid(incoming, 1), "gso_session_uid": "null"}  # the word, as it was seen
    item: Item = {"uid": incoming.uid, "category": incoming.category, "source_data": _source(incoming)}
    item |= {"date_create": incoming.created_at, "data": {"leads": [lead]}, "pipeline_id": incoming.pipeline}
    item |= {"account_id": world.account, "request_id": 0, "source_id": 36504, "lead_id": incoming.lead}
    return item | {"created_at": incoming.created_at}


def _source(incoming: Incoming) -> Item:
    if incoming.category == "forms":
        field: Item = {"type": "text", "id": "name_2", "element_type": 2, "name": "Lead name", "value": incoming.name}
        origin: Item = {"ip": "203.0.113.196", "datetime": incoming.created_at, "referer": "https://northgate.example/"}
        form: Item = {"form_id": _FORM, "form_type": 1, "from": f"Site request #{incoming.lead}", "form_name": "Site"}
        return form | {"origin": origin, "data": {"name_2": field}, "date": incoming.created_at}
    if incoming.category == "mail":
        mail: Item = {"from": {"email": "client@mail.example", "name": incoming.client}, "date": incoming.created_at}
        return mail | {"subject": incoming.name, "thread_id": incoming.lead, "service": "northgate.example"}
    said: Item = {"id": _uuid(incoming, 2), "manager": 0, "date": incoming.created_at, "text": "Hola! / Здравствуйте"}
    chat: Item = {"from": incoming.client, "name": incoming.name, "to": "Northgate", "date": incoming.created_at}
    chat |= {"service": "telegram", "client": {"name": incoming.client, "id": _uuid(incoming, 3)}}
    return chat | {"origin": {"provider": "telegram", "chat_id": _uuid(incoming, 4)}, "data": [said]}


def _uuid(incoming: Incoming, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{incoming.uid}/{number}"))
