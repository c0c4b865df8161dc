"""Notes: texts, files and text messages that users write on leads, contacts, companies and customers."""

from __future__ import annotations

from typing import Final

from simulator import names
from simulator.facts import Fact, whole
from simulator.items import note_item
from simulator.records import Named, Note
from simulator.world import USER_NAMES, Change, World

TEXT: Final = 4
FILE: Final = 5
SMS_IN: Final = 102

KEYS: Final = {"lead": "leads", "contact": "contacts", "company": "contacts", "customer": "customers"}
"""The key of a body under which the notes of an entity come."""


def note_written(world: World) -> list[Change]:
    """Let a user write a note; one of ten comes with a file, which has a hook of its own."""
    element = world.element()
    if element is None:
        return []
    rng = world.rng
    words = rng.choice(names.language(rng).notes)
    notes = [new_note(world, element, SMS_IN if rng.random() < 0.1 else TEXT, words)]
    if rng.random() < 0.1:
        notes.append(_file(world, element))
    return [_written(world, note) for note in notes]


def _file(world: World, element: Named) -> Note:
    name = world.rng.choice(("quote.pdf", "plano cocina v2.pdf", "Договор.docx", "IMG_2041.jpg"))
    drive, file = world.uuid(), world.uuid()
    return new_note(world, element, FILE, name, attachment=f"drive/{drive}/{file}/{name}")


def _written(world: World, note: Note) -> Change:
    fact = Fact("kommo.note.added", note.element.subject, note.created_at, whole)
    return world.change(KEYS[note.element.kind], "note", note_item(note, world.account), fact)


def new_note(world: World, element: Named, kind: int, text: str, attachment: str = "") -> Note:
    """Return a note that some user writes now; `kind` is Kommo's number."""
    author = world.user()
    return Note(
        id=world.new_id(),
        type=kind,
        text=text,
        element=element,
        author=author,
        author_name=USER_NAMES[author],
        created_at=world.now,
        updated_at=world.now,
        attachment=attachment,
    )
