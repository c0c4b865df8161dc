"""recent_updates: one row per lead, contact, company and task, moved by two clocks."""

from __future__ import annotations

from typing import Any

from tests.support.projections import LINK, T0, Log, Row, Tables, body, call, event_json, lead, note, person, task


async def _rows(tables: Tables, log: Log) -> list[Row]:
    await tables.write(log.events)
    return [{**row, "at": row["occurred_at"].timestamp() - T0} for row in await tables.recent()]


async def _row(tables: Tables, log: Log) -> Row:
    (row,) = await _rows(tables, log)
    return row


def _told(row: Row, *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


async def test_what_happened_and_what_it_is_called_have_clocks_of_their_own(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "update", lead(5, T0 + 10, name="Now", responsible_user_id=8)), T0 + 11)
    log.deliver(body("leads", "note", note(1, (2, 5), T0 + 20)), T0 + 21)
    log.deliver(body("leads", "update", lead(5, T0, name="Before", responsible_user_id=7)), T0 + 30)
    row = await _row(tables, log)
    assert _told(row, "title", "responsible_user_id") == ("Now", 8)
    assert _told(row, "event_type", "summary", "at") == ("kommo.note.added", "Note on lead 5: “Words 1”", 20)
    assert str(row["event_id"]) == log.events[1].event_id


async def test_a_partial_body_never_clears_a_column(tables: Tables) -> None:
    log = Log()
    log.deliver(body("contacts", "add", person(5, T0, name="Ann", responsible_user_id=8)), T0 + 1)
    log.deliver(body("contacts", "update", {"id": 5, "type": "contact", "updated_at": T0 + 10}), T0 + 11)
    log.deliver(body("contacts", "delete", {"id": 5, "type": "contact"}), T0 + 20)
    row = await _row(tables, log)
    assert _told(row, "title", "responsible_user_id", "deleted") == ("Ann", 8, True)
    assert _told(row, "event_type", "at") == ("kommo.contact.deleted", 20)


async def test_a_late_webhook_never_overwrites_a_newer_state(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "update", lead(5, T0 + 100, name="New")), T0 + 101)
    before = await _row(tables, log)
    for at, action in ((0, "add"), (50, "update"), (99, "restore")):
        log.deliver(body("leads", action, lead(5, T0 + at, name="Old", responsible_user_id=1)), T0 + 5000)
    assert await _row(tables, log) == before


async def test_notes_and_calls_are_news_of_their_lead_contact_or_company(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "note", note(1, (2, 5), T0)), T0 + 1)
    log.deliver(body("contacts", "note", note(2, (1, 5), T0 + 1)), T0 + 2)
    log.deliver(body("contacts", "note", {**call(3, (3, 5), T0 + 2, UNIQ="u"), "type": "company"}), T0 + 3)
    log.deliver(body("leads", "status", {"id": 9, "status_id": 1, "pipeline_id": 1}), T0 + 4)  # no state of a lead's
    log.deliver(body("roulette", "update", {"id": 9, "updated_at": T0}), T0 + 5)
    assert [_told(row, "entity_type", "event_type", "at", "title") for row in await _rows(tables, log)] == [
        ("company", "kommo.call.logged", 2, None),
        ("contact", "kommo.note.added", 1, None),
        ("lead", "kommo.note.added", 0, None),
    ]


async def test_every_entity_has_its_row(tables: Tables) -> None:
    log = Log()
    log.deliver(body("customers", "add", person(1, T0)), T0 + 1)
    log.deliver(body("unsorted", "add", {"uid": "u1", "created_at": T0 + 1, "source_data": {"from": "Site"}}), T0 + 2)
    log.deliver(body("unsorted", "delete", {"uid": "u1", "action": "accept"}), T0 + 9)
    log.deliver(body("catalogs", "add", {"id": 3, "name": "Boiler", "updated_at": T0 + 2}), T0 + 3)
    log.deliver(body("talk", "add", {"talk_id": 4, "origin": "waba", "updated_at": T0 + 3}), T0 + 4)
    log.deliver(body("message", "add", {"id": "m", "contact_id": 5, "text": "Hi", "created_at": T0 + 4}), T0 + 5)
    assert [_told(row, "entity_type", "event_type", "at", "title", "url") for row in await _rows(tables, log)] == [
        ("catalog_element", "kommo.catalog_element.added", 2, "Boiler", None),
        ("contact", "kommo.message.received", 4, None, f"{LINK}/contacts/detail/5"),
        ("customer", "kommo.customer.added", 0, "Name 1", f"{LINK}/customers/detail/1"),
        ("talk", "kommo.talk.added", 3, "Conversation in waba", None),
        ("unsorted", "kommo.unsorted.accepted", 9, "Site", None),
    ]


