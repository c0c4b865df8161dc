"""What happens to customers: those who buy again. Kommo sends no restore of one."""

from __future__ import annotations

from typing import Final

from simulator import names
from simulator.facts import HANDED_OVER, ended, told
from simulator.fields import PERSON_FIELDS, change_fields
from simulator.items import customer_item
from simulator.records import Customer
from simulator.world import Change, World

_STAGES: Final = (4021, 4024, 4027)


def customer_added(world: World) -> list[Change]:
    """Make a customer of somebody who bought."""
    rng, speaks = world.rng, names.language(world.rng)
    periodicity = rng.choice((7, 30, 90))
    customer = Customer(
        **world.new(),
        name=rng.choice(speaks.companies),
        status=_STAGES[0],
        next_price=rng.choice((50, 120, 900)),
        next_date=world.now + 86400 * periodicity,
        periodicity=periodicity,
    )
    world.keep(world.customers, customer)
    return [world.change("customers", "add", customer_item(customer, world.account), told(customer, "added"))]


def customer_updated(world: World) -> list[Change]:
    """Change when a customer is expected, for how much, or its fields."""
    customer = world.take(world.customers)
    if customer is None:
        return []
    if world.rng.random() < 0.5:
        customer.next_date += 86400 * customer.periodicity
        customer.status = world.rng.choice(_STAGES)
        customer.next_price += world.rng.choice((10, 25))
    else:
        change_fields(world.rng, customer, PERSON_FIELDS, world.now)
    return [world.change("customers", "update", customer_item(customer, world.account), told(customer, "updated"))]


def customer_handed_over(world: World) -> list[Change]:
    """Give a customer to another user."""
    customer = world.take(world.customers)
    if customer is None:
        return []
    old = world.hand_over(customer)
    item = customer_item(customer, world.account, old_responsible=old)
    return [world.change("customers", "update", item, told(customer, "responsible_changed", HANDED_OVER))]


def customer_deleted(world: World) -> list[Change]:
    """Delete a customer."""
    customer = world.take(world.customers)
    if customer is None:
        return []
    customer.alive = False
    world.customers.remove(customer)
    return [world.change("customers", "delete", {"id": customer.id}, ended(customer.subject, world.now))]
