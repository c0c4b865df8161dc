"""Tasks: POST /tasks, PATCH /tasks and /tasks/ID; no DELETE (https://developers.kommo.com/reference, tasks)."""

from __future__ import annotations

from simulator.api import hooks
from simulator.api.asking import Asking, settle
from simulator.api.catalogue import TASK_TYPES
from simulator.api.checks import Check
from simulator.api.errors import not_found
from simulator.api.state import ENTITIES, Json
from simulator.world import USER_NAMES


def _checked(asking: Asking, item: Json, *, new: bool) -> Check:
    check = Check(item)
    if new or "text" in item:
        check.text("text", required=True)
    if new or "complete_till" in item:
        check.seconds("complete_till", required=True)
    check.choice("responsible_user_id", USER_NAMES)
    check.choice("created_by", {0, *USER_NAMES})
    check.choice("task_type_id", TASK_TYPES)
    check.integer("duration")
    check.seconds("created_at")
    check.flag("is_completed")
    entity = check.choice("entity_type", ENTITIES, required=item.get("entity_id") is not None)
    if entity is not None:
        check.choice("entity_id", asking.account.entities[entity], required=True)
    result = item.get("result")
    if result not in (None, []) and not (isinstance(result, dict) and isinstance(result.get("text"), str)):
        check.missing("result.text")
    return check


def create(asking: Asking) -> Json:
    """Answer POST /tasks."""
    items = asking.items()
    settle([(name, _checked(asking, item, new=True)) for name, item in items])
    done = []
    for name, item in items:
        author = item.get("created_by", asking.user)
        after: Json = {"id": asking.accounts.new_id(), "created_by": author, "updated_by": author}
        after |= {"created_at": item.get("created_at") or asking.now, "updated_at": asking.now}
        after |= {"responsible_user_id": asking.user, "group_id": 0, "entity_id": None, "entity_type": None}
        after |= {"duration": 0, "is_completed": False, "task_type_id": 1, "text": "", "result": None}
        after |= {"complete_till": 0, "account_id": asking.account.id, "_result_id": 0}
        _set(asking, after, item)
        done.append((name, _kept(asking, None, after, name, item)))
    return _thin(asking, done)


def update(asking: Asking) -> Json:
    """Answer PATCH /tasks."""
    items, held, checks = asking.items(), asking.account.entities["tasks"], []
    for name, item in items:
        check = _checked(asking, item, new=False)
        check.choice("id", held, required=True)
        checks.append((name, check))
    settle(checks)
    return _thin(asking, [(name, _changed(asking, held[item["id"]], item, name)) for name, item in items])


def update_one(asking: Asking, identifier: int) -> Json:
    """Answer PATCH /tasks/ID."""
    before = asking.account.entities["tasks"].get(identifier)
    if before is None:
        raise not_found()
    item = asking.item()
    settle([("0", _checked(asking, item, new=False))])
    after = _changed(asking, before, item, None)
    links = {"self": {"href": f"{asking.href}/tasks/{identifier}"}}
    return {"id": identifier, "updated_at": after["updated_at"], "_links": links}


def _changed(asking: Asking, before: Json, item: Json, request_id: str | None) -> Json:
    after = before | {"updated_at": asking.now, "updated_by": asking.user}
    _set(asking, after, item)
    return _kept(asking, before, after, request_id, item)


def _set(asking: Asking, after: Json, item: Json) -> None:
    for name in (
        "text",
        "complete_till",
        "responsible_user_id",
        "task_type_id",
        "duration",
        "is_completed",
        "entity_type",
        "entity_id",
    ):
        if item.get(name) is not None:
            after[name] = item[name]
    if item.get("result"):
        after |= {"result": {"text": item["result"]["text"]}, "_result_id": asking.accounts.new_id()}


def _kept(asking: Asking, before: Json | None, after: Json, request_id: str | None, item: Json) -> Json:
    asking.account.entities["tasks"][after["id"]] = after
    asking.change("task", "created" if before is None else "updated", after, request_id, item)
    asking.hooks += hooks.of_task(asking.account.id, asking.user, before, after)
    return after


def _thin(asking: Asking, done: list[tuple[str, Json]]) -> Json:
    told = [
        {
            "id": after["id"],
            "request_id": name,
            "updated_at": after["updated_at"],
            "_links": {"self": {"href": f"{asking.href}/tasks/{after['id']}"}},
        }
        for name, after in done
    ]
    return {"_links": {"self": {"href": f"{asking.href}/tasks"}}, "_embedded": {"tasks": told}}
