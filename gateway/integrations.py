"""Who may say that an integration was disabled: Kommo, with the secret that it shares with the integration's maker.

Kommo signs client_uuid and account_id of the query: signature = hex HMAC-SHA256 of "CLIENT_ID|ACCOUNT_ID", its key
the client secret (https://developers.kommo.com/docs/oauth-20).
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass

from runtime.integrations import read_integrations
from runtime.process import StartError
from runtime.settings import PREFIX, Settings

MAX_QUERY_BYTES = 1024  # Kommo's has about 180

_KEY = re.compile(rb"[A-Za-z0-9_]{1,64}")
_ACCOUNT = re.compile(rb"[1-9][0-9]{0,18}")
_SIGNED = (b"client_uuid", b"account_id", b"signature")


@dataclass(frozen=True, slots=True)
class Disabled:
    """What a genuine call says: in which account, and its query without the signature."""

    account_id: int
    query: bytes


class Integrations:
    """The integrations whose maker runs this gateway: client id and client secret of each."""

    def __init__(self, known: dict[bytes, bytes]) -> None:
        self._known = known
        self._decoy = secrets.token_bytes(64)  # known to nobody: no signature of an unknown client is genuine

    @classmethod
    def from_settings(cls, settings: Settings) -> Integrations:
        """Read them from the settings; none is fine. Raises StartError that says what is wrong, never what is there."""
        text = settings.integrations.get_secret_value() if settings.integrations else ""
        try:
            known = read_integrations(text)
        except ValueError as error:  # settings that were changed after they were checked
            raise StartError(f"{PREFIX}INTEGRATIONS: {error}") from None
        return cls({client.encode(): secret.encode() for client, secret in known.items()})

    def verify(self, query: bytes) -> Disabled | None:
        """Return what a genuine query says, None for any other; the time does not tell which.

        Parameters that Kommo does not sign pass through. The signed ones stand as they are, never percent-encoded,
        so that whoever reads the stored query reads what was signed.
        """
        found: dict[bytes, bytes] = {}
        kept: list[bytes] = []
        plain = True
        for pair in query[:MAX_QUERY_BYTES].split(b"&"):
            key, _, value = pair.partition(b"=")
            plain &= _KEY.fullmatch(key) is not None and key not in found
            found[key] = value
            if key != b"signature":
                kept.append(pair)
        client, account, signature = (found.get(key, b"") for key in _SIGNED)
        expected = hmac.new(self._known.get(client, self._decoy), client + b"|" + account, "sha256").hexdigest()
        genuine = hmac.compare_digest(expected.encode(), signature)
        number = int(account) if _ACCOUNT.fullmatch(account) else 0
        well_formed = plain and 0 < number < 2**63 and len(query) <= MAX_QUERY_BYTES
        return Disabled(number, b"&".join(kept)) if genuine and well_formed else None
