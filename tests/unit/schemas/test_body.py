"""Bodies of JSON: what names them, whose they are, how much of them is read; and what is no webhook's body at all."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.body import JsonBody, deeper_than, read_body
from schemas.decoder import decode
from schemas.delivery import MAX_BODY_BYTES
from schemas.errors import ErrorClass
from schemas.form import MAX_DEPTH, MAX_NESTS, FormError
from tests.support.extremes import JSON_PAST
from tests.support.webhooks import ACCOUNT_ID, delivery, load

MIB = MAX_BODY_BYTES
RETURN_URL = "https://a.kommo.com/api/v4/salesbot/3/continue/8"


def widget(data: str, *, more: str = "", token: str = "x") -> str:
    """A salesbot's request whose data is written so."""
    return f'{{"token":"{token}","data":{data},"return_url":"{RETURN_URL}"{more}}}'


def token(**claims: Any) -> str:
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{part}.c2lnbmF0dXJl"


def event(body: str, **request: Any) -> dict[str, Any]:
    decoded = decode(delivery(body.encode(), **request))
    assert decoded.rejections == []
    [found] = decoded.events
    return load(found)


def names(*bodies: str) -> int:
    """How many events these bodies are."""
    return len({event(body)["id"] for body in bodies})


def refusal(body: bytes, content_type: str = "") -> str:
    decoded = decode(replace(delivery(body), content_type=content_type))
    assert decoded.events == []
    [rejection] = decoded.rejections
    assert (rejection.item, rejection.error_class) == ("", ErrorClass.VALIDATION)
    assert len(rejection.reason) < 300
    return rejection.reason


# Identity

OTHER_NUMBERS = [
    ("1", "1.0", "1e0", "10e-1", "1.00", '"1"', "[1]"),
    ("0.1", "0.10", "0.10000000000000000001", "0.1000000000000000055511151231257827"),
    ("0", "-0", "0.0", "-0.0", "0e9", "null", "false", '""', "[]", "{}"),
    ("9007199254740993", "9007199254740992", "9007199254740993.0"),
    ("123456789012345678901234567890", "123456789012345678901234567891", "1.2345678901234568e29"),
    ("1E5", "1e5", "1e+5", "100000"),
    ("[1,2]", "[2,1]", "[1.0,2]"),
]


@pytest.mark.parametrize("texts", OTHER_NUMBERS, ids=range(len(OTHER_NUMBERS)))
@pytest.mark.parametrize("body", ["[%s]", '{"a":{"b":[%s]}}', widget('{"ask":%s}'), widget("[[%s]]")])
def test_a_number_is_named_by_its_digits_not_by_its_value(body: str, texts: tuple[str, ...]) -> None:
    assert names(*(body % text for text in texts)) == len(texts)


@pytest.mark.parametrize(
    "bodies",
    [
        ('{"a":1.50,"b":[true,"x"]}', '{"b":[true,"x"],"a":1.50}', '{ "a" : 1.50,\n "b":[true, "x"] }'),
        ('{"a":"é/"}', '{"a":"\\u00e9\\/"}', '{"\\u0061":"\\u00E9/"}'),
        ('{"a":1.0,"a":2.0}', '{"a":2.0}'),
        (
            widget('{"a":1.5,"b":2}'),
            widget('{"b":2,"a":1.5}'),
            f' {{"return_url": "{RETURN_URL}", "data": {{"a": 1.5, "b": 2}}}}',
        ),
        # Made anew, or added tomorrow: neither names the request.
        (widget("{}", token=token(iat=1)), widget("{}", token=token(iat=2)), widget("{}", more=',"attempt":2')),
    ],
)
def test_what_says_the_same_is_the_same(bodies: tuple[str, ...]) -> None:
    assert names(*bodies) == 1


def test_a_repeat_is_the_same_event_in_another_delivery() -> None:
    for body in (widget('{"price":1.50}', token=token(account_id=ACCOUNT_ID)), '{"a":[1.0,{}]}'):
        first, again = (event(body, delivery_id=name, received_us=1_790_000_000_000_000 + len(name)) for name in "ab")
        assert first["id"] == again["id"]
        assert event(body, account_id=ACCOUNT_ID)["id"] == first["id"]


