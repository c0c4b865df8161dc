"""Calls: notes whose text is JSON. The recording of one comes with it, or later in a second body about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from simulator import names
from simulator.facts import Fact, Identity
from simulator.items import call_text, note_item
from simulator.notes import KEYS, new_note
from simulator.records import Note, Says
from simulator.wire import Texts
from simulator.world import Change, World

IN, OUT = 10, 11
"""Kommo's numbers of the notes that tell of an incoming and an outgoing call."""


def call_made(world: World) -> list[Change]:
    """Log a call. The telephony of every twelfth names it by nothing: then it is told of once, by its note."""
    element = world.element()
    if element is None:
        return []
    rng = world.rng
    answered = rng.random() < 0.75
    named = rng.random() < 0.92
    name = f"{world.bits(64):016x}"
    recording = f"https://records.telephony.example/{name}.mp3"
    call = {"uniq": name if named else "", "phone": names.phone(rng), "source": "northgate_pbx"}
    duration = rng.randrange(12, 900) if answered else 0
    ready = answered and rng.random() < 0.3
    note = new_note(world, element, rng.choice((IN, OUT)), "")
    says: Says = {"call": note.id, "call_id": call["uniq"] or None, "direction": "in" if note.type == IN else "out"}
    says |= {"phone": call["phone"], "duration_seconds": duration, "source": call["source"], "caller": note.author}
    identity = _named(name) if named else _unnamed
    if answered and named and not ready:
        recorded = replace(note, text=call_text(link=recording, duration=duration, **call))
        world.later(rng.randrange(15, 180), lambda: _recorded(world, recorded, identity, says, recording))
    note = replace(note, text=call_text(link=recording if ready else "", duration=duration, **call))
    return [_told(world, note, identity, says, recording if ready else None)]


def _recorded(world: World, note: Note, identity: Identity, says: Says, recording: str) -> list[Change]:
    if not note.element.alive:
        return []
    return [_told(world, replace(note, updated_at=world.now), identity, says, recording)]


def _told(world: World, note: Note, identity: Identity, says: Says, recording: str | None) -> Change:
    """Return the body about a call: it tells of the call, and of the recording where there is one."""
    element = note.element
    facts = [Fact("kommo.call.logged", element.subject, note.created_at, identity, says)]
    if recording:
        heard: Says = {"call": says["call"], "recording_url": recording}
        with_link = _heard(identity, recording)
        facts.append(Fact("kommo.call.recorded", element.subject, note.created_at, with_link, heard))
    return world.change(KEYS[element.kind], "note", note_item(note, world.account), *facts)


def _named(uniq: str) -> Identity:
    return lambda _texts: {"UNIQ": uniq}


def _unnamed(texts: Texts) -> Any:
    identifier = texts["note"].get("id")  # bodies of 2017 have none
    return {"id": identifier} if identifier else texts


def _heard(call: Identity, link: str) -> Identity:
    return lambda texts: {"call": call(texts), "LINK": link}
