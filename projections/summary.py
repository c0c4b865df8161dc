"""What a person reads of an event: one line, who did it, how it ended and how long it took."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from projections.columns import number, text
from projections.reading import LoggedEvent
from schemas.catalogue import EVENT_TYPES

WON, LOST = 142, 143  # fixed in every pipeline of Kommo

_CALL_OUTCOMES = {
    1: "left a message",
    2: "call back later",
    3: "not available",
    4: "conversation",
    5: "wrong number",
    6: "no connection",
    7: "busy",
    8: "undefined",
}

_SMS = {102: ("received", "from"), 103: ("sent", "to")}
"""The types of an SMS's note (dotzero/amocrm-php, src/Models/Note.php), each with its words."""

_JSON = re.compile(r'\s*[\[{]\s*["\[{\]}]')
"""How JSON begins that is no map, or was cut off: nothing a person reads. "[Shop] Hello" and "{name}" do not."""


class Story(NamedTuple):
    """A line of the activity log. `actor_id` is Kommo's user, 0 a robot, None unknown; `duration_ms` of a call."""

    summary: str
    actor_id: int | None = None
    outcome: str | None = None
    duration_ms: int | None = None


def tell(event: LoggedEvent) -> Story:
    """Return the story of an event; never fails, whatever its data holds."""
    verb = event.kind.name.rpartition(".")[2]
    teller = _TELLERS.get(event.kind.name) or _TELLERS.get(event.entity_type) or _unknown
    try:
        story = teller(event, verb)
        # One line, whatever lines a note or a task has.
        return story._replace(summary=" ".join(story.summary.split())) if "\n" in story.summary else story
    except RecursionError:  # a value nested too deep to be shown
        return Story(event.kind.meaning)


def title(event: LoggedEvent) -> str | None:
    """Return what an entity is called, None where the event does not say; an empty name is its id."""
    fields = _entity(event)
    if event.entity_type == "task":
        return text(fields.get("text"))
    if event.entity_type == "unsorted":
        return _incoming(fields)
    if event.entity_type == "talk":
        return f"Conversation in {text(fields.get('origin'), 40) or 'a chat'}" if fields else None
    name = fields.get("name")
    if isinstance(name, str) and not name.strip():
        return f"{event.entity_type.capitalize()} {event.entity_id}"
    return text(name)


def _entity(event: LoggedEvent) -> dict[str, Any]:
    fields = event.data.get(event.entity_type)
    return fields if isinstance(fields, dict) else {}


def _named(event: LoggedEvent) -> str:
    name = text(_entity(event).get("name"), 120)
    return f"{event.entity_type.capitalize()} {f'“{name}”' if name else event.entity_id}"


def _change(event: LoggedEvent, name: str) -> dict[str, Any]:
    changes = event.data.get("changes")
    change = changes.get(name) if isinstance(changes, dict) else None
    return change if isinstance(change, dict) else {}


def _actor(event: LoggedEvent, verb: str) -> int | None:
    fields = _entity(event)
    actor = number(fields.get("modified_user_id"))
    if actor is None:
        actor = number(fields.get("modified_by"))
    if actor is None and verb == "added":
        actor = number(fields.get("created_user_id"))
        if actor is None:
            actor = number(fields.get("created_by"))
    return actor


def _entity_line(event: LoggedEvent, verb: str) -> Story:
    return Story(f"{_named(event)} {verb.replace('_', ' ')}", _actor(event, verb))


def _moved(event: LoggedEvent, verb: str) -> Story:
    status = _entity(event).get("status_id")
    actor = _actor(event, verb)
    if status == WON:
        return Story(f"{_named(event)} won", actor, "won")
    if status == LOST:
        return Story(f"{_named(event)} lost", actor, "lost")
    before, pipeline = _change(event, "status_id").get("from"), _change(event, "pipeline_id").get("to")
    if before is None and pipeline is None and _entity(event).get("old_status_id") == status:
        return Story(text(f"{_named(event)} stays in stage {status}") or "", actor)
    origin = f" from stage {before}" if before is not None else ""
    where = f" of pipeline {pipeline}" if pipeline is not None else ""
    return Story(text(f"{_named(event)} moved{origin} to stage {status}{where}") or "", actor)


