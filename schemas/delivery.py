"""A raw delivery: the body exactly as Kommo sent it, and the facts of the request, as they lie in kommo.webhooks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

Headers = list[tuple[str, bytes]]

Door = Literal["webhook", "integration-disabled"]
"""Which door a delivery came through: POST /webhooks/{token}, or GET /integrations/disabled (its query is the body)."""

MAX_BODY_BYTES = 1024 * 1024
_MAX_HEADER_BYTES = 1024


class DeliveryError(ValueError):
    """A record of kommo.webhooks that is no delivery; the message names the fact that is missing or wrong."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook as it arrived.

    `account_id` is the account of the webhook address (the token), whatever the body says. `received_us` is the
    gateway's receipt in microseconds since 1970, UTC. `request_id` is X-Amocrm-Requestid, empty where there was none.
    """

    account_id: int
    delivery_id: str
    received_us: int
    body: bytes
    content_type: str = ""
    request_id: str = ""
    user_agent: str = ""
    remote_address: str = ""
    door: Door = "webhook"

    @property
    def key(self) -> bytes:
        """The record key in kommo.webhooks: the account id."""
        return str(self.account_id).encode()

    def headers(self) -> Headers:
        """Return the facts as Kafka record headers; each is cut at 1 KiB."""
        facts = {
            "delivery_id": self.delivery_id,
            "received_us": str(self.received_us),
            "content_type": self.content_type,
            "request_id": self.request_id,
            "user_agent": self.user_agent,
            "remote_address": self.remote_address,
            "door": self.door,
        }
        return [(name, fact.encode("utf-8", "backslashreplace")[:_MAX_HEADER_BYTES]) for name, fact in facts.items()]


def read_delivery(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> Delivery:
    """Return the delivery a record of kommo.webhooks holds. Raises DeliveryError."""
    facts = {name: fact or b"" for name, fact in headers}  # a header of another producer may be null
    try:
        account_id = int(key or b"")
    except ValueError:
        raise DeliveryError(f"the record's key is not an account id: {key!r:.64}") from None
    try:
        received_us = int(facts["received_us"])
        delivery_id = facts["delivery_id"].decode("ascii")
    except KeyError as missing:
        raise DeliveryError(f"the record has no header {missing.args[0]}") from None
    except ValueError:
        raise DeliveryError("the record's headers received_us or delivery_id cannot be read") from None
    if value is None:
        raise DeliveryError("the record has no body")
    door = facts.get("door", b"webhook").decode("ascii", "replace")
    if door not in get_args(Door):
        raise DeliveryError(f"a delivery of a door that this program does not know: {door[:40]}")
    if not (0 < account_id < 2**63 and 0 < received_us < 2**52 and 0 < len(delivery_id) <= 64):
        raise DeliveryError("account id, received_us or delivery_id is out of range")

    def text(name: str) -> str:
        return facts.get(name, b"").decode("utf-8", "replace")

    return Delivery(
        account_id,
        delivery_id,
        received_us,
        value,
        content_type=text("content_type"),
        request_id=text("request_id"),
        user_agent=text("user_agent"),
        remote_address=text("remote_address"),
        door=cast(Door, door),
    )
