"""recent_updates, version 1: one row per lead, contact, company, customer, task, incoming lead, list element and chat.

Each group of columns moves by its own clock: what happened last comes from the newest event, what the entity is
called, who is responsible and where it is from the newest snapshot that says so: a partial body clears nothing. A
note, a call or a message is news of the lead, contact or company it is on. How a row comes to be the same for any
order of reading: projections/folding.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from projections.columns import number, text
from projections.folding import Folding, Key, Life, Mark, Marks, account_link, entity_url, keep_newest, moment, said
from projections.reading import LoggedEvent
from projections.summary import tell, title

ENTITIES = frozenset(
    {"lead", "contact", "company", "customer", "task", "unsorted", "catalog_element", "talk", "message"}
)
NO_NEWS = frozenset({"kommo.unrecognized", "kommo.digital_pipeline.triggered", "kommo.salesbot.requested"})
"""What is told of an entity and says nothing of it: a hook of a pipeline comes beside the webhook of the move."""

_MAX_TITLE = 300


@dataclass(slots=True)
class State(Life):
    """What a row is worked out from: events and deletes say [type, summary].

    `titles`, `responsible`, `links`: of the newest second with a snapshot that says the column, saying it.
    """

    titles: Marks = field(default_factory=dict)
    responsible: Marks = field(default_factory=dict)
    links: Marks = field(default_factory=dict)

    def fold(self, event: LoggedEvent) -> None:
        """Take one event in."""
        mark = Mark.of(event)
        self.live(event, mark, event.kind.name, tell(event).summary)
        if event.kind.snapshot:
            name, responsible = title(event), _responsible(event)
            if name is not None:
                keep_newest(self.titles, event.event_id, mark.saying(text(name, _MAX_TITLE)))
            if responsible is not None:
                keep_newest(self.responsible, event.event_id, mark.saying(responsible))
        url = entity_url(account_link(event), event.entity_type, event.entity_id)
        if url is not None:
            keep_newest(self.links, event.event_id, mark.saying(url))

    def columns(self) -> tuple[Any, ...]:
        """Return title, event_type, summary, responsible_user_id, occurred_at, url, deleted, event_id."""
        clock, newest = self.news()
        kind, summary = newest.says
        name, responsible, url = said(self.titles), said(self.responsible), said(self.links)
        return (name, kind, summary, responsible, moment(clock[0]), url, self.is_deleted, clock[2])


def _responsible(event: LoggedEvent) -> int | None:
    fields = event.data.get(event.entity_type)
    return number(fields.get("responsible_user_id")) if isinstance(fields, dict) else None


class RecentUpdates(Folding[State]):
    """Folds every event of an entity into the entity's row."""

    name = "recent_updates"
    version = 1
    key = (("account_id", "bigint"), ("entity_type", "text"), ("entity_id", "text"))
    columns = (
        "title",
        "event_type",
        "summary",
        "responsible_user_id",
        "occurred_at",
        "url",
        "deleted",
        "event_id",
    )
    state = State

    def folds(self, event: LoggedEvent) -> bool:
        """What happened to an entity, also through its notes, calls and messages."""
        return event.entity_type in ENTITIES and event.kind.name not in NO_NEWS

    def key_of(self, event: LoggedEvent) -> Key:
        """The entity."""
        return (event.account_id, event.entity_type, event.entity_id)
