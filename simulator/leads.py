"""What happens to leads: they come in, change, move through the stages, are won, lost, deleted and restored."""

from __future__ import annotations

from typing import Final

from simulator import names, stage_hooks
from simulator.facts import HANDED_OVER, MOVED, ended, told
from simulator.fields import LEAD_FIELDS, LEAD_ID, change_fields, change_tags, custom_field, fill
from simulator.items import lead_item, lead_stub
from simulator.records import ROBOT, Lead
from simulator.world import Change, World

WON: Final = 142
LOST: Final = 143
"""The two stages that every pipeline of every account has under the same number."""

PIPELINES: Final = {
    936736: (17944873, 17944876, 17944879, 17944882),
    1453099: (22184311, 22184314, 22184317),
}
"""The pipelines with their open stages, in order."""


def lead_added(world: World, *, identifier: int | None = None, name: str | None = None) -> list[Change]:
    """Let a lead come in; an automation fills a field of every fourth. An accepted incoming lead has its id already."""
    rng, speaks = world.rng, names.language(world.rng)
    pipeline = rng.choice(tuple(PIPELINES))
    lead = Lead(
        **world.new(),
        name=names.deal(rng, speaks, rng.choice(speaks.companies)) if name is None else name,
        price=rng.choice((0, 0, 250, 490, 1200, 3500, 7800, 18000)),
        pipeline=pipeline,
        status=PIPELINES[pipeline][0],
    )
    if identifier is not None:
        lead.id = identifier
    if rng.random() < 0.03:
        lead.name = ""
    fill(rng, lead, LEAD_FIELDS, 0.38 if rng.random() < 0.8 else 0.0, world.now)
    if rng.random() < 0.2:
        change_tags(rng, lead)
    world.keep(world.leads, lead)
    if rng.random() < 0.25:
        world.later(1, lambda: _automated(world, lead))
    item = lead_item(lead, world.account)
    return [world.change("leads", "add", item, told(lead, "added")), *stage_hooks.on_add(world, lead)]


def _automated(world: World, lead: Lead) -> list[Change]:
    """An automation fills a field a second after the lead came."""
    if not lead.alive or not world.touch(lead, by=ROBOT):
        return []
    lead.custom[LEAD_ID] = custom_field(LEAD_ID, "Lead ID", {"value": lead.id})
    return _updated(world, lead)


def _updated(world: World, lead: Lead) -> list[Change]:
    return [world.change("leads", "update", lead_item(lead, world.account), told(lead, "updated"))]


def lead_updated(world: World) -> list[Change]:
    """Change a lead's price, name, custom fields or tags; now and then of one that is won or lost, or by a robot."""
    rng = world.rng
    lead = world.take(world.closed_leads if rng.random() < 0.08 else world.leads)
    if lead is None:
        return []
    chance = rng.random()
    if chance < 0.3:
        lead.price = max(0, lead.price + rng.choice((-200, 50, 100, 450, 1000)))
    elif chance < 0.4:
        lead.name = f"{lead.name} ({rng.choice(('VIP', 'Q1', 'urgent', 'repeat'))})"[-120:]
    elif chance < 0.55:
        change_tags(rng, lead)
    else:
        change_fields(rng, lead, LEAD_FIELDS, world.now)
        if rng.random() < 0.15:
            lead.modified_by = ROBOT
    return _updated(world, lead)


def lead_moved(world: World) -> list[Change]:
    """Move a lead: always the status hook, and in four of ten cases the update hook of the same move too."""
    lead = world.take(world.leads)
    if lead is None:
        return []
    if world.rng.random() < 0.15:
        lead.modified_by = ROBOT
    old_pipeline = lead.pipeline
    lead.old_status = lead.status
    lead.pipeline, lead.status = _next_stage(world, lead)
    if lead.status in (WON, LOST):
        world.leads.remove(lead)
        world.keep(world.closed_leads, lead)
    return [*_moved(world, lead), *stage_hooks.on_move(world, lead, old_pipeline)]


def _moved(world: World, lead: Lead) -> list[Change]:
    item, fact = lead_item(lead, world.account, old_status=lead.old_status), told(lead, "status_changed", MOVED)
    hooks = [world.change("leads", "status", item, fact)]
    if world.rng.random() < 0.4:
        hooks.append(world.change("leads", "update", item, fact))
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


def lead_taken_up_again(world: World) -> list[Change]:
    """Move a lead that was won or lost back to the first stage of its pipeline."""
    lead = world.take(world.closed_leads)
    if lead is None:
        return []
    lead.old_status, lead.status = lead.status, PIPELINES[lead.pipeline][0]
    world.closed_leads.remove(lead)
    world.keep(world.leads, lead)
    return _moved(world, lead)


def lead_handed_over(world: World) -> list[Change]:
    """Give a lead to another user; as at Kommo the hook repeats where its last move came from."""
    lead = world.take(world.leads)
    if lead is None:
        return []
    old = world.hand_over(lead)
    item = lead_item(lead, world.account, old_status=lead.old_status, old_responsible=old)
    return [world.change("leads", "responsible", item, told(lead, "responsible_changed", HANDED_OVER))]


def lead_deleted(world: World) -> list[Change]:
    """Delete a lead."""
    lead = world.take(world.leads)
    if lead is None:
        return []
    lead.alive = False
    world.leads.remove(lead)
    world.keep(world.deleted_leads, lead)
    return [world.change("leads", "delete", lead_stub(lead), ended(lead.subject, world.now))]


def lead_restored(world: World) -> list[Change]:
    """Take a lead back out of the bin."""
    lead = world.take(world.deleted_leads, rest=5)
    if lead is None:
        return []
    lead.alive = True
    world.deleted_leads.remove(lead)
    world.keep(world.leads, lead)
    return [world.change("leads", "restore", lead_item(lead, world.account), told(lead, "restored"))]
