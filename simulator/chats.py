"""Chats: conversations that are begun, read, closed and taken up again, and the messages in them."""

from __future__ import annotations

from typing import Final

from simulator import names
from simulator.facts import UNTITLED, Fact, picked, whole
from simulator.records import Talk
from simulator.wire import Item
from simulator.world import USER_NAMES, Change, World

_ORIGINS: Final = ("telegram", "waba", "instagram_business", "onlinechat")  # waba: WhatsApp Business
_MESSAGE: Final = picked("id", "created_at")


def begun(world: World) -> list[Change]:
    """Let a contact write for the first time: a message, and the conversation it begins."""
    people = world.people["contact"]
    if not people:
        return []
    rng = world.rng
    talk = Talk(
        id=world.new_id(),
        chat=world.uuid(),
        contact=rng.choice(people),
        lead=rng.choice(world.leads) if world.leads and rng.random() < 0.75 else None,
        origin=rng.choice(_ORIGINS),
        created_at=world.now,
        updated_at=world.now,
    )
    world.keep(world.talks, talk)
    return [_received(world, talk), _told(world, talk, "add", "added")]


def written_to(world: World) -> list[Change]:
    """Let a contact write again."""
    talk = _some(world)
    return [] if talk is None else [_received(world, talk)]


def answered(world: World) -> list[Change]:
    """Let a user answer."""
    talk = _some(world)
    if talk is None:
        return []
    user = world.user()
    author: Item = {"id": world.uuid(), "type": "internal", "name": USER_NAMES[user], "user_id": user}
    recipient: Item = {"id": talk.chat, "type": "external", "name": talk.contact.name}
    item = _message(world, talk, "outgoing") | {"author": author, "recipient": recipient, "origin": talk.origin}
    return [_sent(world, talk, "outgoing_message", "kommo.message.sent", item)]


def changed(world: World) -> list[Change]:
    """Mark a conversation as read, close it, or take it up again."""
    talk = _some(world, in_work=None)
    if talk is None or talk.updated_at >= world.now:
        return []
    if not talk.in_work:
        talk.in_work, talk.read = True, False
    elif not talk.read:
        talk.read = True
    else:
        talk.in_work = False
    talk.updated_at = world.now
    return [_told(world, talk, "update", "updated")]


def template_reviewed(world: World) -> list[Change]:
    """Let WhatsApp say what it thinks of a template. No body of this is known: the item is the least there can be."""
    identifier = world.new_id()
    item: Item = {"id": identifier, "status": world.rng.choice(("approved", "rejected"))}
    fact = Fact("kommo.chat_template.reviewed", f"chat_template/{identifier}", world.now, whole, timed=False)
    return [world.change("chat_template_reviews", "add", item, fact)]


def _some(world: World, in_work: bool | None = True) -> Talk | None:
    """Return some conversation whose contact is there, in work or in whatever state."""
    for _ in range(4):
        talk = world.rng.choice(world.talks) if world.talks else None
        if talk is not None and talk.contact.alive and in_work in (None, talk.in_work):
            return talk
    return None


def _received(world: World, talk: Talk) -> Change:
    author: Item = {"id": world.uuid(), "type": "external", "name": talk.contact.name}
    item = _message(world, talk, "incoming") | {"author": author, "origin": talk.origin}
    kind = world.rng.random()
    item["message_type"] = "picture" if kind < 0.1 else "text"
    if kind < 0.1:
        link = f"https://drive-c.kommo.example/download/{world.uuid()}/photo.jpg"
        item["attachment"] = {"type": "picture", "link": link, "file_name": "photo.jpg"}
    return _sent(world, talk, "message", "kommo.message.received", item)


def _message(world: World, talk: Talk, way: str) -> Item:
    item: Item = {"id": world.uuid(), "chat_id": talk.chat, "talk_id": talk.id, "contact_id": talk.contact.id}
    item |= {"text": world.rng.choice(names.language(world.rng).notes), "created_at": world.now}
    lead = talk.about
    if lead is not None:  # all four are absent where no lead is tied
        item |= {"element_type": 2, "entity_type": "lead", "element_id": lead.id, "entity_id": lead.id}
    return item | {"type": way}


def _sent(world: World, talk: Talk, key: str, kind: str, item: Item) -> Change:
    subject = (talk.about or talk.contact).subject
    return world.change(key, "add", item, Fact(kind, subject, world.now, _MESSAGE))


def _told(world: World, talk: Talk, action: str, verb: str) -> Change:
    item: Item = {"talk_id": talk.id, "created_at": talk.created_at, "updated_at": talk.updated_at, "rate": 0}
    item |= {"contact_id": talk.contact.id, "chat_id": talk.chat}
    if talk.lead is not None:
        item |= {"entity_id": talk.lead.id, "entity_type": "lead"}
    item |= {"is_in_work": int(talk.in_work), "is_read": int(talk.read), "origin": talk.origin}
    subject = f"talk/{talk.id}"
    fact = Fact(f"kommo.talk.{verb}", subject, talk.updated_at, whole, UNTITLED, creates=verb == "added", snapshot=True)
    return world.change("talk", action, item, fact)
