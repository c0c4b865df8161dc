"""A command: an action that is asked for, in an envelope, as it lies in kommo.commands.

The envelope is a CloudEvents 1.0 event in structured JSON mode, as those of kommo.events are; its type is
`kommo.command.<action>`, its data the action's fields (schemas/actions.py).
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from typing import Annotated, Any, Literal, NamedTuple, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import from_json

from schemas.actions import ACTIONS, Action, Moment

PREFIX = "kommo.command."
SCHEMA = "urn:kommo-streams:kommo.command."
VERSION = 1

_SPACE = uuid.UUID("0e5f4f8a-6a57-5c43-9a9e-2c8d5d0f7a11")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ACCOUNT = re.compile(r"[1-9][0-9]{0,17}")
_TYPE = re.compile(r"kommo\.command\.([a-z_]{1,40})")
_KEY = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,126}[\x21-\x7e])?", re.ASCII)
_PART = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Told(NamedTuple):
    """Whose command something is, and which, as far as it can be read: "", 0 and "" where it cannot."""

    id: str
    account_id: int
    action: str


class CommandError(ValueError):
    """Bytes that are no command; the message names the wrong field, never its value.

    `id`, `account_id` and `action` are the command's, as far as they can be read.
    """

    def __init__(self, message: str, field: str = "", *, told: Told | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.id, self.account_id, self.action = told or Told("", 0, "")


Uuid = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
_Plain = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""What CloudEvents calls a String: without control characters."""


class Envelope(BaseModel):
    """A command as it lies in kommo.commands: CloudEvents' attributes, and the action's fields in `data`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    specversion: Literal["1.0"] = "1.0"
    id: Uuid
    source: _Plain = Field("/kommo-streams", max_length=200)
    type: str
    subject: str | None = Field(None, max_length=160)
    time: Moment | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str | None = Field(None, max_length=120)
    accountid: str = Field(pattern=r"^[1-9][0-9]{0,17}$")
    after: Uuid | None = None
    expires: Moment | None = None
    correlationid: _Plain | None = Field(None, max_length=128)
    causationid: _Plain | None = Field(None, max_length=128)
    data: dict[str, Any]


_DATA: dict[str, type[BaseModel]] = {
    name: create_model(name, __config__=ConfigDict(hide_input_in_errors=True), data=(action, ...))
    for name, action in ACTIONS.items()
}
"""An envelope of which only the data is read, as one action's."""


