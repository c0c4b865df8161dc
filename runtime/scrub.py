"""What leaves for Sentry, without secrets: those of the settings, those of a known form, those that are named so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from runtime.logs import redact
from runtime.settings import Settings

MAX_DEPTH = 12
MAX_VALUES = 20_000
MAX_MESSAGE_CHARACTERS = 300

_HIDDEN = "***"
_SHORTEST = 6  # characters; a shorter secret would be found within honest words
_NAMED = re.compile(
    r"pass(?:word|wd|phrase)|secret|token|authori[sz]ation|cookie|credential|api_?key|signature", re.IGNORECASE
)
_ACCOUNT = re.compile(r"(https?://)[\w-]+(?=\.(?:kommo\.com|amocrm\.(?:ru|com)))")
_UNWANTED = ("request", "user", "breadcrumbs", "modules")


def secrets_of(settings: Settings) -> list[str]:
    """Return the texts of the settings that nobody else may see, the longest first."""
    found: set[str] = set()
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            found.update(_parts(value.get_secret_value()))
    return sorted((text for text in found if len(text) >= _SHORTEST), key=len, reverse=True)


def _parts(text: str) -> Iterator[str]:
    """Yield a secret, and what of it is one by itself: the password of a URL, the key of each ID:KEY."""
    yield text
    for part in text.split(","):
        if "://" in part:
            password = urlsplit(part).password or ""
            yield password
            yield unquote(password)
        else:
            yield part.rpartition(":")[2].strip()


class Scrubber:
    """Takes secrets out of an event of Sentry's: every text of it, however deep it lies, within bounds."""

    def __init__(self, settings: Settings) -> None:
        known = secrets_of(settings)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, event: dict[str, Any], _hint: object = None) -> dict[str, Any]:
        """Return the event without secrets; what lies past MAX_DEPTH or MAX_VALUES is hidden."""
        kept = {name: value for name, value in event.items() if name not in _UNWANTED}
        for error in (kept.get("exception") or {}).get("values") or ():
            # PostgreSQL puts whole rows into further lines.
            error["value"] = str(error.get("value") or "").partition("\n")[0]
        left = [MAX_VALUES]
        clean = {name: self._clean(value, left, 1) for name, value in kept.items()}
        for error in (clean.get("exception") or {}).get("values") or ():
            error["value"] = error["value"][:MAX_MESSAGE_CHARACTERS]
        return clean

    def text(self, text: str) -> str:
        """Return a text without secrets, and without the names of accounts in Kommo's addresses."""
        known = self._known.sub(_HIDDEN, text) if self._known else text
        return _ACCOUNT.sub(rf"\1{_HIDDEN}", redact(known))

    def _clean(self, value: Any, left: list[int], depth: int) -> Any:
        left[0] -= 1
        if left[0] < 0 or depth > MAX_DEPTH:
            return _HIDDEN
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                self.text(str(name)): _HIDDEN
                if _NAMED.search(str(name)) or name == "vars"
                else self._clean(item, left, depth + 1)
                for name, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._clean(item, left, depth + 1) for item in value]
        return value if value is None or isinstance(value, bool | int | float) else self.text(str(value))
