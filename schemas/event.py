"""The event: a CloudEvents 1.0 event in structured JSON mode, with the project's extensions.

See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md for the attributes.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

CONTENT_TYPE = b"application/cloudevents+json; charset=utf-8"
HEADERS: list[tuple[str, bytes]] = [("content-type", CONTENT_TYPE)]
SOURCE = "/kommo/accounts/"
SCHEMA = "urn:kommo-streams:"

Origin = Literal["live", "replay", "import", "reconcile", "snapshot"]
TimeSource = Literal["kommo", "received", "agent"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class EventError(ValueError):
    """Bytes that are no event of this project; the message says what is wrong."""


class NewerEventError(EventError):
    """An event of a version this program does not know yet: it must be read by a newer program, never skipped."""


class Event(BaseModel):
    """One thing that happened, as it lies in kommo.events; the record key is `account/subject`.

    `time` is Kommo's (UTC; `timesource` kommo), the gateway's receipt (`received`), or when an agent of ours did it
    (`agent`). `sequence` orders what shares a time: receipt in microseconds and the item's number in its body, fixed
    width, so texts compare like numbers.
    `deliveryid` and `item` say which part of which delivery this was read from, `revision` by which reading.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    source: str = Field(min_length=1, max_length=200)
    type: str = Field(pattern=r"^kommo\.[a-z0-9_.]{1,80}$")
    subject: str = Field(pattern=r"^[^/\s]{1,64}/[^\s]{1,128}$")
    time: dt.datetime
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str = Field(pattern=r"^urn:kommo-streams:[a-z0-9_.]+:[0-9]{1,6}$")
    accountid: str = Field(pattern=r"^[1-9][0-9]{0,18}$")
    sequence: str = Field(pattern=r"^[0-9]{16}-[0-9]{6}$")
    timesource: TimeSource
    deliveryid: str = Field(max_length=64)
    item: str = Field(max_length=256)
    revision: int = Field(ge=1, lt=2**31)
    origin: Origin
    correlationid: str = Field(max_length=128)
    causationid: str | None = Field(None, max_length=128)
    data: dict[str, Any]

    @property
    def key(self) -> bytes:
        """The record key in kommo.events: account/entity/id."""
        return f"{self.accountid}/{self.subject}".encode()

    @property
    def version(self) -> int:
        """The version of the data's model, from `dataschema`."""
        return int(self.dataschema.rpartition(":")[2])

    def to_json(self) -> bytes:
        """Return the event as structured-mode JSON."""
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def from_json(cls, value: bytes) -> Self:
        """Read an event. Raises EventError that names the wrong attribute, never the data."""
        try:
            return cls.model_validate_json(value)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "value"
            raise EventError(f"not an event: {where}: {first['msg']}") from None


def encode(
    *,
    event_id: str,
    event_type: str,
    version: int,
    subject: str,
    time: str,
    account_id: int,
    sequence: str,
    time_source: TimeSource,
    delivery_id: str,
    item: str,
    revision: int,
    origin: Origin,
    data: bytes,
    correlation_id: str | None = None,
    causation_id: str | None = None,
) -> bytes:
    """Return an event's JSON from parts that are right by construction; `data` is JSON already.

    The hot way of ingest: the same bytes as Event(...).to_json(), without building the model. The correlation id is
    the delivery's where none is given.
    """
    caused = {} if causation_id is None else {"causationid": causation_id}
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": f"{SOURCE}{account_id}",
            "type": event_type,
            "subject": subject,
            "time": time,
            "datacontenttype": "application/json",
            "dataschema": f"{SCHEMA}{event_type}:{version}",
            "accountid": str(account_id),
            "sequence": sequence,
            "timesource": time_source,
            "deliveryid": delivery_id,
            "item": item,
            "revision": revision,
            "origin": origin,
            "correlationid": delivery_id if correlation_id is None else correlation_id,
            **caused,
            "data": orjson.Fragment(data),
        }
    )


def sequence(received_us: int, number: int) -> str:
    """Return the sequence of the item with this number in a delivery received at this microsecond."""
    return f"{received_us:016d}-{min(number, 999_999):06d}"


def utc_text(microseconds: int) -> str:
    """Return microseconds since 1970 as RFC 3339 in UTC, without a fraction where there is none."""
    moment = _EPOCH + dt.timedelta(microseconds=microseconds)
    return moment.isoformat().removesuffix("+00:00") + "Z"
