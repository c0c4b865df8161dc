"""Webhooks and events of every type, and the line of the activity log that each becomes."""

from __future__ import annotations

from typing import Any

from tests.support.projections import T0, body, call, lead, note, person, task

_MOVED = {"status_id": {"from": 100, "to": 101}}
_HANDED = {"responsible_user_id": {"from": 7, "to": 8}}


def _lead(action: str, **fields: Any) -> bytes:
    return body("leads", action, lead(5, T0, **fields))


def _person(action: str, kind: str, **fields: Any) -> bytes:
    return body("customers" if kind == "customer" else "contacts", action, person(5, T0, kind, **fields))


def _gone(kind: str) -> bytes:
    return body("customers" if kind == "customer" else "contacts", "delete", {"id": 5, "type": kind})


def _task(action: str, **fields: Any) -> bytes:
    return body("task", action, task(5, T0, **fields))


_MESSAGE = {"id": "m", "contact_id": 5, "created_at": T0}
_SALESBOT = b'{"data":{},"return_url":"https://a.kommo.com/api/v4/salesbot/5/continue/8"}'

SAID = {
    "kommo.lead.added": (_lead("add"), "Lead “Deal 5” added", 7, None),
    "kommo.lead.updated": (_lead("update", modified_user_id=0), "Lead “Deal 5” updated", 0, None),
    "kommo.lead.restored": (_lead("restore", name=""), "Lead 5 restored", 7, None),
    "kommo.lead.deleted": (body("leads", "delete", {"id": 5}), "Lead 5 deleted", None, None),
    "kommo.lead.status_changed": (
        _lead("update", old_status_id=100, status_id=101),
        "Lead “Deal 5” moved from stage 100 to stage 101",
        7,
        _MOVED,
    ),
    "kommo.lead.responsible_changed": (
        _lead("update", old_responsible_user_id=7, responsible_user_id=8),
        "Lead “Deal 5”: user 8 is responsible, before 7",
        7,
        _HANDED,
    ),
    "kommo.task.added": (_task("add", created_user_id=3), "Task “Do 5” added", 3, None),
    "kommo.task.updated": (_task("update", modified_by=3), "Task “Do 5” updated", 3, None),
    "kommo.task.deleted": (body("task", "delete", {"id": 5}), "Task 5 deleted", None, None),
    "kommo.task.result_added": (
        _task("update", result={"id": 1, "text": "called"}),
        "Task “Do 5”: a result was added: “called”",
        None,
        None,
    ),
    "kommo.task.text_changed": (
        _task("update", old_text="Did"),
        "Task text is now “Do 5”",
        None,
        {"text": {"from": "Did", "to": "Do 5"}},
    ),
    "kommo.task.responsible_changed": (
        _task("update", old_responsible_user_id=7, responsible_user_id=8),
        "Task “Do 5”: user 8 is responsible, before 7",
        None,
        _HANDED,
    ),
    "kommo.note.added": (body("leads", "note", note(1, (2, 5), T0)), "Note on lead 5: “Words 1”", 9, None),
    "kommo.unsorted.added": (
        body(
            "unsorted", "add", {"uid": 5, "category": "forms", "created_at": T0, "source_data": {"form_name": "Site"}}
        ),
        "Incoming lead by form “Site” came in",
        None,
        None,
    ),
    "kommo.unsorted.updated": (
        body("unsorted", "update", {"uid": 5, "category": "chats"}),
        "Incoming lead by chat updated",
        None,
        None,
    ),
    "kommo.unsorted.deleted": (body("unsorted", "delete", {"uid": 5}), "Incoming lead deleted", None, None),
    "kommo.catalog_element.added": (
        body("catalogs", "add", {"id": 5, "catalog_id": 9, "name": "Boiler", "created_by": 7, "updated_at": T0}),
        "“Boiler” of list 9 added",
        7,
        None,
    ),
    "kommo.catalog_element.updated": (
        body("catalogs", "update", {"id": 5, "name": "Boiler", "modified_by": 7, "updated_at": T0}),
        "“Boiler” updated",
        7,
        None,
    ),
    "kommo.catalog_element.deleted": (
        body("catalogs", "delete", {"id": 5, "catalog_id": 9}),
        "Element 5 of list 9 deleted",
        None,
        None,
    ),
    "kommo.talk.added": (
        body("talk", "add", {"talk_id": 5, "origin": "telegram", "updated_at": T0}),
        "Conversation in telegram begun",
        None,
        None,
    ),
    "kommo.talk.updated": (
        body("talk", "update", {"talk_id": 5, "is_read": 1, "updated_at": T0}),
        "Conversation in a chat updated",
        None,
        None,
    ),
    "kommo.message.received": (
        body("message", "add", {**_MESSAGE, "author": {"name": "Anna"}, "text": "Hello!", "origin": "waba"}),
        "Message from Anna in waba: “Hello!”",
        None,
        None,
    ),
    "kommo.message.sent": (
        body("outgoing_message", "add", {**_MESSAGE, "author": {"user_id": 7}, "attachment": {"type": "picture"}}),
        "Message sent: picture",
        7,
        None,
    ),
    "kommo.chat_template.reviewed": (
        body("chat_template_reviews", "add", {"id": 5, "updated_at": T0}),
        "Template 5: reviewed",
        None,
        None,
    ),
    "kommo.digital_pipeline.triggered": (
        body("leads", "mail_in", {"id": 5, "status_id": 101, "old_status_id": 100}),
        "Automation of the pipeline (mail in) on lead 5: status 100 → 101",
        None,
        _MOVED,
    ),
    "kommo.salesbot.requested": (_SALESBOT, "A salesbot asks on salesbot 5", None, None),
    "kommo.integration.disabled": (b"client_uuid=5&account_id=16700680", "Integration 5 disabled", None, None),
    "kommo.unrecognized": (
        body("roulette", "update", {"id": 5, "updated_at": T0}),
        "Not understood yet: roulette[update]",
        None,
        None,
    ),
} | {
    f"kommo.{kind}.{verb}": (content, summary, None, changes)
    for kind in ("contact", "company", "customer")
    for verb, content, summary, changes in (
        ("added", _person("add", kind), f"{kind.capitalize()} “Name 5” added", None),
        ("updated", _person("update", kind), f"{kind.capitalize()} “Name 5” updated", None),
        ("restored", _person("restore", kind), f"{kind.capitalize()} “Name 5” restored", None),
        ("deleted", _gone(kind), f"{kind.capitalize()} 5 deleted", None),
        (
            "responsible_changed",
            _person("update", kind, old_responsible_user_id=7, responsible_user_id=8),
            f"{kind.capitalize()} “Name 5”: user 8 is responsible, before 7",
            _HANDED,
        ),
    )
}