async def test_a_note_leaves_what_is_deleted_deleted_and_a_restore_brings_it_back(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "add", lead(5, T0)), T0 + 1)
    log.deliver(body("leads", "delete", {"id": 5}), T0 + 10)
    log.deliver(body("leads", "delete", {"id": 5}), T0 + 310)  # Kommo's repeat
    assert _told(await _row(tables, log), "deleted", "event_type", "at") == (True, "kommo.lead.deleted", 10)
    log.deliver(body("leads", "note", note(1, (2, 5), T0 + 400)), T0 + 401)
    assert _told(await _row(tables, log), "deleted", "event_type") == (True, "kommo.note.added")
    log.deliver(body("leads", "update", lead(5, T0 + 5, name="Late")), T0 + 402)
    assert _told(await _row(tables, log), "deleted", "title") == (True, "Late")
    log.deliver(body("leads", "restore", lead(5, T0 + 500, name="Back")), T0 + 501)
    assert _told(await _row(tables, log), "deleted", "title", "event_type") == (False, "Back", "kommo.lead.restored")
    log.deliver(body("leads", "delete", {"id": 5}), T0 + 600)
    assert _told(await _row(tables, log), "deleted", "title", "at") == (True, "Back", 600)


async def test_a_delete_before_anything_else_is_known(tables: Tables) -> None:
    log = Log()
    log.deliver(body("task", "delete", {"id": 5}), T0 + 10)
    assert _told(await _row(tables, log), "deleted", "title", "responsible_user_id") == (True, None, None)
    log.deliver(body("task", "add", task(5, T0)), T0 + 700)
    assert _told(await _row(tables, log), "deleted", "title", "event_type") == (True, "Do 5", "kommo.task.deleted")


async def test_an_add_comes_before_all_else_of_its_second(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "update", lead(5, T0, name="Updated")), T0 + 1)
    log.deliver(body("leads", "add", lead(5, T0, name="Added")), T0 + 2)
    assert _told(await _row(tables, log), "title", "event_type") == ("Updated", "kommo.lead.updated")


async def test_each_entity_has_its_address(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "add", lead(5, T0, name="")), T0 + 1)
    log.deliver(body("contacts", "add", person(6, T0)), T0 + 2)
    log.deliver(body("contacts", "add", person(7, T0, "company")), T0 + 3)
    log.deliver(body("task", "add", task(8, T0)), T0 + 4)
    log.append(
        event_json("kommo.lead.added", "lead/9", data={"lead": {"name": "No account block", "responsible_user_id": 1}})
    )
    assert [_told(row, "entity_id", "title", "url") for row in await _rows(tables, log)] == [
        ("7", "Name 7", f"{LINK}/companies/detail/7"),
        ("6", "Name 6", f"{LINK}/contacts/detail/6"),
        ("5", "Lead 5", f"{LINK}/leads/detail/5"),
        ("9", "No account block", None),
        ("8", "Do 8", f"{LINK}/todo/list/"),
    ]


async def test_nul_and_long_texts_and_numbers_that_are_none_do_not_break_the_batch(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "add", lead(5, T0, name="a\0b", responsible_user_id="17265663a90")), T0 + 1)
    log.deliver(body("leads", "add", lead(6, T0, name="x" * 900_000, responsible_user_id=10**17)), T0 + 2)
    log.deliver(body("leads", "add", lead(7, T0, name="y", responsible_user_id=10**30)), T0 + 3)
    rows = await _rows(tables, log)
    assert [_told(row, "title", "responsible_user_id") for row in rows] == [
        ("a\ufffdb", None),
        ("x" * 299 + "…", 10**17),
        ("y", None),
    ]
    assert await _rows(tables, log) == rows


async def test_a_body_without_the_responsible_user_clears_nothing(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "add", lead(5, T0, name="Whole", responsible_user_id=8)), T0 + 1)
    log.append(event_json("kommo.lead.updated", "lead/5", at=T0 + 5, data={"lead": {"name": "Partial"}}))
    row = await _row(tables, log)
    assert _told(row, "title", "responsible_user_id", "url", "event_type") == (
        "Partial",
        8,
        f"{LINK}/leads/detail/5",
        "kommo.lead.updated",
    )


async def test_a_restore_without_a_name_brings_its_entity_back(tables: Tables) -> None:
    log = Log()
    log.deliver(body("leads", "add", lead(5, T0, name="Back")), T0 + 1)
    log.deliver(body("leads", "delete", {"id": 5}), T0 + 10)
    log.deliver(body("leads", "restore", {"id": 5, "last_modified": T0 + 20}), T0 + 21)
    assert _told(await _row(tables, log), "deleted", "title", "event_type") == (False, "Back", "kommo.lead.restored")
