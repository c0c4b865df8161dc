"""A salesbot's widget_request: the JSON that the bot's step "widget" posts to an integration.

See https://developers.kommo.com/reference/salesbot-widget-block-execution-confirmation.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import orjson

from schemas.catalogue import EVENT_TYPES
from schemas.readers import Occurrence, Reading
from schemas.wire import unix_seconds

_RETURN = re.compile(r"https://[^/\s]+/api/v4/salesbot/([1-9][0-9]{0,18})/continue/[^/\s]+")
_ID = re.compile(r"[1-9][0-9]{0,18}")
_ENTITIES = {"lead": "lead", "leads": "lead", "2": "lead", "contact": "contact", "contacts": "contact", "1": "contact"}


def read_widget_request(value: Any) -> Reading | None:
    """Return what a JSON body says, None where it is no widget_request.

    Of its token only the claims are kept: they tell who asks, and the rest is a credential. They are not verified
    here, for the webhook address says whose body it is.
    """
    if type(value) is not dict or type(value.get("return_url")) is not str or "data" not in value:
        return None
    claims = _claims(value.get("token"))
    request = {name: part for name, part in value.items() if name != "token"}
    bot = _RETURN.fullmatch(value["return_url"])
    entity, identifier = _ENTITIES.get(str(claims.get("entity_type"))), str(claims.get("entity_id"))
    if entity and _ID.fullmatch(identifier):
        subject = f"{entity}/{identifier}"
    else:
        subject = f"salesbot/{bot[1]}" if bot else "salesbot/-"
    identity = {"return_url": value["return_url"], "data": value["data"]}
    kind = EVENT_TYPES["kommo.salesbot.requested"]
    data = {"request": request, "claims": claims}
    return Reading(subject, unix_seconds(str(claims.get("iat"))), data, [Occurrence(kind, identity)])


def claimed_account(reading: Reading) -> str:
    """Return the account a request's token names; empty where it names none."""
    return str(reading.data["claims"].get("account_id") or "")


def _claims(token: Any) -> dict[str, Any]:
    part = token.split(".")[1] if type(token) is str and token.count(".") == 2 else ""
    try:
        found = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return {name: claim for name, claim in found.items() if type(claim) in (str, int)} if type(found) is dict else {}
