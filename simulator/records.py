"""The records of the simulated company, and what each says of itself in the columns that people see.

Times are unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, TypeAlias

from simulator.wire import Item

Kind = Literal["contact", "company"]
Category = Literal["forms", "chats", "mail"]

Said: TypeAlias = "str | int | None"
Says: TypeAlias = dict[str, Said]
"""Columns and their values, as one webhook tells them."""

ROBOT: Final = 0
"""The user id of Kommo's own automations."""

ELEMENT_TYPES: Final = {"contact": 1, "lead": 2, "company": 3, "customer": 12}
"""What notes and tasks are about, by Kommo's numbers."""


@dataclass(slots=True, kw_only=True, eq=False)
class Record:
    """What every entity has. `alive` is false from its delete to its restore."""

    kind: ClassVar[str]
    id: int
    created_at: int
    updated_at: int
    created_by: int
    modified_by: int
    responsible: int
    alive: bool = True

    @property
    def subject(self) -> str:
        """What events call it."""
        return f"{self.kind}/{self.id}"

    def says(self) -> Says:
        """Return what any full body about it tells."""
        raise NotImplementedError


@dataclass(slots=True, kw_only=True, eq=False)
class Named(Record):
    """What has a name, custom fields by field id, and tags."""

    name: str
    custom: dict[int, Item] = field(default_factory=dict)
    tags: list[Item] = field(default_factory=list)

    def says(self) -> Says:
        """Return title and responsible; Kommo shows what has no name by its id."""
        return {"title": self.name or f"{self.kind.capitalize()} {self.id}", "responsible_user_id": self.responsible}


@dataclass(slots=True, kw_only=True, eq=False)
class Lead(Named):
    """A deal. `old_status` is where its last move came from: Kommo repeats it in a later change of responsible."""

    kind: ClassVar[str] = "lead"
    price: int
    pipeline: int
    status: int
    old_status: int | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Person(Named):
    """A contact or a company; Kommo sends both under `contacts`."""

    kind: Kind  # type: ignore[misc]  # of each its own, where the others have one for all
    leads: list[int] = field(default_factory=list)


@dataclass(slots=True, kw_only=True, eq=False)
class Customer(Named):
    """One who buys again; `next_date` is when, `periodicity` the days between."""

    kind: ClassVar[str] = "customer"
    status: int
    next_price: int
    next_date: int
    periodicity: int


@dataclass(slots=True, kw_only=True, eq=False)
class Task(Record):
    """A task on a lead, contact, company or customer (`element`); `completed_at` is None while it is open."""

    kind: ClassVar[str] = "task"
    text: str
    type: int
    element: Named
    deadline: int
    completed_at: int | None = None
    reopened_at: int | None = None

    @property
    def done(self) -> bool:
        """Whether it is closed."""
        return self.completed_at is not None

    def says(self) -> Says:
        """Return what a task's every body tells; its result is in one body only."""
        return {
            "title": self.text,
            "responsible_user_id": self.responsible,
            "state": "completed" if self.done else "open",
            "task_type": self.type,
            "entity_type": self.element.kind,
            "entity_id": str(self.element.id),
            "deadline": self.deadline,
            "created_at": self.created_at,
            "completed_at": self.completed_at,
            "reopened_at": self.reopened_at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note; `type` is Kommo's number (4 text, 5 file, 10 incoming call, 11 outgoing call, 102 and 103 SMS)."""

    id: int
    type: int
    text: str
    element: Named
    author: int
    author_name: str
    created_at: int
    updated_at: int
    attachment: str = ""


@dataclass(slots=True, eq=False)
class Incoming:
    """An incoming lead; `lead` is the id that the lead has when it is accepted."""

    uid: str
    category: Category
    lead: int
    name: str
    client: str
    pipeline: int
    created_at: int

    @property
    def subject(self) -> str:
        """What events call it."""
        return f"unsorted/{self.uid}"


@dataclass(slots=True, eq=False)
class Talk:
    """A conversation with a contact, mostly about a lead."""

    id: int
    chat: str
    contact: Person
    lead: Lead | None
    origin: str
    created_at: int
    updated_at: int
    in_work: bool = True
    read: bool = False

    @property
    def about(self) -> Lead | None:
        """The lead that its messages are news of: none once it is deleted."""
        return self.lead if self.lead is not None and self.lead.alive else None


@dataclass(slots=True, eq=False)
class Element:
    """An element of a list."""

    id: int
    catalog: int
    name: str
    price: int
    created_at: int
    updated_at: int
    created_by: int
    modified_by: int

    @property
    def subject(self) -> str:
        """What events call it."""
        return f"catalog_element/{self.id}"
