"""What happens to tasks: they are set, changed, missed, handed over, completed, given a result, reopened, deleted."""

from __future__ import annotations

from simulator import names
from simulator.facts import HANDED_OVER, UNKNOWN, Fact, ended, picked, told
from simulator.items import task_item
from simulator.records import Task
from simulator.wire import Item
from simulator.world import Change, World

_COMPLETED = picked("last_modified", "updated_at")
_RESULT = picked("result", "last_modified", "updated_at")
_TEXT = picked("old_text", "text", "last_modified", "updated_at")


def task_added(world: World) -> list[Change]:
    """Set a task on a lead, contact, company or customer."""
    element = world.element()
    if element is None:
        return []
    rng = world.rng
    task = Task(
        **world.new(),
        text=rng.choice(names.language(rng).tasks),
        type=rng.choice((1, 1, 1, 2)),
        element=element,
        deadline=_deadline(world),
    )
    world.keep(world.tasks, task)
    return [world.change("task", "add", task_item(task, world.account), told(task, "added", result=None))]


def _deadline(world: World) -> int:
    chance = world.rng.random()
    if chance < 0.1:  # some minutes: these are missed before somebody looks
        return world.now - world.now % 60 + 60 * world.rng.randrange(2, 15)
    if chance < 0.45:  # an hour of a working day
        return world.now - world.now % 900 + 900 * world.rng.randrange(2, 300)
    return world.now - world.now % 86400 + 86400 * world.rng.randrange(1, 15) - 3 * 3600 - 60  # 23:59 in UTC+3


def task_completed(world: World) -> list[Change]:
    """Close a task; half of them are given a result by a second hook a little later."""
    task = world.take(world.tasks)
    if task is None:
        return []
    task.completed_at = world.now
    world.tasks.remove(task)
    world.keep(world.done_tasks, task)
    if world.rng.random() < 0.5:
        world.later(world.rng.randrange(2, 90), lambda: _result(world, task))
    change: Item = {"action_close": 1, "old_text": task.text}
    return [world.change("task", "update", _item(world, task, change), told(task, "completed", _COMPLETED))]


def _result(world: World, task: Task) -> list[Change]:
    if not (task.done and task.alive and world.touch(task)):
        return []
    text = world.rng.choice(names.RESULTS)
    item = _item(world, task, {"action_close": 0, "result": {"id": world.new_id(), "text": text}})
    return [world.change("task", "update", item, told(task, "result_added", _RESULT, result=text))]


def task_reopened(world: World) -> list[Change]:
    """Open a closed task again; what Kommo makes of its result is not known."""
    task = world.take(world.done_tasks)
    if task is None:
        return []
    task.completed_at, task.reopened_at = None, world.now
    world.done_tasks.remove(task)
    world.keep(world.tasks, task)
    return _updated(world, task, told(task, "updated", result=UNKNOWN))


def task_text_changed(world: World) -> list[Change]:
    """Give an open task another text."""
    task = world.take(world.tasks)
    if task is None:
        return []
    old = task.text
    task.text = f"{old}: {names.phone(world.rng)}"[-120:]
    item = _item(world, task, {"action_close": 0, "old_text": old})
    return [world.change("task", "update", item, told(task, "text_changed", _TEXT))]


def task_postponed(world: World) -> list[Change]:
    """Give an open task another deadline: for choice one that was missed, of which nothing else tells."""
    missed = [task for task in world.tasks if task.deadline < world.now][:20]
    task = world.take(missed or world.tasks)
    if task is None:
        return []
    task.deadline = max(task.deadline, world.now - world.now % 900) + 86400 * world.rng.randrange(1, 4)
    return _updated(world, task, told(task, "updated"))


def task_handed_over(world: World) -> list[Change]:
    """Give an open task to another user."""
    task = world.take(world.tasks)
    if task is None:
        return []
    old = world.hand_over(task)
    change: Item = {"action_close": 0, "old_text": task.text, "main_user": task.responsible}
    change |= {"modified_by": task.modified_by, "old_responsible_user_id": old}
    item = _item(world, task, change)
    return [world.change("task", "update", item, told(task, "responsible_changed", HANDED_OVER))]


def task_deleted(world: World) -> list[Change]:
    """Delete a task, open or closed."""
    pool = world.tasks if world.rng.random() < 0.7 else world.done_tasks
    task = world.take(pool)
    if task is None:
        return []
    task.alive = False
    pool.remove(task)
    return [world.change("task", "delete", {"id": task.id}, ended(task.subject, world.now))]


def _updated(world: World, task: Task, fact: Fact) -> list[Change]:
    item = _item(world, task, {"action_close": 0, "old_text": task.text})
    return [world.change("task", "update", item, fact)]


def _item(world: World, task: Task, change: Item) -> Item:
    return task_item(task, world.account, change=change)
