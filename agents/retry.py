"""When something that failed is tried again: a policy is a value that answers with a decision.

It knows no clock and no chance of its own: both are given, so every decision can be tested.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from schemas.errors import ErrorClass


@dataclass(frozen=True, slots=True)
class Again:
    """Try again at this moment (UTC), not before."""

    at: dt.datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not try again; `why` is for a person."""

    why: str


Decision = Again | GiveUp


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, how soon and how long something is tried.

    Before attempt n+1 it waits `base * 2 ** (n - 1)` seconds, at most `cap`, of which `jitter` (a share of it) is left
    to chance so that what failed together does not come back together. What the other side asks for (Retry-After) is
    waited for whole. `attempts` counts all of them; from `age` seconds after its beginning nothing is tried.
    """

    attempts: int = 20
    base: float = 2.0
    cap: float = 900.0
    jitter: float = 0.5
    age: float = 86_400.0

    def __post_init__(self) -> None:
        """Refuse values that would never try, or never wait. Raises ValueError that names the field."""
        for name, good, must in (
            ("attempts", self.attempts >= 1, "at least 1"),
            ("base", self.base > 0, "more than 0 seconds"),
            ("cap", self.cap >= self.base, f"at least the base, {self.base:g} seconds"),
            ("jitter", 0 <= self.jitter < 1, "from 0 to less than 1"),
            ("age", self.age > 0, "more than 0 seconds"),
        ):
            if not good:
                raise ValueError(f"{name}={getattr(self, name):g}: must be {must}")

    def wait(self, attempts: int, chance: float, retry_after: float | None = None) -> float:
        """Return the seconds to wait after so many attempts; `chance` is in [0, 1)."""
        doubled: float = self.base * 2 ** min(attempts - 1, 60)
        backoff = min(doubled, self.cap)
        backoff -= backoff * self.jitter * chance
        return max(backoff, retry_after or 0.0)

    def decide(
        self,
        error_class: ErrorClass,
        *,
        attempts: int,
        began: dt.datetime,
        now: dt.datetime,
        chance: float,
        retry_after: float | None = None,
    ) -> Decision:
        """Return what follows from a failure after so many attempts at something that began then (UTC)."""
        if error_class.facts.retried == "never":
            return GiveUp(f"{error_class}: not worth another attempt")
        if attempts >= self.attempts:
            return GiveUp(f"{error_class}: {attempts} attempts are used up")
        at = now + dt.timedelta(seconds=self.wait(attempts, chance, retry_after))
        end = began + dt.timedelta(seconds=self.age)
        if at >= end:
            return GiveUp(f"{error_class}: the next attempt would come after {self.age:g} s, the age at which it ends")
        return Again(at)


class RetryError(ValueError):
    """A retry setting that cannot be read; the message says which part and what is possible."""


class Policies:
    """The policy of each action and error class: the default, what is set for the class, what is set for the action."""

    def __init__(self, text: str = "", *, actions: Iterable[str] = ()) -> None:
        """Read `NAME.FIELD=VALUE, ...`; NAME is an error class, an action, or `all`. Raises RetryError."""
        self._set: dict[str, dict[str, float]] = {}
        names = ["all", *(item.value for item in ErrorClass), *actions]
        for part in filter(None, (part.strip() for part in text.split(","))):
            match = _PART.fullmatch(part)
            if match is None or match["name"] not in names or match["field"] not in _FIELDS:
                raise RetryError(
                    f"{part[:80]!r}: must be NAME.FIELD=VALUE, the name one of {', '.join(names)}, the field one of "
                    f"{', '.join(_FIELDS)}"
                )
            self._set.setdefault(match["name"], {})[match["field"]] = float(match["value"])
        for name in self._set:
            try:
                self.of(name, name)
            except ValueError as error:
                raise RetryError(f"{name}: {error}") from None

    def of(self, action: str, error_class: str) -> RetryPolicy:
        """Return the policy of an action's failure of this class."""
        found = self._set.get("all", {}) | self._set.get(error_class, {}) | self._set.get(action, {})
        return replace(DEFAULTS.get(error_class, RetryPolicy()), **{n: _FIELDS[n](v) for n, v in found.items()})

    def age(self, action: str) -> float:
        """Return the seconds after which an action is not begun any more, whatever its failures were."""
        return self.of(action, "all").age


DEFAULTS: dict[str, RetryPolicy] = {
    # A person must connect the account again: many tries would only fill the log.
    ErrorClass.AUTHENTICATION: RetryPolicy(attempts=40, base=300.0, cap=3600.0),
    ErrorClass.RATE_LIMIT: RetryPolicy(attempts=200, base=1.0, cap=300.0),
}
"""Policies other than the general one."""

_FIELDS: dict[str, type] = {"attempts": int, "base": float, "cap": float, "jitter": float, "age": float}
_PART = re.compile(r"(?P<name>[a-z_]+)\.(?P<field>[a-z]+)\s*=\s*(?P<value>[0-9]{1,9}(\.[0-9]{1,6})?)")
