"""A webhook's body to nested dictionaries, as PHP's parse_str nests it (Kommo is written in PHP).

The keys of one sender hardly vary, so the way of each key (its parent and its leaf) is worked out once and kept:
a 2 kB body then costs one dictionary look-up a pair. See php_register_variable_ex in PHP's main/php_variables.c.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias
from urllib.parse import unquote

Form: TypeAlias = dict[str, Any]
"""Nested dictionaries whose leaves are texts; lists are dictionaries with the keys "0", "1", ..."""

MAX_PAIRS = 20_000
MAX_DEPTH = 64  # PHP's max_input_nesting_level

_MAX_KEYS = 20_000
_MAX_KEY_CHARACTERS = 256

_CONTROL = dict.fromkeys([*range(0x20), 0x7F])
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # a key that PHP takes as a number
_NO_INDEX = ("", *" \t\n\r\v\f")
_MANGLED = str.maketrans(" .[", "___")


class FormError(ValueError):
    """A body that is not a form, or is past a bound; the message says where and which."""


_Path: TypeAlias = tuple[str | None, ...]  # None is PHP's `[]`: the next free number


class _Keys:
    """The way of every key seen lately: (path of the parent, leaf). Bounded: past the bound it starts anew."""

    def __init__(self) -> None:
        self._ways: dict[str, tuple[_Path, str | None] | None] = {}
        self.get = self._ways.get

    def learn(self, raw: str) -> tuple[_Path, str | None] | None:
        path = key_path(_text(raw))
        way = (path[:-1], path[-1]) if path else None
        if len(raw) <= _MAX_KEY_CHARACTERS:
            if len(self._ways) >= _MAX_KEYS:
                self._ways.clear()
            self._ways[raw] = way
        return way


_KEYS = _Keys()
_UNKNOWN: Any = object()


def parse_form(body: bytes) -> Form:
    """Return the nested form of an application/x-www-form-urlencoded body (at most some MiB; the caller bounds it).

    Later pairs win over earlier ones on the same path, values are percent-decoded once, and bytes that are not
    UTF-8 stay readable as \\xNN. Raises FormError for raw control characters, over MAX_PAIRS pairs, or keys nested
    deeper than MAX_DEPTH.
    """
    text = _body_text(body)
    if text.count("&") >= MAX_PAIRS:
        raise FormError(f"more than {MAX_PAIRS} pairs in one body")
    root: Form = {}
    parents: dict[_Path, Form] = {(): root}
    known = _KEYS.get
    for pair in text.split("&"):
        raw, _, value = pair.partition("=")
        way = known(raw, _UNKNOWN)
        if way is _UNKNOWN:
            way = _KEYS.learn(raw)
        if way is None:
            continue
        if "%" in value or "+" in value:
            value = unquote(value.replace("+", " "), errors="backslashreplace")
        path, leaf = way
        parent = parents.get(path)
        if parent is None:
            parent = _descend(root, parents, path)
        if leaf is None:
            parent[_next_number(parent)] = value
        else:
            if type(parent.get(leaf)) is dict:  # a scalar takes the place of a nest: the nest's paths are gone
                parents = {(): root}
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


def _text(raw: str) -> str:
    return unquote(raw.replace("+", " "), errors="backslashreplace")


def _descend(root: Form, parents: dict[_Path, Form], path: _Path) -> Form:
    """Return the dictionary at a path, made where it is not there yet; scalars on the way give way to it."""
    node = root
    for depth, name in enumerate(path):
        if name is None:
            name = _next_number(node)
        child = node.get(name)
        if type(child) is not dict:
            child = node[name] = {}
        node = child
        if depth + 1 == len(path) and None not in path:
            parents[path] = node
    return node


def _next_number(node: Form) -> str:
    numbers = [int(key) for key in node if _NUMBER.fullmatch(key)]
    return str(max(numbers) + 1 if numbers else 0)