class Command(BaseModel):
    """What is to be carried out once, for one account.

    `id` makes it that: a command of a known id is the same command, whatever else it says. `time` is when it was
    asked for, UTC. `after`: the command that must have succeeded before; it gives its entity where an id is "after".
    From `expires` on it is not begun any more. `correlationid` (by default the id) is on all that comes of it.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    id: str
    account_id: int
    action: Action
    time: dt.datetime
    after: str | None = None
    expires: dt.datetime | None = None
    correlation_id: str
    causation_id: str | None = None
    source: str = "/kommo-streams"

    @property
    def name(self) -> str:
        """The action's name."""
        return self.action.action

    @property
    def subject(self) -> str:
        """The entity whose commands keep their order: `lead/123`, or `lead/new:<id of the command that makes it>`."""
        kind, entity_id = self.action.element()
        if entity_id is None:
            return f"{kind}/new:{self.id}"
        return f"{kind}/new:{self.after}" if entity_id == "after" else f"{kind}/{entity_id}"

    @property
    def key(self) -> bytes:
        """The record key in kommo.commands: account/entity/id."""
        return f"{self.account_id}/{self.subject}".encode()

    def data(self) -> dict[str, Any]:
        """Return the action's fields as JSON has them, without those that are not set."""
        return self.action.model_dump(mode="json", exclude_unset=True)

    def to_json(self) -> bytes:
        """Return the command as structured-mode JSON."""
        envelope = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": f"{PREFIX}{self.name}",
            "subject": self.subject,
            "time": self.time.isoformat(),
            "datacontenttype": "application/json",
            "dataschema": f"{SCHEMA}{self.name}:{VERSION}",
            "accountid": str(self.account_id),
            "after": self.after,
            "expires": self.expires and self.expires.isoformat(),
            "correlationid": self.correlation_id,
            "causationid": self.causation_id,
            "data": self.data(),
        }
        return orjson.dumps({name: value for name, value in envelope.items() if value is not None})

    @classmethod
    def make(
        cls,
        action: Action,
        *,
        account_id: int,
        command_id: str | None = None,
        after: str | None = None,
        expires: dt.datetime | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        source: str = "/kommo-streams",
    ) -> Self:
        """Return a command of this moment; without an id it gets a new one. Raises CommandError."""
        command_id = command_id or str(uuid.uuid4())
        made = cls(
            id=command_id,
            account_id=account_id,
            action=action,
            time=dt.datetime.now(dt.UTC),
            after=after,
            expires=expires,
            correlation_id=correlation_id or command_id,
            causation_id=causation_id,
            source=source,
        )
        try:
            value = made.to_json()
        except TypeError:
            raise CommandError("value: cannot be written as JSON") from None
        return cls.from_json(value)  # what cannot be read must not be made

    @classmethod
    def from_json(cls, value: bytes | None) -> Self:
        """Read a command. Raises CommandError that names the wrong field, never what it holds."""
        told = whose(value)
        try:
            envelope = Envelope.model_validate_json(value or b"")
        except ValidationError as error:
            raise _refusal(error, told) from None
        match = _TYPE.fullmatch(envelope.type)
        if match is None or match[1] not in ACTIONS:
            known = ", ".join(ACTIONS)
            raise CommandError(f"type: no action of that name; there are {known}", "type", told=told)
        if envelope.dataschema not in (None, f"{SCHEMA}{match[1]}:{VERSION}"):
            only = f"must be {SCHEMA}{match[1]}:{VERSION}, or left out: this program knows no other"
            raise CommandError(f"dataschema: {only}", "dataschema", told=told)
        try:
            # From JSON: there a moment is a text, and nothing else is taken for what it is not.
            action = vars(_DATA[match[1]].model_validate_json(value or b""))["data"]
        except ValidationError as error:
            raise _refusal(error, told) from None
        command = cls(
            id=envelope.id,
            account_id=int(envelope.accountid),
            action=action,
            time=envelope.time or dt.datetime.now(dt.UTC),
            after=envelope.after,
            expires=envelope.expires,
            correlation_id=envelope.correlationid or envelope.id,
            causation_id=envelope.causationid,
            source=envelope.source,
        )
        _check_after(command)
        if envelope.subject is not None and envelope.subject != command.subject:
            raise CommandError(f"subject: must be {command.subject}, or left out", "subject", told=told)
        return command


def id_of_key(account_id: int, idempotency_key: str) -> str:
    """Return the command id that an account's idempotency key stands for (a UUID of version 5, RFC 9562).

    Raises CommandError where the key is none: an empty one would make all that is asked for one command.
    """
    if not _KEY.fullmatch(idempotency_key):
        raise CommandError("key: must have 1 to 128 printable ASCII characters", "key")
    return str(uuid.uuid5(_SPACE, f"{account_id}/{idempotency_key}"))


def _check_after(command: Command) -> None:
    told = Told(command.id, command.account_id, command.name)
    wants = command.action.element()[1] == "after" or getattr(command.action, "contact_id", None) == "after"
    if wants and command.after is None:
        raise CommandError('after: an id is "after", so the envelope must name the command', "after", told=told)
    if command.after == command.id:
        raise CommandError("after: a command cannot wait for itself", "after", told=told)


def _refusal(error: ValidationError, told: Told) -> CommandError:
    first = error.errors(include_input=False, include_url=False)[0]
    # A field's name may be anything where there should be none.
    path = ".".join(str(part) if _PART.fullmatch(str(part)) else "?" for part in first["loc"])
    why = first["msg"].removeprefix("Value error, ")
    if "reason" in first.get("ctx", {}):  # of a mail address, and shows parts of it
        why = why.partition(":")[0]
    return CommandError(f"{path or 'value'}: {why}", path, told=told)


def whose(value: bytes | None) -> Told:
    """Return whose and which command bytes name that may be none: only what has the right form."""
    try:
        found = from_json(value or b"")  # as the models read it
        told = [found.get(key) for key in ("id", "accountid", "type")]
    except (ValueError, AttributeError):
        return Told("", 0, "")
    name, account, kind = (text if isinstance(text, str) else "" for text in told)
    match = _TYPE.fullmatch(kind)
    known = _ID.fullmatch(name) is not None and _ACCOUNT.fullmatch(account) is not None
    return Told(name if known else "", int(account) if known else 0, match[1] if match else "")
