"""What goes wrong between a client and Kommo's API on request, by account or for all; seeded.

A request is struck by at most one kind of it. Figures are shares of requests, from 0 to 1; of one account they may not
add up to more than 1. What has a name of "lost", "hung" or "after" happens once the change was made: that is what a
client cannot know.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

SHARES: Final = (
    "server_errors",
    "server_errors_after",
    "too_many",
    "gateway_timeouts",
    "gateway_timeouts_after",
    "unavailable",
    "unauthorized",
    "unpaid",
    "forbidden",
    "resets_before",
    "resets_mid_answer",
    "answers_lost",
    "hung_before",
    "hung_after",
    "malformed",
    "thin",
)


class MischiefError(ValueError):
    """A mischief that cannot be; the message says which field is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiMischief:
    """How likely what goes wrong. The change is made where it says so, else not.

    - server_errors: 500; server_errors_after: 500, the change is made
    - too_many: 429 (which counts towards a block of the address); too_many_json False: its body is a page
    - gateway_timeouts: 504; gateway_timeouts_after: 504, the change is made
    - unavailable: 503; unauthorized: 401; unpaid: 402; forbidden: 403
    - resets_before: the connection is reset before the body is read
    - resets_mid_answer: the change is made, the connection is reset when half of the answer was sent
    - answers_lost: the change is made, the connection is reset before the answer
    - hung_before, hung_after: no answer for `hang_seconds`, then a reset; after: the change is made at once
    - malformed: the change is made, the answer is broken JSON; thin: the answer is {}

    down: 503 to all; blocked: the 403 of a block to all. latency and latency_spread: seconds that each answer takes,
    give or take the spread. `methods`: which are struck (empty: all; latency, down and blocked strike all).
    `oauth`: whether the token endpoint is struck too (down and blocked it always is).
    `most`: how many strikes at most, None without end.
    """

    server_errors: float = 0.0
    server_errors_after: float = 0.0
    too_many: float = 0.0
    too_many_json: bool = True
    gateway_timeouts: float = 0.0
    gateway_timeouts_after: float = 0.0
    unavailable: float = 0.0
    unauthorized: float = 0.0
    unpaid: float = 0.0
    forbidden: float = 0.0
    resets_before: float = 0.0
    resets_mid_answer: float = 0.0
    answers_lost: float = 0.0
    hung_before: float = 0.0
    hung_after: float = 0.0
    hang_seconds: float = 30.0
    malformed: float = 0.0
    thin: float = 0.0
    down: bool = False
    blocked: bool = False
    latency: float = 0.0
    latency_spread: float = 0.0
    methods: tuple[str, ...] = ()
    oauth: bool = False
    most: int | None = None

    def __post_init__(self) -> None:
        shares = [getattr(self, name) for name in SHARES]
        for name, share in zip(SHARES, shares, strict=True):
            if not 0 <= share <= 1:
                raise MischiefError(f"{name} is a share from 0 to 1, not {share}")
        if sum(shares) > 1 + 1e-9:
            raise MischiefError(f"the shares add up to {sum(shares):g}: a request is struck once, so 1 at most")
        if min(self.latency, self.latency_spread, self.hang_seconds) < 0:
            raise MischiefError("latency, latency_spread and hang_seconds are seconds, 0 or more")

    @property
    def settled(self) -> str | None:
        """What strikes every request of an account whatever its method, None where nothing does."""
        return "down" if self.down else "blocked" if self.blocked else None


NO_MISCHIEF: Final = ApiMischief()

_TYPES: Final = {field.name: type(getattr(NO_MISCHIEF, field.name)) for field in fields(ApiMischief)}


def read_mischief(told: Any) -> ApiMischief:
    """Return the mischief a JSON object tells of. Raises MischiefError."""
    if not isinstance(told, Mapping):
        raise MischiefError('a mischief is an object, for example {"server_errors": 0.2}')
    for name, value in told.items():
        expected = _TYPES.get(name)
        if expected is None:
            raise MischiefError(f"{name!r} is none of {', '.join(_TYPES)}")
        if name == "most":
            good = value is None or (isinstance(value, int) and value >= 0)
        elif name == "methods":
            good = isinstance(value, list | tuple) and all(isinstance(method, str) for method in value)
        elif expected is bool:
            good = isinstance(value, bool)
        else:
            good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good:
            raise MischiefError(f"{name} cannot be {value!r}")
    return ApiMischief(**{**told, "methods": tuple(method.upper() for method in told.get("methods", ()))})


class Troublemaker:
    """Decides by account what strikes a request; chance is seeded by account, so accounts do not disturb each other."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._all = NO_MISCHIEF
        self._own: dict[int, ApiMischief] = {}
        self._strikes: dict[int, int] = {}
        self._rngs: dict[int, random.Random] = {}

    def set(self, mischief: ApiMischief, account: int | None = None) -> None:
        """Let it strike an account, or all (those with a mischief of their own too)."""
        self._strikes = {} if account is None else self._strikes | {account: 0}
        if account is None:
            self._all = mischief
            self._own.clear()
        else:
            self._own[account] = mischief

    def of(self, account: int) -> ApiMischief:
        """Return what may strike an account."""
        return self._own.get(account, self._all)

    def told(self) -> dict[str, Any]:
        """Return what is set, as JSON."""
        return {"all": asdict(self._all), "accounts": {str(name): asdict(own) for name, own in self._own.items()}}

    def strike(self, account: int, method: str) -> str | None:
        """Return what strikes a request: the name of a share, "down" or "blocked"; None where nothing does."""
        mischief = self.of(account)
        if mischief is NO_MISCHIEF or mischief.settled or (mischief.methods and method not in mischief.methods):
            return mischief.settled
        strikes = self._strikes.get(account, 0)
        if mischief.most is not None and strikes >= mischief.most:
            return None
        chance = self._rng(account).random()
        for name in SHARES:
            chance -= getattr(mischief, name)
            if chance < 0:
                self._strikes[account] = strikes + 1
                return name
        return None

    def latency(self, account: int) -> float:
        """Return how many seconds an answer takes."""
        mischief = self.of(account)
        if not mischief.latency and not mischief.latency_spread:
            return 0.0
        return max(0.0, mischief.latency + mischief.latency_spread * self._rng(account).uniform(-1, 1))

    def _rng(self, account: int) -> random.Random:
        if account not in self._rngs:
            self._rngs[account] = random.Random(f"{self._seed}/{account}")  # noqa: S311 a simulation
        return self._rngs[account]
