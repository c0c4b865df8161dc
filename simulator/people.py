"""What happens to contacts and companies; Kommo sends both under `contacts`."""

from __future__ import annotations

from simulator import names
from simulator.facts import HANDED_OVER, ended, told
from simulator.fields import PERSON_FIELDS, change_fields, change_tags, custom_field, fill
from simulator.items import person_item, person_stub
from simulator.records import Kind, Person
from simulator.wire import Item
from simulator.world import Change, World

_PHONE, _EMAIL = 771906, 771908


def person_added(world: World, kind: Kind) -> list[Change]:
    """Add a contact or a company, often tied to a lead."""
    rng, speaks = world.rng, names.language(world.rng)
    name = names.person(rng, speaks) if kind == "contact" else rng.choice(speaks.companies)
    owner = name if kind == "contact" else names.person(rng, speaks)
    person = Person(**world.new(), kind=kind, name=name)
    person.custom[_PHONE] = _phone(world)
    if rng.random() < 0.7:
        email: Item = {"value": names.email(rng, speaks, owner), "enum": 552488}
        person.custom[_EMAIL] = custom_field(_EMAIL, "Email", email, code="EMAIL")
    fill(rng, person, PERSON_FIELDS, 0.25, world.now)
    if world.leads and rng.random() < 0.7:
        person.leads.append(rng.choice(world.leads).id)
    world.keep(world.people[kind], person)
    return [world.change("contacts", "add", person_item(person, world.account), told(person, "added"))]


def _phone(world: World) -> Item:
    numbers: list[Item] = [{"value": names.phone(world.rng), "enum": 552476}]
    if world.rng.random() < 0.2:
        numbers.append({"value": names.phone(world.rng), "enum": 552478})
    return custom_field(_PHONE, "Phone", *numbers, code="PHONE")


def person_updated(world: World, kind: Kind) -> list[Change]:
    """Change a contact's or company's fields, telephone number, tags or leads."""
    person = world.take(world.people[kind])
    if person is None:
        return []
    rng = world.rng
    chance = rng.random()
    if world.leads and chance < 0.3:
        lead = rng.choice(world.leads).id
        person.leads = [*(known for known in person.leads[-4:] if known != lead), lead]
    elif chance < 0.6:
        change_fields(rng, person, PERSON_FIELDS, world.now)
    elif chance < 0.75:
        change_tags(rng, person)
    else:
        person.custom[_PHONE] = _phone(world)
    return [world.change("contacts", "update", person_item(person, world.account), told(person, "updated"))]


def person_handed_over(world: World, kind: Kind) -> list[Change]:
    """Give a contact or company to another user: an update with old_responsible_user_id, it has no hook of its own."""
    person = world.take(world.people[kind])
    if person is None:
        return []
    old = world.hand_over(person)
    item = person_item(person, world.account, old_responsible=old)
    return [world.change("contacts", "update", item, told(person, "responsible_changed", HANDED_OVER))]


def person_deleted(world: World, kind: Kind) -> list[Change]:
    """Delete a contact or company."""
    person = world.take(world.people[kind])
    if person is None:
        return []
    person.alive = False
    world.people[kind].remove(person)
    world.keep(world.deleted_people[kind], person)
    return [world.change("contacts", "delete", person_stub(person), ended(person.subject, world.now))]


def person_restored(world: World, kind: Kind) -> list[Change]:
    """Take a contact or company back out of the bin."""
    person = world.take(world.deleted_people[kind], rest=5)
    if person is None:
        return []
    person.alive = True
    world.deleted_people[kind].remove(person)
    world.keep(world.people[kind], person)
    return [world.change("contacts", "restore", person_item(person, world.account), told(person, "restored"))]
