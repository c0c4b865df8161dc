"""Each action: the request that carries it out, and the look that tells whether it was carried out already.

A handler is asked to `send` when the effect is certainly not there, and to `look` when it may be. A look never
writes; it finds the effect once, not at all, or in a way that leaves it open.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

from agents.commands import bodies
from agents.commands.admitted import Claimed
from agents.commands.matching import named_by_kommo, says
from agents.commands.outcomes import Succeeded
from agents.kommo.answers import embedded
from agents.kommo.circuits import Kind
from agents.kommo.client import Kommo
from agents.kommo.problems import KommoError
from schemas.actions import (
    Action,
    AddNote,
    CreateCallNote,
    CreateContact,
    CreateLead,
    CreateMeetingNote,
    CreateTask,
    EntityId,
    SendEmail,
    UpdateContact,
    UpdateLead,
)
from schemas.errors import ErrorClass

Json = dict[str, Any]

_SKEW_SECONDS = 5
"""How much the clocks of Kommo, PostgreSQL and this machine may differ after Kommo's own is taken into account."""
_CLOCKS_SECONDS = 300
"""What Kommo is asked for reaches back further: its clock is known only from its answer."""


class Expired(Exception):
    """Its age ran out before the first byte left."""


class DependencyFailed(Exception):
    """The entity that the command waits for was not made."""


@dataclass(frozen=True, slots=True)
class Open:
    """A look could not tell; `why` is for a person."""

    why: str


Found = Succeeded | Open | None


class Mailer(Protocol):
    """What sends mail."""

    async def send(self, mail: SendEmail, *, message_id: str, before_send: Callable[[], Awaitable[None]]) -> None:
        """Send one mail. Raises agents.mail.MailError."""
        ...


@dataclass(slots=True)
class Attempt:
    """One attempt at one command, and what it may use. `written` says whether a write of it may have left."""

    claimed: Claimed
    api: Kommo
    mailer: Mailer | None
    certain: Callable[[], None]
    """Raises where this worker may not send any more: called right before the bytes leave."""
    others: Callable[[str], Awaitable[set[int]]]
    """The ids of entities of a type that other commands are known to have made or changed."""
    last_update: Callable[[str, int], Awaitable[int]]
    """Kommo's time (unix seconds) of the last change of an entity that a command is known to have made; 0: none."""
    save: Callable[[dict[str, Any]], Awaitable[None]]
    written: bool = field(default=False)
    mailed: bool = field(default=False)
    began: float = field(default_factory=time.monotonic)
    """Not after it was claimed, by the monotonic clock: so the database's own time is known without another question.

    A moment too early is the safe side: of its age, and of since when its effect may be there.
    """

    def elapsed(self) -> dt.timedelta:
        """Return the time since the claim."""
        return dt.timedelta(seconds=time.monotonic() - self.began)

    async def before_write(self) -> None:
        """Check the right to send, and remember that from now on the write may have happened."""
        if self.claimed.claimed_at + self.elapsed() >= self.claimed.expires_at:
            raise Expired
        self.certain()
        self.written = True

    def entity(self, kind: str, entity_id: EntityId) -> int:
        """Return the id of an entity, that of the command waited for where it says so. Raises DependencyFailed."""
        if entity_id != "after":
            return entity_id
        dependency = self.claimed.dependency
        if dependency is None or kind not in dependency.entities:
            raise DependencyFailed(f"command {self.claimed.command.after} has made no {kind}")
        return dependency.entities[kind]

    async def write(self, method: str, path: str, json: Any) -> Any:
        """Send a write once, and return the body of its answer. Until that is read, too, its outcome is not known."""
        answer = await self.api.request(method, path, json=json, before_send=self.before_write)
        return answer.body

    async def read(self, path: str) -> Json | None:
        """Read an entity; None where it is not there. Raises KommoError, also for an answer that is no entity.

        An answer that says less than Kommo's does must not pass for an entity that was never changed.
        """
        answer = await self.api.request("GET", path)
        if answer.body is None:
            return None
        if not isinstance(answer.body, dict) or type(answer.body.get("updated_at")) is not int:
            raise KommoError.unreadable(f"GET {path}", answer.status, "an answer that is no entity")
        return answer.body

    async def since(self) -> int:
        """Return the moment since when the effect may be there, in unix seconds of Kommo's clock."""
        if self.api.offset is None:
            await self.api.request("GET", "/account")
        offset = self.api.offset or dt.timedelta()
        assert self.claimed.doubt is not None  # noqa: S101 - one looks only where there is doubt
        # So long ago by PostgreSQL's clock, from now by ours, seen from Kommo's.
        ago = self.claimed.claimed_at + self.elapsed() - self.claimed.doubt
        return int((dt.datetime.now(dt.UTC) + offset - ago).timestamp()) - _SKEW_SECONDS

    async def candidates(self, path: str, params: Mapping[str, Any], kind: str, since: int, sent: Json) -> Candidates:
        """Return the items of a list that may be the effect: made since then, by us, and by no other command."""
        taken = await self.others(kind)
        user_id = (await self.api.credentials()).user_id
        named = {name: sent[name] for name in _NAMES if name in sent}
        found = Candidates([], [])
        async for page in self.api.pages(path, params):
            items = embedded(page, path.rpartition("/")[2])
            if not items:  # of a list that is empty Kommo says 204: this is half an answer
                raise KommoError.unreadable(f"GET {path}", 200, "a page without entities")
            for item in items:
                by_us = user_id is None or item.get("created_by") == user_id
                fresh = int(item.get("created_at") or 0) >= since and item.get("id") not in taken
                if by_us and fresh and says(item, sent):
                    found.matching.append(item)
                elif by_us and fresh and named and says(item, named):
                    found.similar.append(item)
        return found


