"""A raw delivery to its events: a pure function of the body and the facts of the request.

Kommo nests ENTITY[ACTION][INDEX][FIELD]. Every item becomes one event for each thing its own fields prove to have
happened; nothing comes from memory. What no reader here knows becomes kommo.unrecognized with its fields; what has
no place in an event becomes a rejection, and the other items of the same body go on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas import event, readers
from schemas.body import JsonBody, read_body
from schemas.catalogue import UNRECOGNIZED
from schemas.delivery import Delivery
from schemas.errors import ErrorClass
from schemas.event import Origin, TimeSource
from schemas.form import Form, FormError, parse_form
from schemas.identity import event_id
from schemas.readers import ItemError, Reading
from schemas.salesbot import named_accounts, read_widget_request
from schemas.wire import as_lists, unix_seconds

REVISION = 1
"""Which reading this decoder gives; a decoder that reads an old delivery otherwise has the next one."""

MAX_EVENT_BYTES = 8 * 1024 * 1024 - 64 * 1024  # what fits into kommo.events with its headers

_DAY_US = 86_400_000_000
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ACCOUNT = re.compile(r"[1-9][0-9]{0,18}")
_LINK = re.compile(r"https://[a-z0-9-]{1,63}\.(?:kommo\.com|amocrm\.com|amocrm\.ru)")
_SUBDOMAIN = re.compile(r"[a-z0-9-]{1,63}")
_MAX_ACCOUNT_BYTES = 512  # it is repeated in every event of its body


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """An event ready for kommo.events."""

    type: str
    id: str
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Rejection:
    """A part of a delivery that cannot become an event; an empty `item` is the whole delivery."""

    item: str
    reason: str
    error_class: ErrorClass


@dataclass(slots=True)
class Decoded:
    """What became of a delivery."""

    events: list[EncodedEvent] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)


def decode(delivery: Delivery, *, origin: Origin = "live") -> Decoded:
    """Return the events of a delivery and what could not become one; never raises for anything in the body."""
    result = Decoded()
    try:
        if delivery.door == "integration-disabled":
            reading = readers.read_disabled_integration(parse_form(delivery.body))
            _Encoder(delivery, origin, None, result).encode(0, "", reading)
            return result
        body = read_body(delivery.body, delivery.content_type)
        if isinstance(body, JsonBody):
            _decode_json(body, delivery, origin, result)
        else:
            _decode_form(body, delivery, origin, result)
    except (FormError, ItemError) as error:
        result.rejections.append(Rejection("", str(error), ErrorClass.VALIDATION))
    return result


def named_account(delivery: Delivery) -> int | None:
    """Return the account that a delivery's body names; None where it names none, or cannot be read."""
    try:
        body = read_body(delivery.body, delivery.content_type)
    except FormError:
        return None
    named = next(named_accounts(body.value), "") if isinstance(body, JsonBody) else _named(body)
    return int(named) if _ACCOUNT.fullmatch(named) and int(named) < 2**63 else None


def _named(form: Form) -> str:
    block = form.get("account")
    named = block.get("id") if type(block) is dict else None
    return named if type(named) is str else ""


def _decode_form(form: Form, delivery: Delivery, origin: Origin, result: Decoded) -> None:
    if _of_another(_named(form), delivery, result):
        return
    account, form = _account(form)
    encoder = _Encoder(delivery, origin, account, result)
    for number, (path, key, action, item, whole) in enumerate(_items(form)):
        try:
            reading = _read(key, action, item, whole)
        except ItemError as error:
            result.rejections.append(Rejection(_place(path), str(error), ErrorClass.VALIDATION))
        else:
            encoder.encode(number, _place(path), reading)


def _of_another(named: str, delivery: Delivery, result: Decoded) -> bool:
    if named in ("", str(delivery.account_id)):
        return False
    reason = f"the body names account {named[:20]}, the webhook address belongs to {delivery.account_id}"
    result.rejections.append(Rejection("", reason, ErrorClass.AUTHORIZATION))
    return True


def _decode_json(body: JsonBody, delivery: Delivery, origin: Origin, result: Decoded) -> None:
    if any(_of_another(named, delivery, result) for named in named_accounts(body.value)):
        return
    reading = read_widget_request(body)
    if reading is None:
        data = {"fields": {"json": body.value}}
        reading = Reading("json/-", None, data, [readers.Occurrence(UNRECOGNIZED, {"json": body.wire()})])
    _Encoder(delivery, origin, None, result).encode(0, "", reading)


