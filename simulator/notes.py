"""Notes and calls; a call is a note whose text is JSON."""

from __future__ import annotations

from dataclasses import replace

from simulator import names
from simulator.items import Lead, Note, Person, call_text, note_item
from simulator.world import USER_NAMES, Change, World


def note_written(world: World) -> list[Change]:
    """Let a user write a note on a lead, contact or company."""
    element = world.element()
    if element is None:
        return []
    text = world.rng.choice(names.language(world.rng).notes)
    return [_note(world, _new_note(world, element, 4, text))]


def call_made(world: World) -> list[Change]:
    """Log a call; the recording of one that was answered is there at once, or comes by a second delivery."""
    element = world.element()
    if element is None:
        return []
    rng = world.rng
    answered = rng.random() < 0.75
    uniq = f"{rng.getrandbits(64):016x}"
    recording = f"https://records.telephony.example/{uniq}.mp3"
    call = {"uniq": uniq, "phone": names.phone(rng), "source": "northgate_pbx"}
    duration = rng.randrange(12, 900) if answered else 0
    ready = answered and rng.random() < 0.3
    text = call_text(link=recording if ready else "", duration=duration, **call)
    note = _new_note(world, element, rng.choice((10, 11)), text)
    if answered and not ready:
        recorded = call_text(link=recording, duration=duration, **call)
        world.later(rng.randrange(15, 180), lambda: _recorded(world, note, recorded))
    return [_note(world, note)]


def _recorded(world: World, note: Note, text: str) -> list[Change]:
    if not note.element.alive:
        return []
    return [_note(world, replace(note, text=text, updated_at=world.now))]


def _new_note(world: World, element: Lead | Person, kind: int, text: str) -> Note:
    author = world.rng.choice(tuple(USER_NAMES))
    return Note(
        id=world.new_id(),
        type=kind,
        text=text,
        element=element,
        author=author,
        author_name=USER_NAMES[author],
        created_at=world.now,
        updated_at=world.now,
    )


def _note(world: World, note: Note) -> Change:
    entity = "contacts" if isinstance(note.element, Person) else "leads"
    return world.change(entity, "note", note_item(note, world.account))