class Candidates(NamedTuple):
    """What may be the effect: what has all that was sent, and what has its name but not all of it.

    The latter may be the effect all the same: an automation may have changed it at once. So it is not repeated.
    """

    matching: list[Json]
    similar: list[Json]


_NAMES = ("name", "first_name", "last_name", "text", "params")


class Handler(Protocol):
    """How one action is carried out. `kind` is the kind of endpoint that its write goes to."""

    kind: Kind

    async def send(self, attempt: Attempt) -> Succeeded:
        """Carry the action out. Raises KommoError, DependencyFailed, or what `certain` raises."""
        ...

    async def look(self, attempt: Attempt) -> Found:
        """Tell whether it was carried out. Raises KommoError where Kommo cannot be asked now."""
        ...


def _one(found: Candidates, entities: Callable[[Json], dict[str, int]]) -> Found:
    ids = ", ".join(str(item["id"]) for item in (found.matching or found.similar)[:5])
    if len(found.matching) > 1:
        return Open(f"{len(found.matching)} entities at Kommo may be what it made: {ids}")
    if not found.matching:
        return Open(f"what it made may have been changed since: look at {ids}") if found.similar else None
    (item,) = found.matching
    return Succeeded(entities(item), item.get("updated_at"), found=True)


def _item(body: Any, key: str) -> Json:
    """Return the first entity of an answer to a write. Raises KommoError where there is none with an id."""
    try:
        item = body[0] if isinstance(body, list) else body["_embedded"][key][0]
        return {**item, "id": int(item["id"])}
    except (KeyError, IndexError, TypeError, ValueError):
        raise KommoError(
            ErrorClass.EXTERNAL_SERVICE, f"the answer to a write names no entity of {key}", left=True
        ) from None


class _CreateLead:
    kind: Kind = "leads"

    async def send(self, attempt: Attempt) -> Succeeded:
        action = cast(CreateLead, attempt.claimed.command.action)
        contact_id = None if action.contact_id is None else attempt.entity("contact", action.contact_id)
        path = "/leads" if action.contact is None else "/leads/complex"
        item = _item(await attempt.write("POST", path, [bodies.new_lead(action, contact_id)]), "leads")
        entities = {"lead": item["id"]}
        if contact := item.get("contact_id") or contact_id:
            entities["contact"] = int(contact)
        return Succeeded(entities, item.get("updated_at"))

    async def look(self, attempt: Attempt) -> Found:
        action = cast(CreateLead, attempt.claimed.command.action)
        contact_id = None if action.contact_id is None else attempt.entity("contact", action.contact_id)
        sent = bodies.new_lead(action.model_copy(update={"contact": None}), contact_id)
        since = await attempt.since()
        params = {"filter[created_at][from]": since - _CLOCKS_SECONDS, "with": "contacts"}
        found = await attempt.candidates("/leads", params, "lead", since, sent)
        if action.name is None:
            found = Candidates([item for item in found.matching if named_by_kommo(item)], [])
        if action.contact is not None:
            wanted = bodies.contact(action.contact)
            having = [item for item in found.matching if await self._has(attempt, item, wanted)]
            others = [item for item in found.matching if item not in having and action.name is not None]
            found = Candidates(having, [*found.similar, *others])
        return _one(found, self._entities)

    async def _has(self, attempt: Attempt, lead: Json, wanted: Json) -> bool:
        contact_id = self._entities(lead).get("contact")
        if contact_id is None:
            return False
        contact = await attempt.read(f"/contacts/{contact_id}")
        return contact is not None and says(contact, wanted)

    @staticmethod
    def _entities(lead: Json) -> dict[str, int]:
        contacts = (lead.get("_embedded") or {}).get("contacts") or []
        return {"lead": int(lead["id"]), **({"contact": int(contacts[0]["id"])} if contacts else {})}


