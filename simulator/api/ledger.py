"""The ledger: every effect that was really made, so that a test can say that each command took effect exactly once.

In a file it is JSON, one line a request, written before the request is answered: what a killed simulator did is known
to the next one that is started with the file, as Kommo does not forget what it did. Nothing is synced to the disk: it
survives the end of the process, not of the machine.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import orjson

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Verb = Literal["created", "updated"]

_EFFECTS: Final = "effects"
_DELIVERED: Final = "delivered"
_OAUTH: Final = "oauth"


@dataclass(slots=True, kw_only=True)
class Effect:
    """One entity that one request made or changed.

    `kind`: lead, contact, company, task, note or call (a note that POST /calls made). `item`: what the request said of
    it. `received_at`: unix seconds with milliseconds. `request`: a number that effects of one request share. `status`:
    the HTTP status of the answer, None where none was sent on purpose. `delivered`: whether the answer was handed to
    the client's connection; None: not known, the simulator was killed before.
    """

    number: int
    request: int
    account: int
    user: int
    method: str
    path: str
    kind: str
    verb: Verb
    id: int
    request_id: str | None
    item: Any
    received_at: float
    status: int | None
    delivered: bool | None = None


class LedgerError(Exception):
    """A ledger file that cannot be read or written; the message says why."""


class Ledger:
    """All effects in their order. `states` are the entities as the file has them last: by account, kind and id."""

    def __init__(self, path: Path | None = None) -> None:
        self.effects: list[Effect] = []
        self.oauth: list[dict[str, Any]] = []
        self.states: dict[tuple[int, str, int], dict[str, Any]] = {}
        self._by_request: defaultdict[int, list[Effect]] = defaultdict(list)
        self._requests = 0
        self._file: int | None = None
        if path is not None:
            self._open(path)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def record(self, effects: list[Effect], states: Mapping[tuple[int, str, int], Mapping[str, Any]]) -> None:
        """Take note of the effects of one request, and of the entities as they are since."""
        self._add(effects)
        if self._file is not None:
            told = [asdict(effect) for effect in effects]
            kept = [[*key, state] for key, state in states.items()]
            self._write({_EFFECTS: told, "states": kept})

    def next_request(self) -> int:
        """Return the number of a new request."""
        self._requests += 1
        return self._requests

    def delivered(self, request: int, delivered: bool) -> None:
        """Take note whether a request's answer was handed to the client's connection."""
        for effect in self._by_request[request]:
            effect.delivered = delivered
        if self._file is not None:
            self._write({_DELIVERED: delivered, "request": request})

    def journal(self, entry: dict[str, Any]) -> None:
        """Keep what OAuth must know after a restart."""
        if self._file is not None:
            self._write({_OAUTH: entry})

    def of(self, account: int | None = None, kind: str | None = None, verb: Verb | None = None) -> list[Effect]:
        """Return the effects of an account, of a kind, of a verb."""
        return [
            effect
            for effect in self.effects
            if account in (None, effect.account) and kind in (None, effect.kind) and verb in (None, effect.verb)
        ]

    def lines(self, account: int | None = None, after: int = 0) -> Iterator[bytes]:
        """Yield effects after a number as JSON lines."""
        for effect in self.effects[after:]:
            if account in (None, effect.account):
                yield orjson.dumps(asdict(effect), option=orjson.OPT_APPEND_NEWLINE)

    def _add(self, effects: list[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            self._by_request[effect.request].append(effect)

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None  # noqa: S101
        raw = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        if os.write(self._file, raw) < len(raw):
            raise LedgerError("the ledger cannot be written: is the disk full?")

    def _open(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            whole = path.read_bytes()
            # A line that a kill cut short was never answered: it did not happen.
            kept, _, torn = whole.rpartition(b"\n")
            if torn:
                os.ftruncate(self._file, len(whole) - len(torn))
        except BlockingIOError:
            self.close()
            raise LedgerError(f"the ledger {path} is in use: another simulator writes it") from None
        except OSError as error:
            raise LedgerError(f"the ledger {path} cannot be opened: {error.strerror}") from None
        for number, line in enumerate(kept.splitlines(), 1):
            try:
                self._read(orjson.loads(line))
            except (ValueError, KeyError, TypeError):
                self.close()
                raise LedgerError(f"line {number} of {path} is none of a ledger: give another file") from None

    def _read(self, line: dict[str, Any]) -> None:
        if _EFFECTS in line:
            self._add([Effect(**told) for told in line[_EFFECTS]])
            self._requests = max(self._requests, self.effects[-1].request)
            for account, kind, identifier, state in line["states"]:
                self.states[account, kind, identifier] = state
        elif _DELIVERED in line:
            for effect in self._by_request[line["request"]]:
                effect.delivered = line[_DELIVERED]
        else:
            self.oauth.append(line[_OAUTH])