def test_the_id_of_a_json_body_can_be_made_by_another_program() -> None:
    """By the words of event_id's and JsonBody.wire's descriptions: numbers are hashed as they were written."""
    body = '{"price": 1.50, "big": 123456789012345678901234567890, "a": ["é", true, null, -0]}'
    fields = '{"json":{"a":["é",true,null,-0],"big":123456789012345678901234567890,"price":1.50}}'
    text = f'[{ACCOUNT_ID},"kommo.unrecognized","json/-",{fields}]'
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    number = number & ~(0xF << 76) | 0x8 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    assert event(body)["id"] == str(uuid.UUID(int=number))


IDS = {
    widget('{"ask":"price","n":5,"t":[true,null,1.5]}'): "25a3f422-e81d-8fc2-9979-2ab0e1f458a8",
    '{"event":"ping","number":7}': "525ef9f7-801c-8aa8-9c48-db31036dd86c",
    '[1,2.5,{"a":"é"}]': "5c601d4d-2bc7-80d8-9a34-99d4dd09225f",
}


@pytest.mark.parametrize("body", IDS)
def test_ids_never_change(body: str) -> None:
    assert event(body)["id"] == IDS[body]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
        max_leaves=10,
    ).filter(lambda value: isinstance(value, dict | list))
)
def test_wire_is_the_value_in_other_digits(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        body = read_body(text, "application/json")
    except FormError:
        return  # half characters, which no UTF-8 has
    assert isinstance(body, JsonBody)
    assert json.loads(orjson.dumps(body.wire())) == value


def test_a_link_that_is_no_text_is_named_by_the_note_s_text() -> None:
    def recorded(link: str) -> str:
        note = {"note_type": "10", "element_type": "2", "element_id": "5", "text": f'{{"UNIQ":"u","LINK":{link}}}'}
        return str(decode(delivery({"leads": {"note": {"0": {"note": note}}}})).events[1].id)

    assert len({recorded(link) for link in ("1.0", "1.00", "[1]", '"1"')}) == 4
    assert recorded('"\\u0061"') == recorded('"a"')


# Whose it is

OF_ANOTHER = [
    widget("{}", token=token(account_id=ACCOUNT_ID + 1)),
    widget("{}", token=token(account_id=str(ACCOUNT_ID + 1))),
    widget("{}", token=token(account_id=ACCOUNT_ID + 0.5)),
    widget("{}", token=token(account_id=ACCOUNT_ID), more=f',"account_id":{ACCOUNT_ID + 1}'),
    f'{{"token":"{token(account_id=ACCOUNT_ID + 1)}"}}',
    f'{{"account_id":{ACCOUNT_ID + 1}}}',
    f'{{"account_id":"0{ACCOUNT_ID}"}}',
    f'{{"account":{{"id":"{ACCOUNT_ID + 1}"}},"leads":{{}}}}',
    f'[{{"account_id":{ACCOUNT_ID}}},{{"account_id":{ACCOUNT_ID + 1}}}]',
    f'{{"account_id":{10**30}}}',
]


@pytest.mark.parametrize("body", OF_ANOTHER, ids=range(len(OF_ANOTHER)))
@pytest.mark.parametrize("content_type", ["", "application/json; charset=utf-8"])
def test_json_of_another_account_is_set_aside_whole(body: str, content_type: str) -> None:
    decoded = decode(replace(delivery(body.encode()), content_type=content_type))
    assert decoded.events == []
    [rejection] = decoded.rejections
    assert (rejection.item, rejection.error_class) == ("", ErrorClass.AUTHORIZATION)
    assert f"the webhook address belongs to {ACCOUNT_ID}" in rejection.reason


@pytest.mark.parametrize(
    "body",
    [
        widget("{}", token=token(account_id=ACCOUNT_ID)),
        widget("{}", token=token(account_id=float(ACCOUNT_ID))),
        widget("{}", token=token(account_id="")),
        widget(f'{{"account_id":{ACCOUNT_ID + 1},"account":{{"id":1}}}}'),  # the author's own data
        f'{{"account_id":"{ACCOUNT_ID}","account":{{"id":{ACCOUNT_ID}}}}}',
        '{"account_id":"52e591f7-c98f-4255-8495-827210138c81"}',  # the chats' number of an account
        '{"account_id":null,"account":{}}',
        '{"account":7}',
    ],
)
def test_json_of_this_account_or_of_none_is_read(body: str) -> None:
    assert event(body)["accountid"] == str(ACCOUNT_ID)


# How much of it is read


@pytest.mark.parametrize("name", JSON_PAST)
@pytest.mark.parametrize("content_type", ["", "application/json"])
def test_json_past_a_bound_is_a_rejection_that_names_it(name: str, content_type: str) -> None:
    body, wanted = JSON_PAST[name]
    assert wanted in refusal(body, content_type)


def test_json_within_the_bounds_is_read() -> None:
    for body in (
        b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH,
        b"[" + b"[]," * (MAX_NESTS - 2) + b"1]",
        b'["' + b"x" * (MIB - 4) + b'"]',
    ):
        assert [found.type for found in decode(delivery(body)).events] == ["kommo.unrecognized"]


@given(st.recursive(st.just(1), lambda child: st.lists(child, max_size=3), max_leaves=12), st.integers(0, 6))
def test_deeper_than(value: Any, levels: int) -> None:
    def steps(value: Any) -> int:
        return 1 + max(map(steps, value)) if isinstance(value, list) and value else 0

    assert deeper_than(levels, value) is (steps(value) > levels)


# What is no webhook's body

STRANGE: dict[bytes, str] = {
    b"hello world": "not a form: nothing in it has a value; it looks like plain text",
    b"leads%5Badd%5D%5B0%5D": "plain text",
    b"hello & goodbye": "plain text",
    b"null": "plain text",
    b"hello\nworld": "several lines of text",
    b"leads[add][0][id]=5&\nleads[add][0][name]=x": "0x0a at position 20; it looks like several lines",
    b"<!doctype html><html>": "HTML or XML",
    b"<html lang='en'>\n<body>": "HTML or XML",
    b"POST /webhooks/x HTTP/1.1\r\nHost: a\r\n\r\na=1": "a whole HTTP request, with its head",
    b"Content-Type: text/plain\r\n\r\na=1": "a whole HTTP request, with its head",
    b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1': "a multipart form",
    b"\x1f\x8b\x08\x00=": "a compressed file",
    b"\x00\x01\x02": "binary data",
    b'{"token":"x","data":{"a":1': "unexpected end of data: line 1 column 27 (char 26); it looks cut off",
    b"{": "cut off at its end",
    b"[": "cut off at its end",
    b' {"a": "x': "cut off at its end",
    b'{"a":b}': "it looks broken",
    b'{"a":1}\n{"a":2}': "it looks broken",
    b"{'a': 1}": "plain text",
    b'[{"a":NaN}]': "it looks broken",
}


@pytest.mark.parametrize("body", STRANGE, ids=range(len(STRANGE)))
def test_what_is_no_webhook_is_set_aside_with_what_it_looks_like_and_what_to_do(body: bytes) -> None:
    reason = refusal(body)
    assert STRANGE[body] in reason
    assert "a webhook's body is one line like leads[add][0][id]=5&..." in reason


@pytest.mark.parametrize("body", [b"", b" ", b"\n", b"\r\n\t", b"&&", b"=", b"[a]=1"])
@pytest.mark.parametrize("content_type", ["", "application/x-www-form-urlencoded"])
def test_an_empty_body_is_said_to_be_empty(body: bytes, content_type: str) -> None:
    assert refusal(body, content_type) == "an empty body"


def test_what_only_begins_like_json_is_a_form() -> None:
    for body, fields in ((b"{=1", {"{": "1"}), (b"{x}[a]=1", {"{x}": {"a": "1"}})):
        assert load(decode(delivery(body)).events[0])["data"]["fields"] == fields
    assert event("[x]=1&leads[delete][0][id]=5")["subject"] == "lead/5"
    assert "not JSON, though its content type says so" in refusal(b"{=1", "application/json")
