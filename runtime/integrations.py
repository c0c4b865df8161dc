"""Your own integrations: CLIENT_UUID:CLIENT_SECRET, comma-separated, as KOMMO_STREAMS_INTEGRATIONS has them."""

from __future__ import annotations

import re

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SECRET = re.compile(r"[!-+\--~]{16,256}")  # any letters and signs but a comma; Kommo gives 64
_FORM = (
    "it must be CLIENT_UUID:CLIENT_SECRET, several with commas between, like "
    "00000000-0000-0000-0000-000000000000:THE_SECRET; both stand in Kommo on its page under Keys and scopes"
)


def read_integrations(text: str) -> dict[str, str]:
    """Return the client secret of each client id (in lower case); none is fine.

    Raises ValueError that says which of them is wrong, how, and what it must be, with nothing of what is there.
    """
    known: dict[str, str] = {}
    for number, part in enumerate(filter(None, (part.strip() for part in text.split(","))), 1):
        client, colon, secret = part.partition(":")
        client = client.lower()
        wrong = None
        if not colon:
            wrong = "has no colon between client id and secret"
        elif not _UUID.fullmatch(client):
            wrong = "has before its colon no client id, which is a UUID"
        elif not _SECRET.fullmatch(secret):
            wrong = "has a secret that is not of 16 to 256 characters, letters and signs without spaces"
        elif client in known:
            wrong = "has the client id of an earlier one"
        if wrong:
            raise ValueError(f"number {number} {wrong}; {_FORM}")
        known[client] = secret
    return known
