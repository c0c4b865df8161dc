"""A snapshot says the values of custom fields, however Kommo nests them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from projections.snapshot import snapshot
from tests.support.projections import T0, Log, body, lead


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"0": {"value": "a"}}, "a"),
        ({"0": {"value": "a", "enum": "1"}, "1": {"value": "b"}}, ["a", "b"]),
        ({"0": "1729717200"}, "2024-10-23T21:00:00Z"),
        ({"0": "soon"}, "soon"),
        ({"value": "2", "enum": "566642"}, "2"),
        ({"0": {"value": {"quantity": "1"}}}, {"quantity": "1"}),
        ("x", "x"),
        ({}, []),
    ],
)
def test_the_ways_kommo_nests_values(values: Any, wanted: Any) -> None:
    field = {"id": 1, "name": "F", "values": values}
    content = body("leads", "update", lead(5, T0, date_create=T0 - 1000, custom_fields={"0": field}))
    [event] = Log().deliver(content, T0)
    said = json.loads(snapshot(event) or "")
    assert said["custom"] == ({"1": ["F", wanted]} if values != {} else {"1": ["F", None]})
