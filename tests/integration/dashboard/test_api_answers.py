from __future__ import annotations

import datetime as dt

import pytest

from tests.integration.dashboard.support import NOON, ONE, TWO, Board, Rows

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_activity_log_is_answered_newest_first_with_its_changes(board: Board, rows: Rows) -> None:
    token = await rows.token()
    older = await rows.activity(at=NOON - dt.timedelta(microseconds=1), summary="first")
    changes = {"status_id": {"from": 1, "to": 2**53 + 1}, "name": {"to": "Ж"}}
    newer = await rows.activity(TWO, changes=changes, duration_ms=12, outcome="success", entity="lead/00012")

    items = await board.items("/api/v1/activity", token)

    assert [item["event_id"] for item in items] == [str(newer), str(older)]
    assert items[0] == {
        "account_id": TWO,
        "occurred_at": "2026-05-04T12:00:00Z",
        "event_id": str(newer),
        "entity_type": "lead",
        "entity_id": "00012",
        "event_type": "kommo.lead.updated",
        "actor_id": 7,
        "summary": "Lead was changed",
        "changes": changes,
        "outcome": "success",
        "duration_ms": 12,
        "correlation_id": "delivery",
        "log_partition": 0,
        "log_offset": 1,
        "caused_by": None,
    }
    assert items[1]["occurred_at"] == "2026-05-04T11:59:59.999999Z"
    assert items[1]["changes"] is None


async def test_recent_updates_are_answered_last_touched_first(board: Board, rows: Rows) -> None:
    token = await rows.token()
    await rows.update(entity="lead/1", at=NOON)
    await rows.update(entity="task/9", at=NOON + dt.timedelta(hours=1), title=None, deleted=True)
    items = await board.items("/api/v1/recent-updates", token)
    assert [(item["entity_type"], item["entity_id"], item["deleted"]) for item in items] == [
        ("task", "9", True),
        ("lead", "1", False),
    ]
    assert set(items[0]) == {
        *("account_id", "entity_type", "entity_id", "title", "event_type", "summary"),
        *("responsible_user_id", "occurred_at", "url", "deleted", "event_id"),
    }


async def test_each_filter_restricts_both_lists(board: Board, rows: Rows) -> None:
    token = await rows.token()
    for account, entity, type_, hours in (
        (ONE, "lead/1", "kommo.lead.added", 0),
        (ONE, "lead/12", "kommo.lead.updated", 1),
        (ONE, "task/1", "kommo.task.added", 2),
        (TWO, "lead/1", "kommo.lead.deleted", 3),
    ):
        at = NOON + dt.timedelta(hours=hours)
        await rows.activity(account, at, entity=entity, type=type_)
        await rows.update(account, at, entity=entity, type=type_)

    async def found(**params: object) -> list[str]:
        answers = []
        for path in ("/api/v1/activity", "/api/v1/recent-updates"):
            items = await board.items(path, token, **params)
            answers.append([f"{i['account_id']} {i['entity_type']}/{i['entity_id']}" for i in items])
        assert answers[0] == answers[1]
        return answers[0]

    assert await found(account=ONE) == [f"{ONE} task/1", f"{ONE} lead/12", f"{ONE} lead/1"]
    assert await found(entity="lead") == [f"{TWO} lead/1", f"{ONE} lead/12", f"{ONE} lead/1"]
    assert await found(entity="lead/1") == [f"{TWO} lead/1", f"{ONE} lead/1"]
    assert await found(entity="lead/1", account=ONE) == [f"{ONE} lead/1"]
    assert await found(type=["kommo.lead.added", "kommo.task.added"]) == [f"{ONE} task/1", f"{ONE} lead/1"]
    assert await found(since="2026-05-04T13:00:00Z", until="2026-05-04T15:00:00Z") == [
        f"{ONE} task/1",
        f"{ONE} lead/12",
    ]
    assert await found(since="2026-05-04T16:00:00+02:00") == [f"{TWO} lead/1", f"{ONE} task/1"]
    assert await found(limit=1) == [f"{TWO} lead/1"]
