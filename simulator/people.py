"""What happens to contacts and companies; Kommo sends both under `contacts`."""

from __future__ import annotations

from simulator import names
from simulator.items import Kind, Person, custom_field, person_item, person_stub
from simulator.wire import Item
from simulator.world import Change, World


def person_added(world: World, kind: Kind) -> list[Change]:
    """Add a contact or a company, often tied to a lead."""
    rng, speaks = world.rng, names.language(world.rng)
    name = names.person(rng, speaks) if kind == "contact" else rng.choice(speaks.companies)
    owner = name if kind == "contact" else names.person(rng, speaks)
    person = Person(**world.new(), kind=kind, name=name, custom=_reach(world, names.email(rng, speaks, owner)))
    if world.leads and rng.random() < 0.7:
        person.leads.append(rng.choice(world.leads).id)
    world.keep(world.people[kind], person)
    return [world.change("contacts", "add", person_item(person, world.account))]


def _reach(world: World, email: str) -> list[Item]:
    fields = [custom_field(771906, "Phone", names.phone(world.rng), enum=552476, code="PHONE")]
    if world.rng.random() < 0.7:
        fields.append(custom_field(771908, "Email", email, enum=552488, code="EMAIL"))
    return fields


def person_updated(world: World, kind: Kind) -> list[Change]:
    """Change a contact's or company's position, telephone number or leads."""
    person = world.take(world.people[kind])
    if person is None:
        return []
    rng = world.rng
    if world.leads and rng.random() < 0.3:
        lead = rng.choice(world.leads).id
        person.leads = [*(known for known in person.leads[-4:] if known != lead), lead]
    elif kind == "contact" and rng.random() < 0.6:
        position = custom_field(771904, "Position", rng.choice(names.POSITIONS), code="POSITION")
        person.custom = [*(known for known in person.custom if known["id"] != 771904), position]
    else:
        person.custom = [custom_field(771906, "Phone", names.phone(rng), enum=552476, code="PHONE"), *person.custom[1:]]
    return [world.change("contacts", "update", person_item(person, world.account))]


def person_handed_over(world: World, kind: Kind) -> list[Change]:
    """Give a contact or company to another user: an update with old_responsible_user_id, it has no hook of its own."""
    person = world.take(world.people[kind])
    if person is None:
        return []
    old = world.hand_over(person)
    return [world.change("contacts", "update", person_item(person, world.account, old_responsible=old))]


def person_deleted(world: World, kind: Kind) -> list[Change]:
    """Delete a contact or company."""
    person = world.take(world.people[kind])
    if person is None:
        return []
    person.alive = False
    world.people[kind].remove(person)
    world.keep(world.deleted_people[kind], person)
    return [world.change("contacts", "delete", person_stub(person))]


def person_restored(world: World, kind: Kind) -> list[Change]:
    """Take a contact or company back out of the bin."""
    person = world.take(world.deleted_people[kind], rest=5)
    if person is None:
        return []
    person.alive = True
    world.deleted_people[kind].remove(person)
    world.keep(world.people[kind], person)
    return [world.change("contacts", "restore", person_item(person, world.account))]