class _CreateContact:
    kind: Kind = "contacts"

    async def send(self, attempt: Attempt) -> Succeeded:
        action = cast(CreateContact, attempt.claimed.command.action)
        item = _item(await attempt.write("POST", "/contacts", [bodies.contact(action)]), "contacts")
        return Succeeded({"contact": item["id"]}, item.get("updated_at"))

    async def look(self, attempt: Attempt) -> Found:
        action = cast(CreateContact, attempt.claimed.command.action)
        since = await attempt.since()
        params = {"filter[created_at][from]": since - _CLOCKS_SECONDS}
        found = await attempt.candidates("/contacts", params, "contact", since, bodies.contact(action))
        if action.name is None and action.first_name is None and action.last_name is None:
            found = Candidates([item for item in found.matching if named_by_kommo(item)], [])
        return _one(found, lambda item: {"contact": int(item["id"])})


class _Update:
    """A PATCH of one entity: repeated only if the entity has not moved since it may have been sent."""

    def __init__(self, entity: str, key: str, body: Callable[[Any], Json]) -> None:
        self.kind: Kind = cast(Kind, bodies.PLURAL[entity])
        self._entity, self._key, self._body = entity, key, body

    def _id(self, attempt: Attempt) -> int:
        return attempt.entity(self._entity, getattr(attempt.claimed.command.action, self._key))

    async def send(self, attempt: Attempt) -> Succeeded:
        entity_id = self._id(attempt)
        body = self._body(attempt.claimed.command.action)
        answer = await attempt.write("PATCH", f"/{self.kind}/{entity_id}", body)
        updated_at = answer.get("updated_at") if isinstance(answer, dict) else None
        return Succeeded({self._entity: entity_id}, updated_at)

    async def look(self, attempt: Attempt) -> Found:
        entity_id = self._id(attempt)
        since = await attempt.since()
        item = await attempt.read(f"/{self.kind}/{entity_id}")
        if item is None or item["updated_at"] < since:
            return None
        updated_at = int(item["updated_at"])
        if says(item, self._body(attempt.claimed.command.action)):
            return Succeeded({self._entity: entity_id}, updated_at, found=True)
        if updated_at <= int(item.get("created_at") or 0):
            return None  # it was made lately (leads/complex does not tell when), and has not moved since
        if updated_at <= await attempt.last_update(self._entity, entity_id):
            return None  # it was an earlier command's change that moved it
        return Open("the entity was changed since, and does not have all that was sent: its change may have come after")


class _Task:
    """A task, or a meeting as one."""

    kind: Kind = "tasks"

    def _body(self, attempt: Attempt) -> Json:
        action: Action = attempt.claimed.command.action
        if isinstance(action, CreateMeetingNote):
            return bodies.meeting(action, attempt.entity(action.entity_type, action.entity_id))
        action = cast(CreateTask, action)
        entity_id = None
        if action.entity_type is not None and action.entity_id is not None:
            entity_id = attempt.entity(action.entity_type, action.entity_id)
        return bodies.task(action, entity_id)

    async def send(self, attempt: Attempt) -> Succeeded:
        body = self._body(attempt)
        item = _item(await attempt.write("POST", "/tasks", [body]), "tasks")
        return Succeeded({"task": item["id"]}, item.get("updated_at"))

    async def look(self, attempt: Attempt) -> Found:
        body = self._body(attempt)
        since = await attempt.since()
        params: Json = {"filter[updated_at][from]": since - _CLOCKS_SECONDS}
        if "entity_id" in body:
            params |= {"filter[entity_type]": body["entity_type"], "filter[entity_id]": body["entity_id"]}
        found = await attempt.candidates("/tasks", params, "task", since, body)
        return _one(found, lambda item: {"task": int(item["id"])})


