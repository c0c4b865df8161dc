"""The account's lists (`catalogs`): products and invoices."""

from __future__ import annotations

from typing import Final

from simulator.facts import Fact, ended, whole
from simulator.fields import custom_field
from simulator.records import Element, Says
from simulator.wire import Item
from simulator.world import Change, World

_PRODUCTS: Final = 32908
_INVOICES: Final = 32910
_NAMES: Final = ("Boiler 24 kW", "Окно ПВХ 1,2 × 1,4 м", "Silla «Lima»", "Support, 12 months", "Cable 3×2.5 mm²")


def element_added(world: World) -> list[Change]:
    """Add a product or an invoice."""
    rng = world.rng
    invoice = rng.random() < 0.3
    user, identifier = world.user(), world.new_id()
    name = f"Invoice {identifier % 10_000}" if invoice else rng.choice(_NAMES)
    catalog, price = (_INVOICES if invoice else _PRODUCTS), rng.randrange(5, 900)
    element = Element(identifier, catalog, name, price, world.now, world.now, user, user)
    world.keep(world.elements, element)
    return [_told(world, element, "add", "added")]


def element_changed(world: World) -> list[Change]:
    """Change an element's price."""
    element = world.rng.choice(world.elements) if world.elements else None
    if element is None or element.updated_at >= world.now:
        return []
    element.price += world.rng.choice((1, 5, 20))
    element.updated_at, element.modified_by = world.now, world.user()
    return [_told(world, element, "update", "updated")]


def element_deleted(world: World) -> list[Change]:
    """Delete an element."""
    element = world.rng.choice(world.elements) if world.elements else None
    if element is None or element.updated_at >= world.now:
        return []
    world.elements.remove(element)
    item: Item = {"id": element.id, "catalog_id": element.catalog, "type": "catalog"}
    return [world.change("catalogs", "delete", item, ended(element.subject, world.now))]


def _told(world: World, element: Element, action: str, verb: str) -> Change:
    item: Item = {"id": element.id, "date_create": element.created_at, "date_modify": element.updated_at}
    item |= {"created_by": element.created_by, "modified_by": element.modified_by, "catalog_id": element.catalog}
    item |= {"name": element.name, "deleted": 0, "custom_fields": _fields(element)}
    item |= {"created_at": element.created_at, "updated_at": element.updated_at, "type": "catalog"}
    kind = f"kommo.catalog_element.{verb}"
    says: Says = {"title": element.name}
    fact = Fact(kind, element.subject, element.updated_at, whole, says, creates=verb == "added", snapshot=True)
    return world.change("catalogs", action, item, fact)


def _fields(element: Element) -> list[Item]:
    if element.catalog == _INVOICES:  # the value of a line is a map of its own
        line: Item = {"unit_price": element.price, "quantity": 2, "product_id": 347577, "description": "Boiler"}
        return [custom_field(771960, "Items", {"value": line}, code="ITEMS")]
    sku: Item = {"value": f"SKU-{element.id % 100_000}"}
    unit: Item = {"value": "kg", "enum": 552500}
    return [
        custom_field(771934, "SKU", sku, code="SKU"),
        custom_field(771938, "Price", {"value": element.price}, code="PRICE"),
        custom_field(771944, "Unit", unit, code="UNIT"),
    ]
