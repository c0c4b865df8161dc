"""A webhook's body to nested dictionaries, as PHP's parse_str nests it (Kommo is written in PHP).

The keys of one sender hardly vary, so the way of each key (the node it hangs on, and its leaf) is worked out once
and kept: a pair then costs two dictionary look-ups. See php_register_variable_ex in PHP's main/php_variables.c.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, TypeAlias
from urllib.parse import unquote, unquote_to_bytes

Form: TypeAlias = dict[str, Any]
"""Nested dictionaries whose leaves are texts; lists are dictionaries with the keys "0", "1", ..."""

MAX_PAIRS = 20_000
MAX_DEPTH = 64  # PHP's max_input_nesting_level

_MAX_KEYS = 20_000
_MAX_KEY_CHARACTERS = 256
_MAX_VALUES = 20_000
_MAX_VALUE_CHARACTERS = 96

_CONTROL = dict.fromkeys([*range(0x20), 0x7F])
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # a key that PHP takes as a number
_NO_INDEX = ("", *" \t\n\r\v\f")
_MANGLED = str.maketrans(" .[", "___")


class FormError(ValueError):
    """A body that is not a form, or is past a bound; the message says where and which."""


_Path: TypeAlias = tuple[str | None, ...]  # None is PHP's `[]`: the next free number

_ROOT = 0
_DROPPED = (-1, "")  # the way of a key that PHP drops


class _Ways:
    """The ways of the keys seen lately, as (node, leaf), and the nodes they hang on, as (parent node, name).

    Numbers stand for nodes, since a number is found faster than a path. Bounded: past the bound it starts anew.
    """

    def __init__(self) -> None:
        self.by_key: dict[str, tuple[int, str | None]] = {}
        self.nodes: list[tuple[int, str | None]] = [(_ROOT, "")]
        self.fleeting: set[int] = set()  # the nodes at or below a `[]`: another dictionary each time
        self._numbers: dict[tuple[int, str | None], int] = {}

    def learn(self, raw: str) -> tuple[int, str | None]:
        path = key_path(_decoded(raw))
        if not path:
            return _DROPPED
        node = _ROOT
        for name in path[:-1]:
            place = (node, name)
            node = self._numbers.setdefault(place, len(self.nodes))
            if node == len(self.nodes):
                self.nodes.append(place)
                if name is None or place[0] in self.fleeting:
                    self.fleeting.add(node)
        way = (node, path[-1])
        if len(raw) <= _MAX_KEY_CHARACTERS:
            self.by_key[raw] = way
        return way

    def full(self) -> bool:
        return len(self.nodes) > _MAX_KEYS or len(self.by_key) > _MAX_KEYS


class _Numbers:
    """The next free number of each dictionary with a `[]`; keys are only ever added, so each is looked at once."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Form, int, int | None]] = {}

    def take(self, node: Form) -> str:
        """Return the next free number of a dictionary; the caller sets it before anything else."""
        _, size, last = self._seen.get(id(node), (node, 0, None))
        for key in islice(reversed(node), len(node) - size):
            if _NUMBER.fullmatch(key) and (last is None or int(key) > last):
                last = int(key)
        last = 0 if last is None else last + 1
        self._seen[id(node)] = (node, len(node) + 1, last)  # holds the dictionary, so that no other gets its id
        return str(last)


_ways = _Ways()
_values: dict[str, str] = {}  # short values seen lately, decoded: names of fields, addresses, dates come again


def parse_form(body: bytes) -> Form:
    """Return the nested form of an application/x-www-form-urlencoded body (at most some MiB; the caller bounds it).

    Later pairs win over earlier ones on the same path, values are percent-decoded once, and bytes that are not
    UTF-8 stay readable as \\xNN. Raises FormError for raw control characters, over MAX_PAIRS pairs, or keys nested
    deeper than MAX_DEPTH.
    """
    global _ways
    text = _body_text(body)
    if text.count("&") >= MAX_PAIRS:
        raise FormError(f"more than {MAX_PAIRS} pairs in one body")
    if _ways.full():
        _ways = _Ways()
    ways = _ways
    known, value_known = ways.by_key.get, _values.get
    root: Form = {}
    made: dict[int, Form] = {_ROOT: root}
    numbers = _Numbers()
    for pair in text.split("&"):
        raw, _, value = pair.partition("=")
        node, leaf = known(raw) or ways.learn(raw)
        if node < 0:
            continue
        if "%" in value or "+" in value:
            value = value_known(value) or _decoded_value(value)
        parent = made.get(node)
        if parent is None:
            parent = _make(made, ways, node, numbers)
        if leaf is None:
            parent[numbers.take(parent)] = value
        else:
            if type(parent.get(leaf)) is dict:  # a scalar takes the place of a nest: the nest's nodes are gone
                made = {_ROOT: root}
            parent[leaf] = value
    return root


def key_path(key: str) -> _Path:
    """Return the path a decoded key names: `a[b][]` is ("a", "b", None). An empty tuple: PHP drops such a key.

    Raises FormError for more than MAX_DEPTH levels (PHP drops these in silence; here nothing is).
    """
    key = key.lstrip(" ").partition("\0")[0]
    name, bracket, rest = key.partition("[")
    path: list[str | None] = [name.translate(_MANGLED)]
    if not name:
        return ()
    while bracket:
        inner, closed, after = rest.partition("]")
        if not closed:
            if len(path) == 1:  # an unclosed bracket belongs to the name: a[b is a_b; further in it ends the key
                path[0] = f"{path[0]}_{rest.translate(_MANGLED)}"
            break
        path.append(None if inner in _NO_INDEX else inner)
        if len(path) > MAX_DEPTH:
            raise FormError(f"a key nested deeper than {MAX_DEPTH} levels")
        bracket, rest = ("[", after[1:]) if after.startswith("[") else ("", "")
    return tuple(path)


def _body_text(body: bytes) -> str:
    body = body.rstrip(b"\r\n")
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        text = body.decode("utf-8", "backslashreplace")
    if not text.isprintable():
        _refuse_control_characters(text)
    return text


def _refuse_control_characters(text: str) -> None:
    for place, character in enumerate(text):
        if ord(character) in _CONTROL:
            raise FormError(f"not a form: control character 0x{ord(character):02x} at position {place}")


def _decoded(raw: str) -> str:
    raw = raw.replace("+", " ")
    if raw.isascii():
        return unquote_to_bytes(raw).decode("utf-8", "backslashreplace")
    return unquote(raw, errors="backslashreplace")


def _decoded_value(raw: str) -> str:
    value = _decoded(raw)
    if len(raw) <= _MAX_VALUE_CHARACTERS:
        if len(_values) >= _MAX_VALUES:
            _values.clear()
        _values[raw] = value
    return value


def _make(made: dict[int, Form], ways: _Ways, node: int, numbers: _Numbers) -> Form:
    """Return the dictionary of a node, made where it is not there yet; a scalar in its place gives way to it."""
    above, name = ways.nodes[node]
    parent = made.get(above)
    if parent is None:
        parent = _make(made, ways, above, numbers)
    if name is None:  # `a[][b]`: a new one each time, so it is not remembered
        child: Form = {}
        parent[numbers.take(parent)] = child
        return child
    found = parent.get(name)
    child = found if type(found) is dict else {}
    if child is not found:
        parent[name] = child
    if node not in ways.fleeting:
        made[node] = child
    return child
