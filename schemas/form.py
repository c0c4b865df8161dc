"""A webhook's body to nested dictionaries, as PHP's parse_str nests it (Kommo is written in PHP).

The keys of one sender hardly vary, so the way of each key (the node it hangs on, and its leaf) is worked out once
and kept: a pair then costs two dictionary look-ups. See php_register_variable_ex in PHP's main/php_variables.c.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, TypeAlias

from schemas.delivery import MAX_BODY_BYTES

Form: TypeAlias = dict[str, Any]
"""Nested dictionaries whose leaves are texts; lists are dictionaries with the keys "0", "1", ..."""

MAX_PAIRS = 20_000
MAX_DEPTH = 64  # PHP's max_input_nesting_level
MAX_NESTS = 25_000
MAX_BRACKETS = 100_000
"""Bounds of one body, beside MAX_BODY_BYTES: pairs, levels of a key, dictionaries, opening brackets.

Kommo sends one item in 0.2 to 4 KiB. The bounds let pass what it never sent: 250 items, the most that its API takes at
once, of 40 fields each are 10,000 pairs; and 1 MiB full of custom fields as Kommo writes them (id, name and value of
each) is 118 items of 40, with 14,000 pairs, 14,000 dictionaries, 80,000 brackets and 8 levels. But 1 MiB of brackets
alone would be 350,000 dictionaries, and cost seconds. All is counted before any name or value is read, so what is past
a bound costs little more than its bytes.
"""

_MAX_KEYS = 20_000
_MAX_KEY_CHARACTERS = 256
_MAX_HEAD_CHARACTERS = 512
_MAX_VALUES = 20_000
_MAX_VALUE_CHARACTERS = 96
_LARGE = 2 * MAX_NESTS  # characters; a smaller body has fewer nests than MAX_NESTS, for each has two brackets

_CONTROL = bytes([*range(0x20), 0x7F])
_A_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")  # a key that PHP takes as a number, where it fits into 64 bits
_MAX_NUMBER = 2**63 - 1
_NO_INDEX = ("", *" \t\n\r\v\f")
_MANGLED = str.maketrans(" .[", "___")
_LEVELS = re.compile(r"(?:\[[^\]]*+\])++")  # what stands behind the last of them is no part of the key
_LEADING = re.compile("^(?:[ +]|%20)+")
_SPACE = ("", *" +", *(f"%{code}" for code in ("20", "09", "0A", "0a", "0B", "0b", "0C", "0c", "0D", "0d")))
_APPENDED = frozenset(f"{space}]" for space in _SPACE)  # what stands behind the bracket of a `[]`
_ESCAPES = re.compile("(?:%[0-9A-Fa-f]{2})+")
_DIGITS = "0123456789abcdefABCDEF"
_ESCAPED = {f"%{high}{low}": chr(int(high + low, 16)) for high in _DIGITS for low in _DIGITS}
_BYTES_AS_TEXT = {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}  # surrogateescape to \xNN


class FormError(ValueError):
    """A body that is not a form, or is past a bound; the message says where and which."""


class ControlCharacterError(FormError):
    """A body with a raw control character: no sender of forms writes one."""


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
        self._heads: dict[str, int] = {}  # `a[b]` of the whole key `a[b][c]`: its node

    def learn(self, raw: str) -> tuple[int, str | None]:
        """Return the way of a key as it is in the body. Raises FormError for one that is too deep."""
        key = _decoded(raw.replace("%5B", "[").replace("%5D", "]"))  # nearly all escapes of a key, and this is quick
        head, _, last = key.rpartition("[")
        node = self._heads.get(head, -1)
        if node >= 0 and last.find("]") == len(last) - 1 >= 0 and "\0" not in last:  # only the last name is new
            way: tuple[int, str | None] = (node, _index(last[:-1]))
        else:
            path = key_path(key)
            if not path:
                return _DROPPED
            way = (self._node(path[:-1]), path[-1])
            # Where every bracket opens or closes a name, all keys of the same head hang on the same node.
            whole = key[-1] == "]" and key.count("[") == key.count("]") == len(path) - 1
            if whole and len(head) <= _MAX_HEAD_CHARACTERS:
                self._heads[head] = way[0]
        if len(raw) <= _MAX_KEY_CHARACTERS:
            self.by_key[raw] = way
        return way

    def _node(self, names: _Path) -> int:
        node = _ROOT
        for name in names:
            place = (node, name)
            node = self._numbers.setdefault(place, len(self.nodes))
            if node == len(self.nodes):
                self.nodes.append(place)
                if name is None or place[0] in self.fleeting:
                    self.fleeting.add(node)
        return node

    def full(self) -> bool:
        return max(len(self.nodes), len(self.by_key), len(self._heads)) > _MAX_KEYS


class _Nests:
    """The dictionaries of one body."""

    def __init__(self, ways: _Ways) -> None:
        self.root: Form = {}
        self.made: dict[int, Form] = {_ROOT: self.root}
        self._ways = ways
        self._numbered: dict[int, tuple[Form, int, int | None]] = {}

    def make(self, node: int) -> Form:
        """Return the dictionary of a node, made where it is not there yet; a scalar in its place gives way to it."""
        above, name = self._ways.nodes[node]
        parent = self.made.get(above)
        if parent is None:
            parent = self.make(above)
        if name is None:
            name = self.next_number(parent)
        found = parent.get(name)
        if type(found) is dict:
            child: Form = found
        else:
            child = parent[name] = {}
        if node not in self._ways.fleeting:  # `a[][b]` is a new one each time
            self.made[node] = child
        return child

    def forget(self) -> None:
        """Look every dictionary up anew: one was replaced by a scalar, and those in it are gone with it."""
        self.made.clear()
        self.made[_ROOT] = self.root

    def next_number(self, node: Form) -> str:
        """Return the next free number of a dictionary; the caller sets it before anything else.

        Keys are only ever added, so each is looked at once.
        """
        _, size, last = self._numbered.get(id(node), (node, 0, None))
        if len(node) > size:
            for key in islice(reversed(node), len(node) - size):
                if _NUMBER.fullmatch(key) and -_MAX_NUMBER - 1 <= int(key) <= _MAX_NUMBER:
                    last = int(key) if last is None else max(last, int(key))
        last = 0 if last is None else last + 1
        self._numbered[id(node)] = (node, len(node) + 1, last)  # holds the dictionary: no other gets its id
        return str(last)


_ways = _Ways()
_values: dict[str, str] = {}  # short values seen lately, decoded: names of fields, addresses, dates come again


def parse_form(body: bytes) -> Form:
    """Return the nested form of an application/x-www-form-urlencoded body.

    Later pairs win over earlier ones on the same path, values are percent-decoded once, and bytes that are not
    UTF-8 stay readable as \\xNN. Raises FormError for raw control characters, and for a body past a bound:
    MAX_BODY_BYTES, MAX_PAIRS, MAX_DEPTH, MAX_NESTS, MAX_BRACKETS.

    What differs from PHP, so that nothing vanishes: PHP drops keys that are too deep, pairs past max_input_vars, and
    `a[]` after `a[9223372036854775807]` (here it is the next number); it takes control characters, which no form has.
    """
    global _ways
    text = _body_text(body)
    if text.count("&") >= MAX_PAIRS:
        raise FormError(f"more than {MAX_PAIRS} pairs in one body")
    if len(text) > _LARGE:
        _check_brackets(text)
    pairs = text.split("&")
    if _ways.full():
        _ways = _Ways()
    ways = _ways
    nests = _Nests(ways)
    known, value_known, made = ways.by_key.get, _values.get, nests.made
    ascii_only = text.isascii()
    for pair in pairs:
        raw, _, value = pair.partition("=")
        node, leaf = known(raw) or ways.learn(raw)
        parent = made.get(node)
        if parent is None:
            if node < 0:
                continue
            parent = nests.make(node)
        if "%" in value or "+" in value or not (ascii_only or value.isascii()):
            value = value_known(value) or _decoded_value(value)
        if leaf is None:
            leaf = nests.next_number(parent)
        elif leaf in parent and type(parent[leaf]) is dict:
            nests.forget()
        parent[leaf] = value
    return nests.root


def check_size(body: bytes) -> None:
    """Raise FormError for a body of more than MAX_BODY_BYTES."""
    if len(body) > MAX_BODY_BYTES:
        raise FormError(f"a body of more than {MAX_BODY_BYTES} bytes")


def key_path(key: str) -> _Path:
    """Return the path a decoded key names: `a[b][]` is ("a", "b", None). An empty tuple: PHP drops such a key.

    Raises FormError for more than MAX_DEPTH levels (PHP drops these in silence; here nothing is).
    """
    key = key.lstrip(" ").partition("\0")[0]
    name = key.partition("[")[0]
    if not name:
        return ()
    found = _LEVELS.match(key, len(name))
    if not found:  # an unclosed bracket belongs to the name: a[b is a_b; further in it ends the key
        return (key.translate(_MANGLED),)
    levels = found[0][1:-1].split("][")  # exact: of what is in brackets, each ] closes one
    if len(levels) >= MAX_DEPTH:
        raise FormError(f"a key nested deeper than {MAX_DEPTH} levels")
    return (name.translate(_MANGLED), *map(_index, levels))


def _index(inner: str) -> str | None:
    return None if inner in _NO_INDEX else inner


def _body_text(body: bytes) -> str:
    """Return a body with one character for each byte: its names and values become text one by one."""
    check_size(body)
    body = body.rstrip(b"\r\n")
    if len(body.translate(None, _CONTROL)) < len(body) and (found := _A_CONTROL.search(body)):  # searched, it is slower
        raise ControlCharacterError(f"not a form: control character 0x{found[0][0]:02x} at position {found.start()}")
    return body.decode("latin-1")


def _check_brackets(text: str) -> None:
    """Raise FormError for too many brackets, levels or nests in a body's text, before its names are read.

    It may count more than there are, never less: brackets count in values too, a bracket that is not closed counts as a
    nest, one whose name is spelled in two ways (`a`, `%61`) as two, and those of a key that is longer than any of
    Kommo's each time it comes.
    """
    if text.count("[") + text.count("%5B") + text.count("%5b") > MAX_BRACKETS:
        raise FormError(f"more than {MAX_BRACKETS} brackets in one body")
    # No other escape makes a bracket, and a bracket makes no other escape.
    text = text.replace("%5B", "[").replace("%5b", "[").replace("%5D", "]").replace("%5d", "]")
    # Of each nest, written like the keys in it but for their last bracket: how many are made each time it is named,
    # which is none after the first time, unless there is a `[]` in it.
    made = {"": 0}
    nests = 0
    for pair in text.split("&"):
        key = pair.partition("=")[0]
        head = key.rpartition("[")[0]
        again = made.get(head)
        if again is None:
            levels = head.count("[") + 1
            if levels >= MAX_DEPTH:
                key_path(_LEADING.sub("", key).partition("%00")[0])  # refuses it, if all its brackets open a level
            if levels >= MAX_DEPTH or len(head) > _MAX_HEAD_CHARACTERS:
                again = levels
            else:
                new = []
                around = head
                while (again := made.get(around)) is None:
                    nest = around
                    around, _, name = nest.rpartition("[")
                    new.append((nest, name))
                for nest, name in reversed(new):
                    if again or name in _APPENDED:
                        again += 1
                    else:
                        nests += 1
                    made[nest] = again
        nests += again
        if nests > MAX_NESTS:
            raise FormError(f"more than {MAX_NESTS} nested keys in one body")


def _decoded(raw: str) -> str:
    """Return the text of a name or value as it is in the body, one character for each byte."""
    data = _ESCAPES.sub(_bytes_of, raw.replace("+", " ")).encode("latin-1")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape").translate(_BYTES_AS_TEXT)


def _bytes_of(escapes: re.Match[str]) -> str:
    run = escapes[0]
    return _ESCAPED.get(run) or bytes.fromhex(run.replace("%", "")).decode("latin-1")


def _decoded_value(raw: str) -> str:
    value = _decoded(raw)
    if len(raw) <= _MAX_VALUE_CHARACTERS:
        if len(_values) >= _MAX_VALUES:
            _values.clear()
        _values[raw] = value
    return value
