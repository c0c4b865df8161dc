"""What the digital pipeline sends: hooks that people set up at a stage, with the stage and the id and nothing else.

See https://developers.kommo.com/docs/webhooks-dp. They have no time and no id of their own, so a repeat of one cannot
be told from a second one. In the simulated account the first stage of each pipeline and the won stage have hooks.
That page has rules of its own for their attempts; here they are sent by those of all other webhooks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from simulator.facts import Fact
from simulator.records import Customer, Lead
from simulator.wire import Item
from simulator.world import Change, World

_STAGES: Final = frozenset({17944873, 22184311, 142})
_ON_LEADS: Final = ("mail_in", "call_in", "chat", "site_visit")


def on_add(world: World, lead: Lead) -> list[Change]:
    """Return the hook of the stage that a new lead is in, where it has one: in one of ten cases."""
    if lead.status not in _STAGES or world.rng.random() >= 0.1:
        return []
    return [_hook(world, lead, "leads", "add", _place(lead))]


def on_move(world: World, lead: Lead, old_pipeline: int) -> list[Change]:
    """Return the hook of the stage that a lead came into, where it has one."""
    if lead.status not in _STAGES:
        return []
    old: Item = {"old_status_id": lead.old_status or 0, "old_pipeline_id": old_pipeline}
    return [_hook(world, lead, "leads", "status", _place(lead) | old)]


def on_contact(world: World) -> list[Change]:
    """Return the hook of a mail, call, chat message or visit of the site that is news of some lead."""
    if not world.leads:
        return []
    lead = world.rng.choice(world.leads)
    return [_hook(world, lead, "leads", world.rng.choice(_ON_LEADS), _place(lead))]


def on_period(world: World) -> list[Change]:
    """Return the hook of a customer whose time to buy again has come."""
    if not world.customers:
        return []
    customer = world.rng.choice(world.customers)
    return [_hook(world, customer, "customers", "period", {"id": customer.id, "status_id": customer.status})]


def _place(lead: Lead) -> Item:
    return {"id": lead.id, "status_id": lead.status, "pipeline_id": lead.pipeline}


def _hook(world: World, record: Lead | Customer, entity: str, trigger: str, item: Item) -> Change:
    fact = Fact("kommo.digital_pipeline.triggered", record.subject, world.now, None, timed=False)
    return replace(world.change(entity, trigger, item, fact), stage_hook=True)