ENDED = {
    "kommo.lead.status_changed": [
        (
            _lead("status", old_status_id=100, status_id=101, old_pipeline_id=2, pipeline_id=1),
            "Lead “Deal 5” moved from stage 100 to stage 101 of pipeline 1",
            None,
            None,
        ),
        (_lead("status", old_status_id=100, status_id=100), "Lead “Deal 5” stays in stage 100", None, None),
        (_lead("status", status_id=142), "Lead “Deal 5” won", "won", None),
        (_lead("status", status_id=143), "Lead “Deal 5” lost", "lost", None),
    ],
    "kommo.task.completed": [
        (
            _task("update", status=1, action_close=1, result={"text": "sold"}),
            "Task “Do 5” completed: “sold”",
            "completed",
            None,
        )
    ],
    "kommo.note.added": [
        (
            body("leads", "note", note(1, (2, 5), T0, text="One\n two\r\nthree")),
            "Note on lead 5: “One two three”",
            None,
            None,
        ),
        *(
            (body("leads", "note", note(1, (2, 5), T0, note_type=kind, text=said)), summary, None, None)
            for kind, said, summary in (
                (102, '{"TEXT": "On my\\nway", "PHONE": "+15550100"}', "SMS from +15550100: “On my way”"),
                (103, '{"TEXT": "[[Shop]] Thanks!", "PHONE": 15550100}', "SMS to 15550100: “[[Shop]] Thanks!”"),
                (103, '{"text": "{name}, thanks", "phone": ""}', "SMS sent: “{name}, thanks”"),
                (102, '{"PHONE": "+15550100", "TEXT": {"no": "text"}}', "SMS from +15550100"),
                (102, "[Shop] Just words", "SMS received: “[Shop] Just words”"),
                (102, '{"TEXT": "cut o', "SMS received"),
                (102, '[{"TEXT": "a list"}]', "SMS received"),
                (102, "", "SMS received"),
                (4, '{"TEXT": "no SMS"}', 'Note on lead 5: “{"TEXT": "no SMS"}”'),
            )
        ),
    ],
    "kommo.digital_pipeline.triggered": [
        (
            body(
                "leads",
                "add",
                {"id": 5, "status_id": 101, "old_status_id": 100, "pipeline_id": 2, "old_pipeline_id": 1},
            ),
            "Automation of the pipeline (add) on lead 5: pipeline 1 → 2, status 100 → 101",
            None,
            None,
        ),
        (
            body("leads", "status", {"id": 5, "status_id": 101, "old_status_id": 101, "pipeline_id": 2}),
            "Automation of the pipeline (status) on lead 5",
            None,
            None,
        ),
    ],
    "kommo.talk.updated": [
        (
            body("talk", "update", {"talk_id": 5, "is_in_work": 0, "origin": "telegram", "updated_at": T0}),
            "Conversation in telegram updated: closed",
            None,
            None,
        ),
    ],
    "kommo.unsorted.accepted": [
        (
            body("unsorted", "delete", {"uid": 5, "action": "accept", "category": "mail", "modified_user_id": 7}),
            "Incoming lead by mail accepted",
            "accepted",
            None,
        )
    ],
    "kommo.unsorted.declined": [
        (body("unsorted", "delete", {"uid": 5, "action": "decline"}), "Incoming lead declined", "declined", None)
    ],
    "kommo.call.logged": [
        (
            body("leads", "note", call(1, (2, 5), T0, CALL_STATUS="4")),
            "Call from +15550100, 1:05 min, conversation",
            "conversation",
            65_000,
        ),
        (
            body("contacts", "note", call(1, (1, 5), T0, DURATION="0", CALL_STATUS=6, PHONE="")),
            "Call from an unknown number, 0:00 min, no connection",
            "no connection",
            0,
        ),
        (
            body("leads", "note", call(1, (2, 5), T0, DURATION="long", CALL_STATUS="?")),
            "Call from +15550100",
            None,
            None,
        ),
        *(
            (body("leads", "note", note(1, (2, 5), T0, note_type=kind, text=said)), summary, None, None)
            for kind, said, summary in (
                (10, "Asked for\nan offer", "Incoming call: “Asked for an offer”"),
                (11, "Nobody there", "Outgoing call: “Nobody there”"),
                (10, "", "Call from an unknown number"),
                (10, '{"UNIQ": "1"}', "Call from an unknown number"),
                (11, '{"PHONE": "+15550100", "DURA', "Call to an unknown number"),
                (11, '{"PHONE": 15550100}', "Call to 15550100"),
            )
        ),
    ],
    "kommo.call.recorded": [
        (
            body("leads", "note", call(1, (2, 5), T0, LINK="https://example.com/1.mp3")),
            "Call from +15550100: the recording is there",
            None,
            None,
        )
    ],
}


