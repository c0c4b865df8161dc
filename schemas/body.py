"""What a delivery's body holds: a form, or the JSON that a salesbot posts; and what a body that is neither looks like.

No models here, so that `kommo-streams decode --form` starts fast.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.form import MAX_DEPTH, MAX_NESTS, ControlCharacterError, Form, FormError, check_size, parse_form

_JSON = re.compile(rb'\s*(?:\{\s*(?:["}]|\Z)|\[\s*(?:["{\[\]]|\Z))')  # a form may begin with a bracket too: [a]=1
_JSON_TEXT = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_OPENING, _CLOSING = "[{", "]}"
_BEGINNINGS = (
    (re.compile(rb"\s*<[!?a-zA-Z]"), "HTML or XML"),
    (re.compile(rb"[A-Z]{3,7} \S+ HTTP/|[A-Za-z-]+: [^\r\n]*\r?\n"), "a whole HTTP request, with its head"),
    (re.compile(rb"--[^\r\n]+\r?\n"), "a multipart form"),
    (re.compile(rb"\x1f\x8b|\x28\xb5\x2f\xfd|PK\x03\x04"), "a compressed file"),
)
_TOO_DEEP = f"JSON nested deeper than {MAX_DEPTH} levels"
_WHAT_TO_DO = (
    "a webhook's body is one line like leads[add][0][id]=5&..., or a salesbot's JSON; take it alone, as it came"
)


@dataclass(frozen=True, slots=True)
class JsonBody:
    """A body that is JSON: its value, and the text that it was read from."""

    value: Any
    text: bytes

    def wire(self) -> Any:
        """Return the value with its numbers as they are written, for identity: 1, 1.0 and 1e0 are three.

        So are 0.1 and 0.10000000000000000001, which are one as a float. The rest says the same however it is written:
        the order of keys, white space, and escapes in a text do not count, and of two equal keys the last does.
        """
        return json.loads(self.text.decode(), parse_int=orjson.Fragment, parse_float=orjson.Fragment)


def read_body(body: bytes, content_type: str = "") -> Form | JsonBody:
    """Return what a body holds; JSON is told by its content type or by its first character.

    Raises FormError for a body that is past a bound, that is neither, or that holds nothing. The bounds of JSON are
    MAX_BODY_BYTES, MAX_DEPTH, and MAX_NESTS for the brackets and braces in it.
    """
    check_size(body)
    if not body or body.isspace():
        raise FormError("an empty body")
    declared = content_type[:16].lower() == "application/json"
    if declared or body[:1] in (b"{", b"[") or (body[:1].isspace() and body.lstrip()[:1] in (b"{", b"[")):
        try:
            return JsonBody(_json(body), body)
        except orjson.JSONDecodeError as error:
            if declared or _JSON.match(body):
                raise FormError(_no_json(error, declared)) from None
    try:
        form = parse_form(body)
    except ControlCharacterError as error:
        raise FormError(f"{error}; {_looks(body)}") from None
    if not form:
        raise FormError("an empty body")
    if b"=" not in body:
        raise FormError(f"not a form: nothing in it has a value; {_looks(body)}")
    return form


def deeper_than(levels: int, value: Any) -> bool:
    """Return whether a JSON value nests deeper than this."""
    nests = [value]
    for _ in range(levels):
        nests = [child for nest in nests for child in _children(nest) if type(child) is dict or type(child) is list]
    return any(_children(nest) for nest in nests)


def _children(value: Any) -> Any:
    return value.values() if type(value) is dict else value if type(value) is list else ()


def _json(body: bytes) -> Any:
    if body.count(b"[") + body.count(b"{") > MAX_NESTS:  # counted first, for to read them takes longer
        raise FormError(f"JSON of more than {MAX_NESTS} nested values")
    value = orjson.loads(body)
    if deeper_than(MAX_DEPTH, value):
        raise FormError(_TOO_DEEP)
    return value


def _no_json(error: orjson.JSONDecodeError, declared: bool) -> str:
    before = _JSON_TEXT.sub("", error.doc[: error.pos])
    if sum(map(before.count, _OPENING)) - sum(map(before.count, _CLOSING)) > MAX_DEPTH:
        return _TOO_DEEP
    what = "not JSON, though its content type says so" if declared else "JSON that cannot be read"
    cut = error.pos >= len(error.doc)
    return f"{what}: {error}; it looks {'cut off at its end' if cut else 'broken'}: {_WHAT_TO_DO}"


def _looks(body: bytes) -> str:
    what = next((name for form, name in _BEGINNINGS if form.match(body)), None)
    if what is None:
        text = body[:1000].strip(b"\r\n")
        control = any(byte < 0x20 and byte not in b"\t\r\n" for byte in text)
        what = "binary data" if control else "several lines of text" if b"\n" in text else "plain text"
    return f"it looks like {what}: {_WHAT_TO_DO}"
