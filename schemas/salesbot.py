"""A salesbot's widget_request: the JSON that the bot's step "widget" posts to an integration.

See https://developers.kommo.com/reference/salesbot-widget-block-execution-confirmation.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

import orjson

from schemas.body import JsonBody
from schemas.catalogue import EVENT_TYPES
from schemas.readers import Occurrence, Reading
from schemas.wire import unix_seconds

_RETURN = re.compile(r"https://[^/\s]+/api/v4/salesbot/([1-9][0-9]{0,18})/continue/[^/\s]+")
_ID = re.compile(r"[1-9][0-9]{0,18}")
_CHATS_ACCOUNT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # another number of the same account
_ENTITIES = {"lead": "lead", "leads": "lead", "2": "lead", "contact": "contact", "contacts": "contact", "1": "contact"}


def read_widget_request(body: JsonBody) -> Reading | None:
    """Return what a JSON body says, None where it is no widget_request.

    Of its token only the claims are kept: they tell who asks, and the rest is a credential. They are not verified
    here, for the webhook address says whose body it is. The token is not in the identity either: should Kommo make a
    new one for a repeat, that is still the same request.
    """
    value = body.value
    if type(value) is not dict or type(value.get("return_url")) is not str or "data" not in value:
        return None
    claims = {name: claim for name, claim in _claims(value).items() if type(claim) in (str, int)}
    request = {name: part for name, part in value.items() if name != "token"}
    bot = _RETURN.fullmatch(value["return_url"])
    entity, identifier = _ENTITIES.get(str(claims.get("entity_type"))), str(claims.get("entity_id"))
    if entity and _ID.fullmatch(identifier):
        subject = f"{entity}/{identifier}"
    else:
        subject = f"salesbot/{bot[1]}" if bot else "salesbot/-"
    wire = body.wire()
    identity = {"return_url": wire["return_url"], "data": wire["data"]}
    kind = EVENT_TYPES["kommo.salesbot.requested"]
    data = {"request": request, "claims": claims}
    return Reading(subject, unix_seconds(str(claims.get("iat"))), data, [Occurrence(kind, identity)])


def named_accounts(value: Any) -> Iterator[str]:
    """Yield the accounts that a JSON body names as its own: those of its token, `account_id`, and `account.id`.

    What lies deeper, such as a salesbot's `data`, is its author's, and may be of other accounts.
    """
    for part in value if type(value) is list else [value]:
        if type(part) is dict:
            block = part.get("account")
            named = (_claims(part).get("account_id"), part.get("account_id"), type(block) is dict and block.get("id"))
            yield from (text for text in map(_text, named) if text)


def _text(named: Any) -> str:
    if type(named) is float and named.is_integer():
        named = int(named)
    text = str(named) if type(named) in (str, int, float) else ""
    return "" if _CHATS_ACCOUNT.fullmatch(text) else text


def _claims(value: dict[str, Any]) -> dict[str, Any]:
    """Return what the token of a JSON body says, which is nothing where there is none."""
    token = value.get("token")
    part = token.split(".")[1] if type(token) is str and token.count(".") == 2 else ""
    try:
        found = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return found if type(found) is dict else {}
