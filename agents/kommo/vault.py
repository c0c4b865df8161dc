"""Secrets at rest: encrypted with keys that the database does not have (Fernet: AES-128-CBC and HMAC-SHA256).

KOMMO_STREAMS_TOKEN_KEYS lists the keys. The first encrypts, all decrypt: a new key is put in front, `kommo-streams
account rotate-keys` encrypts anew, then the old one is taken out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

from agents.kommo.problems import KommoError
from runtime.errors import StartError
from runtime.settings import PREFIX, Settings, fernet_keys
from schemas.errors import ErrorClass

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


class VaultError(KommoError):
    """What is kept cannot be decrypted: another key, or not what this place holds.

    Of class authentication, so that what waits for the account is tried again once the keys are right.
    """

    def __init__(self) -> None:
        super().__init__(
            ErrorClass.AUTHENTICATION,
            f"the tokens kept in PostgreSQL are not encrypted with a key in {PREFIX}TOKEN_KEYS",
        )


class Vault:
    """Encrypts and decrypts; `place` says what a secret is of, and what is moved to another place does not decrypt."""

    def __init__(self, fernet: MultiFernet) -> None:
        self._fernet = fernet

    @classmethod
    def from_settings(cls, settings: Settings) -> Vault:
        """Return the vault of the keys in the settings. Raises StartError that says what is missing."""
        keys = fernet_keys(settings.token_keys)
        if not keys:
            raise StartError(
                f"{PREFIX}TOKEN_KEYS is not set: Kommo's tokens are kept encrypted. Keep the key as you keep a "
                "database password, and make it with python -c 'import base64, secrets; "
                "print(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())'"
            )
        try:
            from cryptography.fernet import Fernet, MultiFernet
        except ImportError:
            raise StartError("speaking to Kommo needs the extra: pip install 'kommo-streams[worker]'") from None
        return cls(MultiFernet([Fernet(key) for key in keys]))

    def encrypt(self, place: str, secret: SecretStr) -> bytes:
        """Return the secret, encrypted with the first key."""
        return self._fernet.encrypt(f"{place}\n{secret.get_secret_value()}".encode())

    def decrypt(self, place: str, kept: bytes) -> SecretStr:
        """Return the secret. Raises VaultError."""
        from cryptography.fernet import InvalidToken

        try:
            found, _, secret = self._fernet.decrypt(kept).decode().partition("\n")
        except InvalidToken:
            found, secret = "", ""
        if found != place:
            raise VaultError
        return SecretStr(secret)

    def rotate(self, place: str, kept: bytes) -> bytes:
        """Return what is kept, encrypted with the first key. Raises VaultError."""
        return self.encrypt(place, self.decrypt(place, kept))
