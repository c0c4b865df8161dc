"""Custom fields and tags: what an account's people fill in, change and clear.

The shapes are those of captured bodies: a value with or without an enum, a bare date, several values of one field, a
map without an index. A cleared field is absent from the next body.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from simulator import names
from simulator.records import Named
from simulator.wire import Item, Value

Maker = Callable[[random.Random, int], Item]
"""Takes the time in unix seconds."""


def custom_field(identifier: int, name: str, *values: Value, code: str = "") -> Item:
    """Return one filled custom field."""
    item: Item = {"id": identifier, "name": name, "values": values}
    return {**item, "code": code} if code else item


def _text(identifier: int, name: str, *values: str, code: str = "") -> Maker:
    return lambda rng, _now: custom_field(identifier, name, {"value": rng.choice(values)}, code=code)


def _select(identifier: int, name: str, enum: int, *values: str) -> Maker:
    def make(rng: random.Random, _now: int) -> Item:
        chosen = rng.randrange(len(values))
        return custom_field(identifier, name, {"value": values[chosen], "enum": enum + 2 * chosen})

    return make


def _several(identifier: int, name: str, enum: int, *values: str) -> Maker:
    def make(rng: random.Random, _now: int) -> Item:
        chosen = sorted(rng.sample(range(len(values)), rng.randrange(1, len(values))))
        found: list[Item] = [{"value": values[n], "enum": enum + 2 * n} for n in chosen]
        return custom_field(identifier, name, *found)

    return make


def _date(identifier: int, name: str) -> Maker:
    return lambda rng, now: custom_field(identifier, name, now - now % 86400 + 86400 * rng.randrange(1, 60))


def _radio(identifier: int, name: str, enum: int, *values: str) -> Maker:
    def make(rng: random.Random, _now: int) -> Item:
        chosen = rng.randrange(len(values))
        return {"id": identifier, "name": name, "values": {"value": values[chosen], "enum": enum + 2 * chosen}}

    return make


_UTM: Final = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")
_CAMPAIGNS: Final = ("google", "cpc", "spring_2026", "instagram_stories", "brand", "retargeting-30d", "(not set)")

LEAD_FIELDS: Final[dict[int, Maker]] = {
    467289: _select(467289, "Source", 917601, "Instagram", "Google Ads", "Referral", "Сарафанное радио"),
    1246491: _date(1246491, "Delivery date"),
    1246485: _text(1246485, "Discount, %", "5", "7.5", "10", "280.00"),
    1246483: _text(1246483, "Delivery address", *names.ADDRESSES),
    1246487: _text(1246487, "Contract signed", "1"),
    1246495: _several(1246495, "Products of interest", 908107, "Basic", "Professional", "Installation", "Support 24/7"),
    1246497: _radio(1246497, "Payment", 908131, "Card", "Transferencia", "Наличные"),
    1246499: _text(1246499, "Comment", *names.COMMENTS),
    1246501: _text(
        1246501, "Landing page", "https://northgate.example/?promo=spring&lang=en", "https://northgate.example/"
    ),
    **{771910 + 2 * n: _text(771910 + 2 * n, name, *_CAMPAIGNS, code=name.upper()) for n, name in enumerate(_UTM)},
}
"""By field id, as they stand in the lead's card."""

LEAD_ID: Final = 957901
"""The field that the account's automation fills."""

PERSON_FIELDS: Final[dict[int, Maker]] = {
    771904: lambda rng, _now: custom_field(771904, "Position", {"value": rng.choice(names.POSITIONS)}, code="POSITION"),
    1246511: lambda rng, _now: custom_field(
        1246511,
        "Birthday",
        {"value": f"{rng.randrange(1, 29):02d}.{rng.randrange(1, 13):02d}.19{rng.randrange(60, 99)}"},
    ),
    1246513: _select(1246513, "Language", 908151, "English", "Español", "Русский"),
    1246515: _radio(1246515, "Newsletter", 908171, "Yes", "No"),
}

_TAGS: Final[tuple[Item, ...]] = tuple(
    {"id": 61_011 + 7 * n, "name": name}
    for n, name in enumerate(("VIP", "срочно", "repeat buyer", "expo 2026", "no calls", "presupuesto", "A/B test & co"))
)


def fill(rng: random.Random, record: Named, makers: dict[int, Maker], share: float, now: int) -> None:
    """Fill each field of a new record with a probability."""
    for identifier, make in makers.items():
        if rng.random() < share:
            record.custom[identifier] = make(rng, now)


def change_fields(rng: random.Random, record: Named, makers: dict[int, Maker], now: int) -> None:
    """Add, change or clear some custom fields."""
    for identifier in rng.sample(list(makers), rng.randrange(1, 4)):
        if identifier in record.custom and rng.random() < 0.3:
            del record.custom[identifier]
        else:
            record.custom[identifier] = makers[identifier](rng, now)


def change_tags(rng: random.Random, record: Named) -> None:
    """Put a tag on a record, or take one off."""
    if record.tags and rng.random() < 0.4:
        off = rng.choice(record.tags)
        record.tags = [tag for tag in record.tags if tag is not off]
    else:
        free = [tag for tag in _TAGS if all(tag is not known for known in record.tags)]
        record.tags = [*record.tags, rng.choice(free)] if free else record.tags[1:]