COMMAND = {"id": "5", "action": "add_note", "entity": "lead/7"}
_FAILED = {"error_class": "external_service", "error": "no answer within 15 s"}
_TRIED = {"attempts": 1, "duration_ms": 340, "total_ms": 352}
_AGAIN = {**_TRIED, **_FAILED, "next_attempt_at": "2026-09-21T14:13:24.120Z"}

TOLD: dict[str, list[tuple[dict[str, Any], str, int | None]]] = {
    "kommo.command.admitted": [
        ({"data": {"text": "x"}}, "Command add_note on lead 7: taken on", None),
        ({"after": "c-1"}, "Command add_note on lead 7: taken on, after command c-1", None),
        ({"action": "create_lead", "entity": "lead/new:5"}, "Command create_lead: taken on", None),
    ],
    "kommo.command.succeeded": [
        (
            {**_TRIED, "entities": {"lead": 7, "note": 11}},
            "Command add_note on lead 7: carried out in 0.3 s (attempt 1)",
            340,
        ),
        (
            {**_TRIED, "action": "create_lead", "entity": "lead/new:5", "entities": {"lead": 7, "contact": 8}},
            "Command create_lead: carried out in 0.3 s (attempt 1): lead 7, contact 8",
            340,
        ),
        (
            {"attempts": 2, "decision": "done"},
            "Command add_note on lead 7: a person decided that it was carried out",
            None,
        ),
    ],
    "kommo.command.retried": [
        (
            _AGAIN,
            "Command add_note on lead 7 will be tried again at 14:13:24 UTC: external_service: no answer within 15 s",
            340,
        ),
        (
            {**_AGAIN, "doubt": True, "next_attempt_at": "2026-09-22T00:00:01Z"},
            "Command add_note on lead 7 will be looked for, and perhaps tried again, at 2026-09-22 00:00:01 UTC: "
            "external_service: no answer within 15 s",
            340,
        ),
        ({"next_attempt_at": "soon"}, "Command add_note on lead 7 will be tried again later: no reason given", None),
    ],
    "kommo.command.failed": [
        (
            {**_TRIED, "error_class": "validation", "error": "Kommo refuses it:\n price"},
            "Command add_note on lead 7 failed: validation: Kommo refuses it: price",
            340,
        ),
        (
            {"action": "unknown", "entity": "command/5", "error_class": "validation", "error": "type: none"},
            "Command unknown failed: validation: type: none",
            None,
        ),
    ],
    "kommo.command.unknown": [
        (
            {**_TRIED, **_FAILED},
            "Command add_note on lead 7 unknown: a person must decide: external_service: no answer within 15 s",
            340,
        )
    ],
}