def _handed(event: LoggedEvent, verb: str) -> Story:
    named = f"Task {_task_text(event)}" if event.entity_type == "task" else _named(event)
    change = _change(event, "responsible_user_id")
    now = change.get("to", _entity(event).get("responsible_user_id"))
    before = f", before {change['from']}" if "from" in change else ""
    return Story(text(f"{named}: user {now} is responsible{before}") or "", _actor(event, verb))


def _task_text(event: LoggedEvent) -> str:
    words = text(_entity(event).get("text"), 120)
    return f"“{words}”" if words else event.entity_id


def _task_line(event: LoggedEvent, verb: str) -> Story:
    fields = _entity(event)
    result = fields.get("result")
    found = text(result.get("text"), 120) if isinstance(result, dict) else None
    line = {
        "completed": f"Task {_task_text(event)} completed",
        "result_added": f"Task {_task_text(event)}: a result was added",
        "text_changed": f"Task text is now {_task_text(event)}",
    }.get(verb, f"Task {_task_text(event)} {verb.replace('_', ' ')}")
    if found and verb in ("completed", "result_added"):
        line += f": “{found}”"
    return Story(line, _actor(event, verb), "completed" if verb == "completed" else None)


def _note_line(event: LoggedEvent, _verb: str) -> Story:
    note = event.data.get("note")
    fields = note if isinstance(note, dict) else {}
    actor = number(fields.get("created_by"))
    way = _SMS.get(fields["note_type"]) if type(fields.get("note_type")) is int else None
    if way is not None:
        return Story(text(_sms_line(fields.get("text"), *way)) or "", actor)
    words = text(fields.get("text"), 160)
    kind = "File" if fields.get("note_type") == 5 else "Note"
    line = f"{kind} on {event.entity_type} {event.entity_id}"
    return Story(f"{line}: “{words}”" if words else line, actor)


def _sms_line(said: Any, verb: str, preposition: str) -> str:
    """Tell of an SMS; its note's text is JSON ({"TEXT": .., "PHONE": ..}, in any case), or just the words."""
    params = _params(said)
    words = text(params.get("text") if params is not None else said, 160)
    phone = _phone(params.get("phone")) if params is not None else None
    line = f"SMS {preposition} {phone}" if phone else f"SMS {verb}"
    return f"{line}: “{words}”" if words and (params is not None or not _JSON.match(words)) else line


def _params(said: Any) -> dict[str, Any] | None:
    """Return what a note's text says in JSON, by its names in small letters; None where it is no map."""
    try:
        params = orjson.loads(said) if type(said) is str else None
    except orjson.JSONDecodeError:
        return None
    return {name.lower(): value for name, value in params.items()} if type(params) is dict else None


def _phone(value: Any) -> str | None:
    """Return a telephone number, which JSON may have bare; None for none."""
    return str(value) if type(value) is int and number(value) else text(value, 40)


def _call_line(event: LoggedEvent, verb: str) -> Story:
    call, note = event.data.get("call"), event.data.get("note")
    fields: dict[str, Any] = call if isinstance(call, dict) else {}
    written = note if isinstance(note, dict) else {}
    actor = number(written.get("created_by"))
    seconds = number(fields.get("duration"))
    phone = _phone(fields.get("phone")) or "an unknown number"
    way = f"Call from {phone}" if fields.get("direction") == "in" else f"Call to {phone}"
    if verb == "recorded":
        return Story(f"{way}: the recording is there", actor)
    # A person, or a telephone system of a simple kind, may write a call's note in words.
    words = text(written.get("text"), 160) if fields.keys() <= {"direction"} else None
    if words and not _JSON.match(words):
        return Story(
            text(f"{'Incoming' if fields.get('direction') == 'in' else 'Outgoing'} call: “{words}”") or "", actor
        )
    status = fields.get("call_status")
    status = int(status) if isinstance(status, str) and status.isdecimal() and len(status) < 3 else status
    outcome = _CALL_OUTCOMES.get(status) if type(status) is int else None
    took = f", {seconds // 60}:{seconds % 60:02d} min" if seconds is not None and 0 <= seconds < 10**9 else ""
    duration = seconds * 1000 if took and seconds is not None else None
    return Story(f"{way}{took}{f', {outcome}' if outcome else ''}", actor, outcome, duration)


