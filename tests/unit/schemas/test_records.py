"""Deliveries and dead letters as Kafka records, there and back; what is neither says which fact is wrong."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.deadletter import PREFIX, DeadLetter, read_headers
from schemas.delivery import Delivery, DeliveryError, read_delivery
from schemas.errors import ErrorClass
from schemas.identity import new_delivery_id
from tests.support.webhooks import DELIVERY_ID, RECEIVED_US

_facts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(
    st.integers(1, 2**63 - 1),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64),
    st.integers(1, 2**52 - 1),
    st.binary(max_size=50),
    st.tuples(_facts, _facts, _facts, _facts),
)
def test_a_delivery_is_read_as_it_was_written(
    account_id: int, delivery_id: str, received_us: int, body: bytes, facts: tuple[str, str, str, str]
) -> None:
    written = Delivery(account_id, delivery_id, received_us, body, *facts)
    assert read_delivery(written.key, written.body, written.headers()) == written
    assert written.key == str(account_id).encode()


def test_a_delivery_without_the_facts_that_may_be_missing() -> None:
    headers = [("received_us", str(RECEIVED_US).encode()), ("delivery_id", DELIVERY_ID.encode())]
    assert read_delivery(b"7", b"a=1", headers) == Delivery(7, DELIVERY_ID, RECEIVED_US, b"a=1")
    assert (
        read_delivery(b"7", b"", [*headers, ("traceparent", b"00-x"), ("user_agent", b"\xff")]).user_agent == "\ufffd"
    )


def test_long_and_odd_facts_are_cut_and_never_refused() -> None:
    written = Delivery(7, new_delivery_id(), RECEIVED_US, b"", "ж" * 5000, "\ud800", "x" * 1025)
    read = read_delivery(written.key, written.body, written.headers())
    assert all(len(value) <= 1024 for _, value in written.headers())
    assert read.content_type.startswith("ж" * 500)
    assert (read.request_id, read.user_agent) == ("\\ud800", "x" * 1024)


def _headers(**changes: Any) -> list[tuple[str, Any]]:
    headers = {**dict(Delivery(7, DELIVERY_ID, RECEIVED_US, b"").headers()), **changes}
    return [(name, value) for name, value in headers.items() if value != "missing"]


@pytest.mark.parametrize(
    ("key", "value", "headers", "fact"),
    [
        (None, b"", _headers(), "key"),
        (b"", b"", _headers(), "key"),
        (b"lead/5", b"", _headers(), "key"),
        (b"\xff", b"", _headers(), "key"),
        (b"9" * 5000, b"", _headers(), "key"),
        (b"0", b"", _headers(), "account id"),
        (b"-7", b"", _headers(), "account id"),
        (str(2**63).encode(), b"", _headers(), "account id"),
        (b"7", None, _headers(), "body"),
        (b"7", b"", [], "received_us"),
        (b"7", b"", _headers(received_us="missing"), "received_us"),
        (b"7", b"", _headers(received_us=b""), "received_us"),
        (b"7", b"", _headers(received_us=None), "received_us"),
        (b"7", b"", _headers(received_us=b"yesterday"), "received_us"),
        (b"7", b"", _headers(received_us=b"0"), "received_us"),
        (b"7", b"", _headers(received_us=b"-1"), "received_us"),
        (b"7", b"", _headers(received_us=str(2**52).encode()), "received_us"),
        (b"7", b"", _headers(delivery_id="missing"), "delivery_id"),
        (b"7", b"", _headers(delivery_id=b""), "delivery_id"),
        (b"7", b"", _headers(delivery_id=None), "delivery_id"),
        (b"7", b"", _headers(delivery_id=b"x" * 65), "delivery_id"),
        (b"7", b"", _headers(delivery_id="ж".encode()), "delivery_id"),
    ],
)
def test_a_record_that_is_no_delivery_says_which_fact_is_wrong(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, Any]], fact: str
) -> None:
    with pytest.raises(DeliveryError, match=fact) as caught:
        read_delivery(key, value, headers)
    assert len(str(caught.value)) < 200


def _letter(**changes: Any) -> DeadLetter:
    parts: dict[str, Any] = {
        "reason": "a lead with no id",
        "error_class": ErrorClass.VALIDATION,
        "reader": "ingest",
        "topic": "kommo.webhooks.g1",
        "partition": 3,
        "offset": 12,
        "key": b"7",
        "value": b"a=1",
        "original_headers": tuple(Delivery(7, DELIVERY_ID, RECEIVED_US, b"").headers()),
        "item": "leads[add][0]",
        "correlation_id": DELIVERY_ID,
    }
    return DeadLetter(**{**parts, **changes})


def test_a_dead_letter_says_why_and_where_from() -> None:
    before = time.time_ns() // 1000
    said = read_headers(_letter().headers())
    at_us = said.pop("at_us")
    assert before <= int(at_us) <= time.time_ns() // 1000
    assert said == {
        "attempts": "1",
        "first_at_us": at_us,
        "reason": "a lead with no id",
        "error_class": "validation",
        "reader": "ingest",
        "topic": "kommo.webhooks.g1",
        "partition": "3",
        "offset": "12",
        "item": "leads[add][0]",
        "correlation_id": DELIVERY_ID,
    }


def test_the_original_can_be_made_again_from_its_dead_letter() -> None:
    """Its headers are kept as they were, so sending it back needs nothing else."""
    letter = _letter()
    kept = [(name, value) for name, value in letter.headers() if not name.startswith(PREFIX)]
    assert kept == list(letter.original_headers)
    assert read_delivery(letter.key, letter.value, letter.headers()) == Delivery(7, DELIVERY_ID, RECEIVED_US, b"a=1")


def test_a_letter_that_died_twice_has_one_reason() -> None:
    first = _letter(reason="first")
    second = _letter(reason="second", original_headers=tuple(first.headers()))
    names = [name for name, _ in second.headers()]
    assert len(names) == len(set(names))
    assert read_headers(second.headers())["reason"] == "second"


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_every_class_of_error_fits(error_class: ErrorClass) -> None:
    assert read_headers(_letter(error_class=error_class).headers())["error_class"] == error_class.value


def test_odd_letters() -> None:
    said = read_headers(_letter(reason="ж" * 5000, item="\ud800", key=None, value=None, original_headers=()).headers())
    assert said["reason"].startswith("ж" * 900)
    assert len(said["reason"].encode()) < 2010
    assert said["item"] == "?"
    assert read_headers([(PREFIX + "reason", None), ("other", b"x")]) == {"reason": ""}  # type: ignore[list-item]
    assert read_headers([]) == {}
