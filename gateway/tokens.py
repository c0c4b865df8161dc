"""Webhook tokens: KEYID.ACCOUNT.GENERATION.SIGNATURE, signed by a key of the gateway; there is no table to look up."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass

from runtime.process import StartError
from runtime.settings import PREFIX, Settings

MAX_CHARACTERS = 128

_KEY = re.compile(r"([a-z0-9]{1,16}):([A-Za-z0-9_-]{32,128}=*)")
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
        """Read the keys from the settings. Raises StartError that says how to make one, never what is there."""
        text = settings.gateway_keys.get_secret_value() if settings.gateway_keys else ""
        keys: dict[str, bytes] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            match = _KEY.fullmatch(part)
            if not match:
                raise StartError(f"{PREFIX}GATEWAY_KEYS: a key that is not ID:BASE64URL of 24 bytes or more; {_HOW}")
            try:
                keys[match[1]] = base64.urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4))
            except binascii.Error:
                raise StartError(f"{PREFIX}GATEWAY_KEYS: key {match[1]} is not base64url; {_HOW}") from None
        if not keys:
            raise StartError(f"{PREFIX}GATEWAY_KEYS is not set; {_HOW}")
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


_HOW = (
    "make one with: python -c \"import base64, os; print('k1:' + base64.urlsafe_b64encode(os.urandom(32)).decode())\""
)


def _signature(key: bytes, claim: str) -> str:
    digest = hmac.digest(key, claim.encode("utf-8", "replace"), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
