"""What the truth leaves open, and no more than that: the cases that docs/guarantees.md calls undecidable."""

from __future__ import annotations

import random
from typing import Any

import pytest

from simulator import leads, stage_hooks, tasks
from simulator.company import SimulatedDelivery
from simulator.facts import Fact, ended, whole
from simulator.generations import GENERATIONS
from simulator.truth import Told, Truth
from simulator.wire import request_headers
from simulator.world import Change, World

ACCOUNT = 16700680
SECOND = 1_000_000


class Story:
    """A lead whose life is told step by step, at seconds that are given, with the truth about it."""

    def __init__(self) -> None:
        self.world = World(ACCOUNT, random.Random(1), 1000)
        self.truth = Truth()
        self.received = 0

    def tell(self, changes: list[Change]) -> list[Told]:
        return [self.truth.tell(_delivery(self.world, change)) for change in changes]

    def happens(self, at: int, happening: Any, *, received: float | None = None) -> list[Told]:
        """Let something happen at a second, and its webhooks arrive then or at another."""
        self.world.now = at
        told = self.tell(happening(self.world))
        for one in told:
            self.arrives(one, at if received is None else received)
        return told

    def arrives(self, told: Told, at: float, *, certain: bool = True) -> None:
        microsecond = int(at * SECOND)
        told.arrived(microsecond, microsecond, certain=certain)

    def account(self) -> dict[str, Any]:
        account: dict[str, Any] = self.truth.to_json()["accounts"][str(ACCOUNT)]
        return account

    def row(self) -> dict[str, Any]:
        (row,) = self.account()["recent_updates"]
        found: dict[str, Any] = row
        return found

    def deletes(self) -> tuple[int, bool]:
        (row,) = (row for row in self.account()["activity_log"]["nameless"] if row["event_type"].endswith("deleted"))
        return row["count"], row["open"]


def _delivery(world: World, change: Change) -> SimulatedDelivery:
    body, item = GENERATIONS[2026].body(change, world.account)
    return SimulatedDelivery(
        body, request_headers("", ""), change.at, change.entity, change.action, ACCOUNT, item, change.facts
    )


@pytest.fixture
def story() -> Story:
    story = Story()
    story.world.now = 1000
    added, *_ = leads.lead_added(story.world)
    (told,) = story.tell([added])
    story.arrives(told, 1000)
    return story


def test_a_life_in_order_leaves_nothing_open(story: Story) -> None:
    story.happens(1010, leads.lead_deleted, received=1010.5)
    row = story.row()
    assert (row["deleted"], row["event_type"], row["open"]) == (True, "kommo.lead.deleted", [])
    assert row["received_between"] == [1010_500_000, 1010_500_000]
    assert story.deletes() == (1, False)
    story.happens(1020, leads.lead_restored)
    row = story.row()
    assert (row["deleted"], row["event_type"], row["occurred_at"]) == (False, "kommo.lead.restored", 1020)
    assert row["open"] == []
    story.happens(1030, leads.lead_deleted)
    assert story.deletes() == (2, False)
    assert (story.row()["deleted"], story.row()["open"]) == (True, [])


def test_a_delete_that_came_after_the_restore_leaves_the_row_open(story: Story) -> None:
    story.happens(1010, leads.lead_deleted, received=1025)
    story.happens(1020, leads.lead_restored)
    row = story.row()
    assert row["deleted"] is False
    assert row["open"] == ["deleted", "event_type", "occurred_at"]
    story.happens(1030, leads.lead_handed_over)
    row = story.row()
    assert (row["deleted"], row["open"], row["occurred_at"]) == (False, [], 1030)


def test_a_repeated_delete_is_one_before_a_restore_and_open_after_it(story: Story) -> None:
    (delete,) = story.happens(1010, leads.lead_deleted)
    story.arrives(delete, 1013)
    assert story.deletes() == (1, False)
    assert story.row()["received_between"] == [1010 * SECOND, 1013 * SECOND]
    story.happens(1020, leads.lead_restored)
    assert story.deletes() == (1, False)
    story.arrives(delete, 1025)
    assert story.deletes() == (1, True)


def test_a_delete_of_which_nobody_knows_whether_it_was_stored_is_open(story: Story) -> None:
    story.world.now = 1010
    (delete,) = story.tell(leads.lead_deleted(story.world))
    story.arrives(delete, 1010, certain=False)
    assert story.deletes() == (1, True)
    assert (story.row()["deleted"], "deleted" in story.row()["open"]) == (True, True)


def test_what_is_lost_leaves_open_what_it_told(story: Story) -> None:
    story.world.now = 1010
    story.tell(leads.lead_handed_over(story.world))
    row = story.row()
    assert row["responsible_user_id"] == story.world.leads[0].responsible
    assert row["open"] == ["event_type", "occurred_at", "responsible_user_id"]  # title and deleted are as before
    events = {event["event_type"]: event["open"] for event in story.account()["activity_log"]["events"]}
    assert events == {"kommo.lead.added": False, "kommo.lead.responsible_changed": True}
    story.happens(1020, leads.lead_handed_over)
    assert story.row()["open"] == []
    story.world.now = 1030
    story.tell(leads.lead_handed_over(story.world))
    assert story.row()["open"] == ["occurred_at", "responsible_user_id"]


