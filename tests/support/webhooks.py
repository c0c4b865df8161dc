"""What the tests of schemas/ share: the corpus, deliveries, odd texts, and what is true of every result."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from schemas.catalogue import EVENT_TYPES
from schemas.decoder import MAX_EVENT_BYTES, REVISION, Decoded, EncodedEvent, decode
from schemas.delivery import Delivery
from schemas.event import Event
from schemas.outcome import OutcomeEvent
from tests.support import CORPUS

EXPECTED = CORPUS / "events.json"

ACCOUNT_ID = 16700680
"""The account of a body that names none."""
DELIVERY_ID = "01996bd1-9a40-7000-8000-000000000001"
RECEIVED_US = 1_790_000_000_123_456

_DAY_S = 86_400

_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_NUMBER = re.compile(r"\s*[-+]?[0-9][0-9_]*(\.0*)?\s*")
_INDEX = re.compile(r"\[([^\[\]]*)\]")


def bodies() -> list[Path]:
    """Return the bodies of the corpus in the order of their numbers."""
    return sorted(CORPUS.glob("*.form"))


def nested(body: bytes) -> dict[str, Any]:
    """Nest a tame body (every key whole, no `[]`, no scalar beside a nest), written without the parser under test."""
    root: dict[str, Any] = {}
    for key, value in parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True):
        match = _KEY.fullmatch(key)
        assert match, f"not a tame key: {key}"
        path = [match[1], *_INDEX.findall(match[2])]
        node = root
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return root


def pairs(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Return a tree of texts as the pairs that http_build_query writes."""
    if isinstance(tree, dict):
        return [pair for name, value in tree.items() for pair in pairs(value, (*path, name))]
    return [(path[0] + "".join(f"[{name}]" for name in path[1:]), tree)]


def encoded(tree: dict[str, Any]) -> bytes:
    """Return a tree of texts as a body, encoded as PHP's http_build_query does."""
    return urlencode(pairs(tree)).encode()


def delivery(
    body: bytes | dict[str, Any],
    *,
    account_id: int = ACCOUNT_ID,
    delivery_id: str = DELIVERY_ID,
    received_us: int = RECEIVED_US,
) -> Delivery:
    """Return a delivery of a body, or of a tree of texts."""
    return Delivery(account_id, delivery_id, received_us, encoded(body) if isinstance(body, dict) else body)


def corpus_delivery(path: Path) -> Delivery:
    """Return a body of the corpus as a delivery of the account it names."""
    body = path.read_bytes()
    account = nested(body).get("account", {}).get("id", str(ACCOUNT_ID))
    return delivery(body, account_id=int(account))


def said(data: dict[str, Any], item: str) -> Any:
    """Return what an event's data says of its item, nested as the item was."""
    if "fields" in data:
        node = data["fields"]
        for name in re.split(r"\]?\[|\]", item):
            if name:
                node = node[int(name) if isinstance(node, list) else name]
        return node
    if "note" in data:
        beside = data.get("beside", {})
        return {"note": data["note"], **beside}
    return next(value for name, value in data.items() if name not in ("account", "changes", "trigger"))


def same(wire: Any, read: Any) -> bool:
    """Say whether a value in an event is what the body said: no field less, none more, no other value."""
    if isinstance(wire, dict):
        if isinstance(read, list):
            read = {str(number): value for number, value in enumerate(read)}
        return isinstance(read, dict) and wire.keys() == read.keys() and all(same(wire[k], read[k]) for k in wire)
    if read is None:
        return wire in ("", "''")
    if isinstance(read, int):
        return re.fullmatch(r"\s*[-+]?[0-9][0-9_]*(\.0*)?\s*", wire) is not None and int(float(wire)) == int(
            float(read)
        )
    return isinstance(read, str) and (read == wire or f"'{read}'" == wire)


def load(event: EncodedEvent | OutcomeEvent) -> dict[str, Any]:
    """Return an encoded event as it lies in kommo.events."""
    value: dict[str, Any] = json.loads(event.value)
    return value


def checked(given: Delivery) -> Decoded:
    """Decode, and hold what is true of every result, whatever was in the body."""
    decoded = decode(given)
    assert decode(given) == decoded
    assert decoded.events or decoded.rejections
    for found in decoded.events:
        assert len(found.value) <= MAX_EVENT_BYTES
        event = Event.from_json(found.value)
        assert event.to_json() == found.value
        assert Event(**json.loads(found.value)) == event
        assert (event.id, event.type, event.key) == (found.id, found.type, found.key)
        assert found.key.decode() == f"{given.account_id}/{event.subject}"
        assert event.accountid == str(given.account_id)
        assert event.deliveryid == event.correlationid == given.delivery_id
        assert (event.revision, event.origin) == (REVISION, "live")
        assert event.timesource in ("kommo", "received")
        if event.timesource == "received":
            assert event.time.timestamp() == pytest.approx(given.received_us / 1e6, abs=1e-5)
        else:
            assert 0 < event.time.timestamp() <= given.received_us / 1e6 + _DAY_S
        model = EVENT_TYPES[event.type].model
        read = model.model_validate(event.data)
        assert read.model_dump(mode="json", exclude_unset=True) == event.data
    numbers = [json.loads(found.value)["sequence"] for found in decoded.events]
    assert numbers == sorted(numbers)
    return decoded


CALL_TEXTS = [
    '{"UNIQ":"u1","LINK":"https://example.com/1.mp3","PHONE":"+1","DURATION":"65","SRC":"pbx"}',
    '{"UNIQ":"u1","LINK":"","PHONE":"+1","DURATION":0,"SRC":"pbx"}',
    '{"UNIQ":"","PHONE":"1"}',
    '{"uniq":12,"link":null,"duration":"x","direction":"sideways","call_status":"4","call_result":"","extra":[1,{}]}',
    '{"UNIQ":{"a":1},"LINK":["x"],"DURATION":1e400,"PHONE":123456789012345678901234567890}',
    '["UNIQ"]',
    '"UNIQ"',
    "7",
    "null",
    '{"UNIQ":"u1"',
    '{"UNIQ":"\\ud800"}',
    '{"UNIQ":"\\u0000"}',
    "called back",
    "",
]

ODD_TEXTS = [
    "",
    "0",
    "-1",
    "1",
    "x",
    "17265663a90",
    "99999999999999999999",
    "9999999999",
    "1726580291",
    "2024-09-17 16:38:11",
    "0000-00-00 00:00:00",
    "0001-01-01 00:00:00",
    "9999-12-31 23:59:59",
    "'",
    "''",
    "'x'",
    "null",
    "5.0",
    " 5",
    "٣",
    "\x00",
    "\u2028😀",
    "a" * 300,
    "9" * 5000,
    "company",
]
