"""The circuits of one account: one breaker for each kind of endpoint, so that notes go on while leads fail."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Iterator
from typing import Literal

from agents.kommo.breaker import Breaker, State
from agents.kommo.limits import Chance, Clock
from agents.kommo.problems import KommoError
from runtime.logs import logger
from schemas.errors import ErrorClass

log = logger(__name__)

Kind = Literal["leads", "contacts", "companies", "tasks", "notes", "calls", "account", "oauth", "other"]

_OWN_KIND = re.compile(r"/(leads|contacts|companies|tasks|calls|account)(?:[/?]|$)")


def kind_of(path: str) -> Kind:
    """Return the kind of endpoint that a path below /api/v4 is."""
    if re.search(r"/notes(?:/|$)", path):
        return "notes"
    found = _OWN_KIND.match(path)
    return found[1] if found else "other"  # type: ignore[return-value]


class Circuits:
    """The breakers of one account. The client goes through them; who plans its requests may ask wait() before."""

    def __init__(self, account_id: int, *, clock: Clock = time.monotonic, chance: Chance = random.random) -> None:
        self._account_id = account_id
        self._clock = clock
        self._chance = chance
        self._breakers: dict[Kind, Breaker] = {}

    def states(self) -> dict[Kind, State]:
        """Return the state of each kind that was used."""
        now = self._clock()
        return {kind: breaker.state(now) for kind, breaker in self._breakers.items()}

    def is_open(self, kind: Kind) -> bool:
        """Return whether this kind fails, and nothing but a probe goes."""
        breaker = self._breakers.get(kind)
        return breaker is not None and breaker.state(self._clock()) != "closed"

    def wait(self, kind: Kind) -> float:
        """Return for how many seconds no request of this kind may go; 0 when one may."""
        breaker = self._breakers.get(kind)
        return 0.0 if breaker is None else breaker.wait(self._clock())

    @contextlib.contextmanager
    def through(self, kind: Kind) -> Iterator[None]:
        """Do something through the kind's circuit and let it hear the outcome.

        Raises KommoError (external_service, nothing sent) while it is open.
        """
        now = self._clock()
        breaker = self._breakers.get(kind, Breaker())
        if (wait := breaker.wait(now)) > 0:
            raise KommoError(
                ErrorClass.EXTERNAL_SERVICE,
                f"not sent, for {wait:.0f} s: {kind} of account {self._account_id} fail again and again",
                title="the circuit is open",
                retry_after=wait,
            )
        self._breakers[kind] = breaker = breaker.admitted(now)
        era, outcome = breaker.era, "abandoned"
        try:
            yield
            outcome = "succeeded"
        except KommoError as error:
            if error.error_class is ErrorClass.EXTERNAL_SERVICE:
                outcome = "failed"
            elif error.status is not None and not error.blocked:
                outcome = "succeeded"  # it answers, if only to refuse
            raise
        finally:
            self._settle(kind, era, outcome)

    def _settle(self, kind: Kind, era: int, outcome: str) -> None:
        before, now = self._breakers[kind], self._clock()
        if outcome == "failed":
            after = before.failed(era, now, self._chance())
        elif outcome == "succeeded":
            after = before.succeeded(era)
        else:
            after = before.abandoned(era)
        self._breakers[kind] = after
        if (before.until is None) != (after.until is None):
            log.warning("circuit", account_id=self._account_id, kind=kind, state=after.state(now))