def _account(form: Form) -> tuple[bytes | None, Form]:
    """Return the account block as JSON for the events, and the form without it.

    A block that is alone, no block at all, too large to repeat in every event, or with a `link` that is not ours
    stays in the form, as an item of its own.
    """
    block = form.get("account")
    if type(block) is not dict:
        return None, form
    links = block.get("_links")
    link = links.get("self") if type(links) is dict else None
    if type(link) is not str or not _LINK.fullmatch(link):
        subdomain = block.get("subdomain")
        known = type(subdomain) is str and _SUBDOMAIN.fullmatch(subdomain)
        link = f"https://{subdomain}.kommo.com" if known else None
    text = orjson.dumps({**block, "link": link} if link else block)
    if len(text) > _MAX_ACCOUNT_BYTES or "link" in block:
        return (orjson.dumps({"link": link}) if link else None), form
    if len(form) == 1:
        return text, form
    return text, {key: value for key, value in form.items() if key != "account"}


def _items(form: Form) -> Iterator[tuple[str, str, str, Any, Any]]:
    """Yield (path, key, action, item, the item nested as it came) for everything a form holds."""
    for key, actions in form.items():
        if type(actions) is not dict or key == "account":
            yield key, key, "", actions, {key: actions}
            continue
        for action, items in actions.items():
            path = f"{key}[{action}]"
            if type(items) is dict and items and all(type(item) is dict for item in items.values()):
                if not any(name.isdecimal() for name in items):  # contacts[delete][note][..]: no index at all
                    yield path, key, action, items, {key: {action: items}}
                    continue
                for index, item in items.items():
                    yield f"{path}[{index}]", key, action, item, {key: {action: {index: item}}}
            elif type(items) is dict and items and all(name.isdecimal() for name in items):
                for index, item in items.items():
                    yield f"{path}[{index}]", key, action, item, {key: {action: {index: item}}}
            else:
                yield path, key, action, items, {key: {action: items}}


def _place(path: str) -> str:
    """Return an item's path as the event's `item` says it: CloudEvents allows no control characters in a text."""
    path = path[:256]
    if path.isprintable():
        return path
    return "".join(character if character.isprintable() else "\ufffd" for character in path)


def _read(key: str, action: str, item: Any, whole: Form) -> Reading:
    reader = readers.READERS.get(key)
    reading = reader(action, item) if reader is not None else None
    return reading or _unrecognized(key, item, whole)


def _unrecognized(key: str, item: Any, whole: Form) -> Reading:
    name = key if _NAME.fullmatch(key) else "unknown"
    identifier, time_us = "-", None
    if type(item) is dict:
        for candidate in ("id", "uid", "talk_id"):
            text = item.get(candidate)
            if type(text) is str and _NAME.fullmatch(text):
                identifier = text
                break
        times = (unix_seconds(item.get(name)) for name in ("updated_at", "date_modify", "last_modified", "created_at"))
        time_us = next((found for found in times if found), None)
    data = {"fields": as_lists(whole)}
    return Reading(f"{name}/{identifier}", time_us, data, [readers.Occurrence(UNRECOGNIZED, whole)])


class _Encoder:
    """Writes the events of one delivery."""

    def __init__(self, delivery: Delivery, origin: Origin, account: bytes | None, result: Decoded) -> None:
        self._delivery = delivery
        self._origin = origin
        self._account = account
        self._result = result

    def encode(self, number: int, path: str, reading: Reading) -> None:
        delivery = self._delivery
        time_us, source = reading.time_us, "kommo"
        # A clock a day ahead of ours would hold its entity against every later event.
        if time_us is None or time_us > delivery.received_us + _DAY_US:
            time_us, source = delivery.received_us, "received"
        time = event.utc_text(time_us)
        key = f"{delivery.account_id}/{reading.subject}".encode()
        for occurrence in reading.occurrences:
            data = reading.data
            if occurrence.changes:
                data = {**data, "changes": occurrence.changes}
            if self._account:
                data = {**data, "account": orjson.Fragment(self._account)}
            kind = occurrence.type
            identity = {"delivery": delivery.delivery_id} if kind.by_delivery else occurrence.identity
            name = event_id(delivery.account_id, kind.name, reading.subject, identity)
            value = event.encode(
                event_id=name,
                event_type=kind.name,
                version=kind.version,
                subject=reading.subject,
                time=time,
                account_id=delivery.account_id,
                sequence=event.sequence(delivery.received_us, number),
                time_source=_source(source),
                delivery_id=delivery.delivery_id,
                item=path,
                revision=REVISION,
                origin=self._origin,
                data=orjson.dumps(data),
            )
            if len(value) > MAX_EVENT_BYTES:
                reason = f"its event would have {len(value)} bytes, more than {MAX_EVENT_BYTES}"
                self._result.rejections.append(Rejection(path, reason, ErrorClass.VALIDATION))
                return
            self._result.events.append(EncodedEvent(kind.name, name, key, value))


def _source(text: str) -> TimeSource:
    return "kommo" if text == "kommo" else "received"
