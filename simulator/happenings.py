"""What may happen in the company, and how often: leads and tasks most, as in a real account."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from simulator import calls, chats, customers, incoming, leads, lists, notes, people, stage_hooks, tasks
from simulator.world import Change, World

Happening = Callable[[World], list[Change]]

HAPPENINGS: Final[dict[Happening, float]] = {
    leads.lead_added: 60,
    leads.lead_updated: 120,
    leads.lead_moved: 130,
    leads.lead_taken_up_again: 5,
    leads.lead_handed_over: 20,
    leads.lead_deleted: 12,
    leads.lead_restored: 8,
    tasks.task_added: 90,
    tasks.task_completed: 60,
    tasks.task_reopened: 8,
    tasks.task_text_changed: 15,
    tasks.task_postponed: 25,
    tasks.task_handed_over: 15,
    tasks.task_deleted: 8,
    notes.note_written: 55,
    calls.call_made: 60,
    partial(people.person_added, kind="contact"): 45,
    partial(people.person_updated, kind="contact"): 45,
    partial(people.person_handed_over, kind="contact"): 10,
    partial(people.person_deleted, kind="contact"): 6,
    partial(people.person_restored, kind="contact"): 5,
    partial(people.person_added, kind="company"): 15,
    partial(people.person_updated, kind="company"): 15,
    partial(people.person_handed_over, kind="company"): 6,
    partial(people.person_deleted, kind="company"): 5,
    partial(people.person_restored, kind="company"): 4,
    customers.customer_added: 5,
    customers.customer_updated: 6,
    customers.customer_handed_over: 3,
    customers.customer_deleted: 2,
    incoming.came_in: 18,
    incoming.corrected: 5,
    incoming.accepted: 12,
    incoming.declined: 5,
    incoming.removed: 1.5,
    chats.begun: 15,
    chats.written_to: 40,
    chats.answered: 35,
    chats.changed: 25,
    chats.template_reviewed: 1.5,
    lists.element_added: 5,
    lists.element_changed: 6,
    lists.element_deleted: 2.5,
    stage_hooks.on_contact: 12,
    stage_hooks.on_period: 2.5,
}
"""The weights beside each other."""