def _incoming(fields: dict[str, Any]) -> str | None:
    """Return where an incoming lead came from, None where it does not say."""
    source = fields.get("source_data")
    told = source if isinstance(source, dict) else {}
    names = (told.get("form_name"), told.get("source_name"), told.get("from"), fields.get("source"))
    return next((name for name in (text(name, 120) for name in names) if name), None)


def _unsorted_line(event: LoggedEvent, verb: str) -> Story:
    fields = _entity(event)
    kind = {"forms": "form", "chats": "chat", "sip": "call", "mail": "mail"}.get(str(fields.get("category")), "")
    source = _incoming(fields)
    line = f"Incoming lead{f' by {kind}' if kind else ''}{f' “{source}”' if source else ''}"
    outcome = verb if verb in ("accepted", "declined") else None
    return Story(text(f"{line} {'came in' if verb == 'added' else verb}") or "", _actor(event, verb), outcome)


def _element_line(event: LoggedEvent, verb: str) -> Story:
    fields = _entity(event)
    catalog = number(fields.get("catalog_id"))
    named = f"“{name}”" if (name := text(fields.get("name"), 120)) else f"Element {event.entity_id}"
    return Story(f"{named}{'' if catalog is None else f' of list {catalog}'} {verb}", _actor(event, verb))


def _talk_line(event: LoggedEvent, verb: str) -> Story:
    origin = text(_entity(event).get("origin"), 40) or "a chat"
    return Story(f"Conversation in {origin} {'begun' if verb == 'added' else verb}")


def _message_line(event: LoggedEvent, verb: str) -> Story:
    message = event.data.get("message")
    fields: dict[str, Any] = message if isinstance(message, dict) else {}
    author = fields.get("author")
    party = fields.get("recipient") if verb == "sent" else author
    name = text(party.get("name"), 80) if isinstance(party, dict) else None
    origin = text(fields.get("origin"), 40)
    way = "to" if verb == "sent" else "from"
    line = f"Message {way} {name}" if name else f"Message {verb}"
    line += f" in {origin}" if origin else ""
    words, attachment = text(fields.get("text"), 160), fields.get("attachment")
    kind = text(attachment.get("type"), 40) if isinstance(attachment, dict) else text(fields.get("message_type"), 40)
    told = f": “{words}”" if words else f": {kind}" if kind else ""
    actor = author.get("user_id") if isinstance(author, dict) else None
    is_user = isinstance(actor, str) and actor.isascii() and actor.isdecimal() and len(actor) < 19
    return Story(text(line + told) or "", int(actor) if is_user and actor else None)


def _review_line(event: LoggedEvent, _verb: str) -> Story:
    review = event.data.get("review")
    status = text(review.get("status"), 40) if isinstance(review, dict) else None
    return Story(f"Template {event.entity_id}: {status or 'reviewed'}", None, status)


def _trigger_line(event: LoggedEvent, _verb: str) -> Story:
    trigger = text(event.data.get("trigger"), 40) or "hook"
    return Story(f"Automation of the pipeline ({trigger.replace('_', ' ')}) on {event.entity_type} {event.entity_id}")


def _integration_line(event: LoggedEvent, _verb: str) -> Story:
    return Story(text(f"Integration {event.entity_id} disabled") or "")


def _salesbot_line(event: LoggedEvent, _verb: str) -> Story:
    return Story(text(f"A salesbot asks on {event.entity_type} {event.entity_id}") or "")


