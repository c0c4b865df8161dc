"""What happens to leads: they come in, change, move through the stages, are won, lost, deleted and restored."""

from __future__ import annotations

from typing import Final

from simulator import names
from simulator.items import ROBOT, Lead, custom_field, date_field, lead_item, lead_stub
from simulator.wire import Item
from simulator.world import Change, World

WON: Final = 142
LOST: Final = 143
"""The two stages that every pipeline of every account has under the same number."""

PIPELINES: Final = {
    936736: (17944873, 17944876, 17944879, 17944882),
    1453099: (22184311, 22184314, 22184317),
}
"""The pipelines with their open stages, in order."""


def lead_added(world: World) -> list[Change]:
    """Let a lead come in; an automation fills a field of every fourth."""
    rng, speaks = world.rng, names.language(world.rng)
    pipeline = rng.choice(tuple(PIPELINES))
    lead = Lead(
        **world.new(),
        name=names.deal(rng, speaks, rng.choice(speaks.companies)),
        price=rng.choice((0, 0, 250, 490, 1200, 3500, 7800, 18000)),
        pipeline=pipeline,
        status=PIPELINES[pipeline][0],
        custom=_lead_fields(world) if rng.random() < 0.3 else [],
    )
    world.keep(world.leads, lead)
    if rng.random() < 0.25:
        world.later(1, lambda: _automated(world, lead))
    return [world.change("leads", "add", lead_item(lead, world.account))]


def _automated(world: World, lead: Lead) -> list[Change]:
    """An automation fills a field a second after the lead came."""
    if not lead.alive or not world.touch(lead, by=ROBOT):
        return []
    lead.custom = [*lead.custom, custom_field(957901, "Lead ID", lead.id)]
    return [world.change("leads", "update", lead_item(lead, world.account))]


def lead_updated(world: World) -> list[Change]:
    """Change a lead's price, name or custom fields."""
    lead = world.take(world.leads)
    if lead is None:
        return []
    rng = world.rng
    if rng.random() < 0.5:
        lead.price += rng.choice((50, 100, 450, 1000))
    elif rng.random() < 0.3:
        lead.name = f"{lead.name} ({rng.choice(('VIP', 'Q1', 'urgent', 'repeat'))})"[:120]
    else:
        lead.custom = [custom_field(957901, "Lead ID", lead.id), *_lead_fields(world)]
    return [world.change("leads", "update", lead_item(lead, world.account))]


def _lead_fields(world: World) -> list[Item]:
    rng = world.rng
    source, enum = rng.choice((("Instagram", 917601), ("Google Ads", 917603), ("Referral", 917605)))
    fields = [custom_field(467289, "Source", source, enum=enum)]
    if rng.random() < 0.5:
        fields.append(date_field(1246491, "Delivery date", world.now - world.now % 86400 + 86400 * 14))
    if rng.random() < 0.3:
        fields.append(custom_field(1246485, "Discount, %", rng.choice(("5", "7.5", "10"))))
    return fields


def lead_moved(world: World) -> list[Change]:
    """Move a lead: always the status hook, and in four of ten cases the update hook of the same move too."""
    lead = world.take(world.leads)
    if lead is None:
        return []
    lead.old_status = lead.status
    lead.pipeline, lead.status = _next_stage(world, lead)
    if lead.status in (WON, LOST):
        world.leads.remove(lead)
    item = lead_item(lead, world.account, old_status=lead.old_status)
    hooks = [world.change("leads", "status", item)]
    if world.rng.random() < 0.4:
        hooks.append(world.change("leads", "update", item))
        world.rng.shuffle(hooks)  # Kommo promises no order
    return hooks


def _next_stage(world: World, lead: Lead) -> tuple[int, int]:
    stages, rng = PIPELINES[lead.pipeline], world.rng
    if rng.random() < 0.12:
        return lead.pipeline, LOST
    if rng.random() < 0.04:
        other = next(pipeline for pipeline in PIPELINES if pipeline != lead.pipeline)
        return other, PIPELINES[other][0]
    place = stages.index(lead.status)
    if place and rng.random() < 0.1:
        return lead.pipeline, stages[place - 1]
    return lead.pipeline, stages[place + 1] if place + 1 < len(stages) else WON


def lead_handed_over(world: World) -> list[Change]:
    """Give a lead to another user; as at Kommo the hook repeats where its last move came from."""
    lead = world.take(world.leads)
    if lead is None:
        return []
    old = world.hand_over(lead)
    item = lead_item(lead, world.account, old_status=lead.old_status, old_responsible=old)
    return [world.change("leads", "responsible", item)]


def lead_deleted(world: World) -> list[Change]:
    """Delete a lead."""
    lead = world.take(world.leads)
    if lead is None:
        return []
    lead.alive = False
    world.leads.remove(lead)
    world.keep(world.deleted_leads, lead)
    return [world.change("leads", "delete", lead_stub(lead))]


def lead_restored(world: World) -> list[Change]:
    """Take a lead back out of the bin."""
    lead = world.take(world.deleted_leads, rest=5)
    if lead is None:
        return []
    lead.alive = True
    world.deleted_leads.remove(lead)
    world.keep(world.leads, lead)
    return [world.change("leads", "restore", lead_item(lead, world.account))]
