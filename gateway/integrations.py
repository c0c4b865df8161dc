"""Who may say that an integration was disabled: Kommo, with the secret that it shares with the integration's maker.

Kommo signs client_uuid and account_id of the query: signature = hex HMAC-SHA256 of "CLIENT_ID|ACCOUNT_ID", its key
the client secret (https://developers.kommo.com/docs/oauth-20).
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass

from runtime.process import StartError
from runtime.settings import PREFIX, Settings

MAX_QUERY_BYTES = 1024  # Kommo's has about 180

_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_INTEGRATION = re.compile(rf"({_UUID}):([!-+\--~]{{16,256}})")  # any letters and signs but a comma; Kommo gives 64
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
        known: dict[bytes, bytes] = {}
        for number, part in enumerate(filter(None, (part.strip() for part in text.split(","))), 1):
            match = _INTEGRATION.fullmatch(part)
            if not match:
                raise StartError(
                    f"{PREFIX}INTEGRATIONS: number {number} is not CLIENT_UUID:CLIENT_SECRET (16 to 256 characters, "
                    f"no comma); {_HOW}"
                )
            client = match[1].lower().encode()
            if client in known:
                raise StartError(f"{PREFIX}INTEGRATIONS: number {number} has the client id of an earlier one; {_HOW}")
            known[client] = match[2].encode()
        return cls(known)

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


_HOW = "both stand in Kommo on the integration's page under Keys and scopes; separate several with commas"