def _command_line(event: LoggedEvent, verb: str) -> Story:
    command = event.data.get("command")
    told: dict[str, Any] = command if isinstance(command, dict) else {}
    line = f"Command {text(told.get('action'), 60) or event.entity_id}{_command_on(told.get('entity'))}"
    lasted = number(told.get("duration_ms"))
    if verb == "admitted":
        after = text(told.get("after"), 64)
        return Story(f"{line}: taken on{f', after command {after}' if after else ''}")
    return Story(text(f"{line}{_command_end(event, verb, told, lasted)}") or "", None, verb, lasted)


def _command_on(entity: Any) -> str:
    """Say which entity a command is about: " on lead 7"; nothing where it makes one, or nobody could read it."""
    kind, _, identifier = (text(entity, 200) or "").partition("/")
    return "" if kind in ("", "command") or identifier.startswith("new:") else f" on {kind} {identifier}"


def _command_end(event: LoggedEvent, verb: str, told: dict[str, Any], lasted: int | None) -> str:
    decided, attempts = told.get("decision"), number(told.get("attempts")) or 0
    if verb == "succeeded":
        if decided == "done":
            return ": a person decided that it was carried out"
        took = f" in {lasted / 1000:.1f} s" if lasted is not None and 0 <= lasted < 10**9 else ""
        return f": carried out{took} (attempt {attempts}){_made(told)}"
    why = (
        ": ".join(filter(None, (text(told.get("error_class"), 40), text(told.get("error"), 160)))) or "no reason given"
    )
    if verb == "retried":
        doing = "looked for, and perhaps tried again," if told.get("doubt") else "tried again"
        return f" will be {doing} {_moment(told.get('next_attempt_at'), event.time)}: {why}"
    if verb == "unknown":
        return f" unknown: a person must decide: {why}"
    return f" {verb}: {why}"


def _made(told: dict[str, Any]) -> str:
    """Say what a command made: ": lead 7, contact 8"; nothing where it is about what was there."""
    entities = told.get("entities")
    if "new:" not in str(told.get("entity")) or not isinstance(entities, dict) or not entities:
        return ""
    return ": " + ", ".join(f"{text(kind, 40)} {identifier}" for kind, identifier in list(entities.items())[:5])


def _moment(value: Any, now: dt.datetime) -> str:
    """Say a time that an event tells: "at 12:00:04 UTC", with the day where that is another than the event's."""
    try:
        at = dt.datetime.fromisoformat(value).astimezone(dt.UTC)
    except (TypeError, ValueError, OverflowError):
        return "later"
    return f"at {at:%H:%M:%S} UTC" if at.date() == now.date() else f"at {at:%Y-%m-%d %H:%M:%S} UTC"


def _unknown(event: LoggedEvent, _verb: str) -> Story:
    fields = event.data.get("fields")
    where = ""
    if isinstance(fields, dict) and fields:
        key, actions = next(iter(fields.items()))
        where = f"{key}[{next(iter(actions), '')}]" if isinstance(actions, dict) else str(key)
    return Story(text(f"Not understood yet: {where or event.entity_type}") or "")


_TELLERS: dict[str, Callable[[LoggedEvent, str], Story]] = {
    "lead": _entity_line,
    "contact": _entity_line,
    "company": _entity_line,
    "customer": _entity_line,
    "task": _task_line,
    "unsorted": _unsorted_line,
    "catalog_element": _element_line,
    "talk": _talk_line,
    "kommo.lead.status_changed": _moved,
    "kommo.lead.responsible_changed": _handed,
    "kommo.contact.responsible_changed": _handed,
    "kommo.company.responsible_changed": _handed,
    "kommo.customer.responsible_changed": _handed,
    "kommo.task.responsible_changed": _handed,
    "kommo.note.added": _note_line,
    "kommo.call.logged": _call_line,
    "kommo.call.recorded": _call_line,
    "kommo.message.received": _message_line,
    "kommo.message.sent": _message_line,
    "kommo.chat_template.reviewed": _review_line,
    "kommo.digital_pipeline.triggered": _trigger_line,
    "kommo.salesbot.requested": _salesbot_line,
    "kommo.integration.disabled": _integration_line,
    "kommo.unrecognized": _unknown,
    **{name: _command_line for name in EVENT_TYPES if name.startswith("kommo.command.")},
}
