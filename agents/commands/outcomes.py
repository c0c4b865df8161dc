"""How an attempt at a command can end. Each is a value; the recorder makes rows and events of them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from schemas.errors import ErrorClass


@dataclass(frozen=True, slots=True)
class Succeeded:
    """It is carried out. `entities`: the ids made or changed, by type; `updated_at`: Kommo's time, unix seconds."""

    entities: dict[str, int] = field(default_factory=dict)
    updated_at: int | None = None
    found: bool = False
    """Whether it was found done by a look, not answered."""


@dataclass(frozen=True, slots=True)
class Retried:
    """It failed, and is tried again at a moment (UTC); `doubt`: it may have been carried out, so look first."""

    at: dt.datetime
    error_class: ErrorClass
    error: str
    doubt: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """It will not be carried out, and certainly was not: a dead letter."""

    error_class: ErrorClass
    error: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can find out whether it was carried out: a person decides."""

    error_class: ErrorClass
    error: str


@dataclass(frozen=True, slots=True)
class Released:
    """Nothing was attempted: the claim is given back, not counted, and taken up again at a moment (UTC)."""

    at: dt.datetime


Ending = Succeeded | Retried | Failed | Unknown | Released
