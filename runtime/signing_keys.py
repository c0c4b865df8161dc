"""The keys that sign webhook addresses: ID:BASE64URL, comma-separated, as KOMMO_STREAMS_GATEWAY_KEYS has them."""

from __future__ import annotations

import base64
import binascii
import re

HOW = "make one with: python -c \"import base64, os; print('k1:' + base64.urlsafe_b64encode(os.urandom(32)).decode())\""

_KEY = re.compile(r"([a-z0-9]{1,16}):([A-Za-z0-9_-]{32,128}=*)")


def read_signing_keys(text: str) -> dict[str, bytes]:
    """Return each key by its id, the one that signs first; none is fine.

    Raises ValueError that says which of them is wrong and how to make one, with nothing of what is there.
    """
    keys: dict[str, bytes] = {}
    for number, part in enumerate(filter(None, (part.strip() for part in text.split(","))), 1):
        match = _KEY.fullmatch(part)
        if match is None:
            raise ValueError(f"key {number} is not ID:BASE64URL of 24 bytes or more; {HOW}")
        if match[1] in keys:
            raise ValueError(f"key {number} has the id of an earlier one; {HOW}")
        try:
            keys[match[1]] = base64.urlsafe_b64decode(match[2].rstrip("=") + "=" * (-len(match[2].rstrip("=")) % 4))
        except binascii.Error:
            raise ValueError(f"key {number} is not base64url; {HOW}") from None
    return keys
