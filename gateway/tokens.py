"""Webhook tokens: KEYID.ACCOUNT.GENERATION.SIGNATURE, signed by a key of the gateway; there is no table to look up."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass

from runtime.process import StartError
from runtime.settings import PREFIX, Settings
from runtime.signing_keys import HOW, read_signing_keys

MAX_CHARACTERS = 128

_ACCOUNT = re.compile(r"[1-9][0-9]{0,18}")
_GENERATION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Token:
    """Whose webhook address it is. A token counts while its generation is at least the account's lowest valid one."""

    account_id: int
    generation: int


class Keyring:
    """The keys that sign webhook addresses: the first signs, every one of them verifies, so one can be rotated."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._keys = keys
        self._current = next(iter(keys))
        self._decoy = hashlib.sha256(b"".join(keys.values())).digest()

    @classmethod
    def from_settings(cls, settings: Settings) -> Keyring:
        """Read the keys from the settings. Raises StartError that says how to make one."""
        keys = read_signing_keys(settings.gateway_keys.get_secret_value()) if settings.gateway_keys else {}
        if not keys:
            raise StartError(f"{PREFIX}GATEWAY_KEYS is not set; {HOW}")
        return cls(keys)

    def sign(self, token: Token) -> str:
        """Return the token's text, as it stands in a webhook address."""
        claim = f"{self._current}.{token.account_id}.{token.generation}"
        return f"{claim}.{_signature(self._keys[self._current], claim)}"

    def verify(self, text: str) -> Token | None:
        """Return what a valid token says, None for any other text; the time does not tell which."""
        claim, _, signature = text[:MAX_CHARACTERS].rpartition(".")
        key_id, _, rest = claim.partition(".")
        account, _, generation = rest.partition(".")
        expected = _signature(self._keys.get(key_id, self._decoy), claim)
        genuine = hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))
        well_formed = _ACCOUNT.fullmatch(account) is not None and _GENERATION.fullmatch(generation) is not None
        if not (genuine and well_formed and key_id in self._keys and len(text) <= MAX_CHARACTERS):
            return None
        return Token(int(account), int(generation))


def _signature(key: bytes, claim: str) -> str:
    digest = hmac.digest(key, claim.encode("utf-8", "replace"), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
