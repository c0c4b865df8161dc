"""What each body costs, compared with urllib's cost in the same moment; tests/unit/schemas compares the sums."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.form import MAX_PAIRS
from tests.soak.schemas.floods import floods, seconds
from tests.support.extremes import (
    JSON_PAST,
    MAX_COST,
    MAX_REFUSAL,
    PAST,
    WITHIN,
    decode_seconds,
    parse_seconds,
    plain_seconds,
)
from tests.support.webhooks import delivery


@pytest.mark.parametrize("name", PAST)
def test_past_a_bound_a_body_is_cheap(name: str) -> None:
    given = delivery(PAST[name][0])
    assert min(decode_seconds(given) for _ in range(3)) < MAX_REFUSAL * plain_seconds()


@pytest.mark.parametrize("name", JSON_PAST)
@pytest.mark.parametrize("content_type", ["", "application/json"])
def test_past_a_bound_json_is_cheap(name: str, content_type: str) -> None:
    given = replace(delivery(JSON_PAST[name][0]), content_type=content_type)
    assert min(decode_seconds(given) for _ in range(3)) < MAX_REFUSAL * plain_seconds()


@pytest.mark.parametrize("name", WITHIN)
def test_within_the_bounds_a_body_takes_no_longer_than_its_size(name: str) -> None:
    assert min(parse_seconds(WITHIN[name]) for _ in range(3)) < MAX_COST * plain_seconds()


@pytest.mark.parametrize("name", [name for name, body in WITHIN.items() if body.count(b"&") + 1 == MAX_PAIRS])
def test_twice_the_pairs_take_twice_the_time(name: str) -> None:
    """Nothing grows with the square of a body's size: a square would make this four each time, noise does not."""
    body = WITHIN[name]
    half = b"&".join(body.split(b"&")[: MAX_PAIRS // 2])
    assert any(parse_seconds(body) / parse_seconds(half) < 3.4 for _ in range(8))


@pytest.mark.timeout(900)
def test_no_way_to_fill_a_body_makes_a_refusal_dear() -> None:
    """A part of all combinations of names, levels, escapes, values and bounds; floods.py is all."""
    refused, dear = 0, []
    for what, body in floods(83):
        took, reason = min(seconds(body) for _ in range(2))
        refused += bool(reason)
        if reason and took > MAX_REFUSAL * plain_seconds():
            dear.append((what, took))
    assert dear == []
    assert refused > 60
