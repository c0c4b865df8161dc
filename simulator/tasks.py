"""What happens to tasks: they are set, changed, handed over, completed, given a result, deleted."""

from __future__ import annotations

from simulator import names
from simulator.items import ELEMENT_TYPES, Person, Task, task_item
from simulator.wire import Item
from simulator.world import Change, World


def task_added(world: World) -> list[Change]:
    """Set a task on a lead, contact or company."""
    element = world.element()
    if element is None:
        return []
    rng = world.rng
    kind = element.kind if isinstance(element, Person) else "lead"
    task = Task(
        **world.new(),
        text=rng.choice(names.language(rng).tasks),
        type=rng.choice((1, 1, 1, 2)),
        element_type=ELEMENT_TYPES[kind],
        element_id=element.id,
        deadline=_deadline(world),
    )
    world.keep(world.tasks, task)
    return [world.change("task", "add", task_item(task, world.account))]


def _deadline(world: World) -> int:
    if world.rng.random() < 0.4:  # an hour of a working day
        return world.now - world.now % 900 + 900 * world.rng.randrange(2, 300)
    return world.now - world.now % 86400 + 86400 * world.rng.randrange(1, 15) - 3 * 3600 - 60  # 23:59 in UTC+3


def task_completed(world: World) -> list[Change]:
    """Close a task; half of them are given a result by a second hook a little later."""
    task = world.take(world.tasks)
    if task is None:
        return []
    task.done = True
    world.tasks.remove(task)
    if world.rng.random() < 0.5:
        world.later(world.rng.randrange(2, 90), lambda: _result(world, task))
    return [_task_update(world, task, {"action_close": 1, "old_text": task.text})]


def _result(world: World, task: Task) -> list[Change]:
    world.touch(task)
    result: Item = {"id": world.new_id(), "text": world.rng.choice(names.RESULTS)}
    return [_task_update(world, task, {"action_close": 0, "result": result})]


def task_changed(world: World) -> list[Change]:
    """Give an open task another text, or another deadline."""
    task = world.take(world.tasks)
    if task is None:
        return []
    old = task.text
    if world.rng.random() < 0.4:
        task.text = f"{old}: {names.phone(world.rng)}"[-120:]
    else:
        task.deadline += 86400 * world.rng.randrange(1, 4)
    return [_task_update(world, task, {"action_close": 0, "old_text": old})]


def task_handed_over(world: World) -> list[Change]:
    """Give an open task to another user."""
    task = world.take(world.tasks)
    if task is None:
        return []
    old = world.hand_over(task)
    change: Item = {"action_close": 0, "old_text": task.text, "main_user": task.responsible}
    change |= {"modified_by": task.modified_by, "old_responsible_user_id": old}
    return [_task_update(world, task, change)]


def task_deleted(world: World) -> list[Change]:
    """Delete an open task."""
    task = world.take(world.tasks)
    if task is None:
        return []
    world.tasks.remove(task)
    return [world.change("task", "delete", {"id": task.id})]


def _task_update(world: World, task: Task, change: Item) -> Change:
    return world.change("task", "update", task_item(task, world.account, change=change))