def test_a_row_of_which_nothing_arrived_need_not_be_there() -> None:
    story = Story()
    story.tell(leads.lead_added(story.world)[:1])
    assert story.row()["open"] == ["row"]


def test_two_snapshots_of_one_second_leave_open_what_they_tell_apart(story: Story) -> None:
    lead = story.world.leads[0]
    for title in ("one", "other"):
        says = lead.says() | {"title": title}
        fact = Fact("kommo.lead.updated", lead.subject, 1010, whole, says, snapshot=True)
        (told,) = story.tell([story.world.change("leads", "update", {"name": title}, fact)])
        story.arrives(told, 1010)
    assert story.row()["open"] == ["title"]


def test_an_add_comes_before_all_else_of_its_second(story: Story) -> None:
    lead = story.world.leads[0]
    fact = Fact("kommo.note.added", lead.subject, 1000, whole)
    (told,) = story.tell([story.world.change("leads", "note", {"note": {}}, fact)])
    story.arrives(told, 999)
    assert (story.row()["event_type"], story.row()["open"]) == ("kommo.note.added", [])


def test_hooks_of_the_digital_pipeline_are_counted_until_one_is_repeated(story: Story) -> None:
    def hooks() -> dict[str, Any]:
        (row,) = story.account()["activity_log"]["nameless"]
        found: dict[str, Any] = row
        return found

    (hook,) = story.happens(1010, stage_hooks.on_contact)
    story.happens(1020, stage_hooks.on_contact)
    assert (hooks()["count"], hooks()["open"]) == (2, False)
    story.arrives(hook, 1030)
    assert (hooks()["count"], hooks()["open"]) == (2, True)


def test_two_events_of_one_second_leave_open_which_was_last_and_not_when(story: Story) -> None:
    for kind in ("kommo.note.added", "kommo.call.logged"):
        fact = Fact(kind, story.world.leads[0].subject, 1010, whole)
        (told,) = story.tell([story.world.change("leads", "note", {"note": {"text": kind}}, fact)])
        story.arrives(told, 1010)
    assert (story.row()["occurred_at"], story.row()["open"]) == (1010, ["event_type"])


class TaskStory(Story):
    """A task on a lead, set at 1000."""

    def __init__(self) -> None:
        super().__init__()
        self.world.now = 900
        leads.lead_added(self.world)
        self.happens(1000, lambda world: next(filter(None, (tasks.task_added(world) for _ in range(50)))))

    def task(self) -> dict[str, Any]:
        (row,) = self.account()["tasks"]
        found: dict[str, Any] = row
        return found


def test_a_task_that_is_closed_reopened_and_deleted() -> None:
    story = TaskStory()
    task = story.world.tasks[0]
    row = story.task()
    assert row["task_id"] == str(task.id)
    assert (row["entity_type"], row["entity_id"]) == ("lead", str(story.world.leads[0].id))
    assert (row["state"], row["completed_at"], row["reopened_at"], row["occurred_at"]) == ("open", None, None, 1000)
    story.happens(1020, tasks.task_completed)
    row = story.task()
    assert (row["state"], row["result"], row["completed_at"], row["open"]) == ("completed", None, 1020, [])
    story.happens(1030, tasks.task_reopened)
    row = story.task()
    assert (row["state"], row["completed_at"], row["reopened_at"]) == ("open", None, 1030)
    assert row["open"] == ["result"]  # what Kommo makes of it is not known
    story.world.done_tasks = story.world.tasks  # whichever it picks from, it is this one
    story.happens(1040, tasks.task_deleted, received=1041)
    row = story.task()
    assert (row["state"], row["reopened_at"], row["open"]) == ("deleted", 1030, ["result"])
    assert row["received_between"] == [1041 * SECOND] * 2


def test_a_task_whose_delete_came_before_what_was_before_it_is_deleted_all_the_same() -> None:
    story = TaskStory()
    story.world.now = 1020
    (completed,) = story.tell(tasks.task_completed(story.world))
    story.world.tasks = story.world.done_tasks
    story.happens(1030, tasks.task_deleted)
    story.arrives(completed, 1090)
    assert (story.task()["state"], story.task()["completed_at"], story.task()["open"]) == ("deleted", 1020, [])


def test_a_task_whose_delete_came_after_what_was_after_it_is_open() -> None:
    story = TaskStory()
    task = story.world.tasks[0]
    (delete,) = story.tell([story.world.change("task", "delete", {"id": task.id}, ended(task.subject, 1010))])
    story.happens(1020, tasks.task_text_changed)
    story.arrives(delete, 1025)
    assert (story.task()["state"], story.task()["open"]) == ("open", ["occurred_at", "state"])


def test_where_a_webhook_of_a_task_is_missing_it_is_open_since_when_it_is_closed() -> None:
    story = TaskStory()
    story.world.now = 1010
    story.tell(tasks.task_text_changed(story.world))
    story.happens(1020, tasks.task_completed)
    assert (story.task()["state"], story.task()["open"]) == ("completed", ["completed_at", "reopened_at"])
    story.world.now = 1030
    story.tell(tasks.task_reopened(story.world))
    open_now = {"state", "completed_at", "reopened_at", "occurred_at", "result"}
    assert (story.task()["state"], set(story.task()["open"])) == ("open", open_now)