class _Note:
    """A note on an entity, a call among them."""

    kind: Kind = "notes"

    def _body(self, attempt: Attempt) -> tuple[str, int, Json]:
        action = cast("AddNote | CreateCallNote", attempt.claimed.command.action)
        entity_id = attempt.entity(action.entity_type, action.entity_id)
        if isinstance(action, CreateCallNote):
            return action.entity_type, entity_id, bodies.call_note(action, entity_id, attempt.claimed.command.id)
        return action.entity_type, entity_id, bodies.note(action, entity_id)

    async def send(self, attempt: Attempt) -> Succeeded:
        return await self.put(attempt, *self._body(attempt))

    async def look(self, attempt: Attempt) -> Found:
        return await self.find(attempt, *self._body(attempt))

    async def put(self, attempt: Attempt, kind: str, entity_id: int, body: Json) -> Succeeded:
        """Put a note on an entity."""
        answer = await attempt.write("POST", f"/{bodies.PLURAL[kind]}/notes", [body])
        item = _item(answer, "notes")
        return Succeeded({kind: entity_id, "note": item["id"]}, item.get("updated_at"))

    async def find(self, attempt: Attempt, kind: str, entity_id: int, body: Json) -> Found:
        """Look for a note on an entity."""
        since = await attempt.since()
        params = {
            "filter[note_type]": body["note_type"],
            "filter[updated_at][from]": since - _CLOCKS_SECONDS,
        }
        path = f"/{bodies.PLURAL[kind]}/{entity_id}/notes"
        found = await attempt.candidates(path, params, "note", since, body)
        return _one(found, lambda item: {kind: entity_id, "note": int(item["id"])})


class _SendEmail:
    """Two steps: the mail, which nobody can be asked about, then the note that records it, which can be looked for."""

    kind: Kind = "notes"

    def __init__(self, notes: _Note) -> None:
        self._notes = notes

    async def send(self, attempt: Attempt) -> Succeeded:
        action = cast(SendEmail, attempt.claimed.command.action)
        kind, entity_id, body = self._note(attempt)
        if not attempt.claimed.progress.get("mailed"):
            if attempt.mailer is None:
                raise KommoError(ErrorClass.VALIDATION, "no mail server is set: KOMMO_STREAMS_SMTP_URL and _MAIL_FROM")
            message_id = f"<{attempt.claimed.command.id}@kommo-streams>"
            await attempt.mailer.send(action, message_id=message_id, before_send=attempt.before_write)
            attempt.mailed = True
            await attempt.save({"mailed": True})
            attempt.written = False
        return await self._notes.put(attempt, kind, entity_id, body)

    async def look(self, attempt: Attempt) -> Found:
        if not attempt.claimed.progress.get("mailed"):
            return Open("the mail may have been sent, and no mail server tells")
        return await self._notes.find(attempt, *self._note(attempt))

    def _note(self, attempt: Attempt) -> tuple[str, int, Json]:
        action = cast(SendEmail, attempt.claimed.command.action)
        entity_id = attempt.entity(action.entity_type, action.entity_id)
        body = bodies.mail_note(action.subject, action.text, [*action.to, *action.cc], entity_id)
        return action.entity_type, entity_id, body


_NOTES = _Note()
_TASKS = _Task()

HANDLERS: dict[str, Handler] = {
    "create_lead": _CreateLead(),
    "update_lead": _Update("lead", "lead_id", lambda action: bodies.changed_lead(cast(UpdateLead, action))),
    "create_contact": _CreateContact(),
    "update_contact": _Update("contact", "contact_id", lambda action: bodies.contact(cast(UpdateContact, action))),
    "create_task": _TASKS,
    "create_meeting_note": _TASKS,
    "add_note": _NOTES,
    "create_call_note": _NOTES,
    "send_email": _SendEmail(_NOTES),
}
"""How each action is carried out."""
