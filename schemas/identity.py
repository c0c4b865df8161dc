"""Identity: the id of an event names the occurrence, so that a repeat has the same id wherever it comes from."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from typing import Any

import orjson


def event_id(account_id: int, event_type: str, subject: str, fields: Any) -> str:
    """Return the id of an event: a UUID (version 8, RFC 9562) made of 122 bits of a SHA-256.

    Hashed is the JSON array [account, type, subject, fields] in UTF-8, keys sorted, without white space. `fields` are
    the wire texts of the type's identity fields as nested dictionaries of texts, never parsed values: a model that
    learns a field, or a number that is read another way, must not change an id. Of a JSON body they are its values as
    JsonBody.wire gives them (schemas/body.py): texts, and numbers in the digits that they were written in.
    """
    text = orjson.dumps([account_id, event_type, subject, fields], option=orjson.OPT_SORT_KEYS)
    digest = bytearray(hashlib.sha256(text).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


def new_delivery_id() -> str:
    """Return a new delivery id: a UUID of version 7, so ids of one gateway sort by time."""
    milliseconds = time.time_ns() // 1_000_000
    value = bytearray(milliseconds.to_bytes(6, "big") + os.urandom(10))
    value[6] = value[6] & 0x0F | 0x70
    value[8] = value[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(value)))
