"""Forms are nested as PHP nests them: by PHP's own answers (php_vectors.json), and by the way back."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.form import MAX_DEPTH, MAX_PAIRS, FormError, key_path, parse_form
from tests.schemas.make_php_vectors import CHOSEN, VECTORS
from tests.schemas.support import PROPERTY, encoded

PHP: list[tuple[bytes, dict[str, Any]]] = [
    (body.encode("latin-1"), tree) for body, tree in json.loads(VECTORS.read_text(encoding="utf-8"))
]


def ordered(tree: dict[str, Any]) -> str:
    """A tree as text, in which the order of keys counts."""
    return json.dumps(tree)


def wrong(vectors: list[tuple[bytes, dict[str, Any]]]) -> list[tuple[bytes, dict[str, Any], dict[str, Any]]]:
    return [(body, tree, parse_form(body)) for body, tree in vectors if ordered(parse_form(body)) != ordered(tree)]


def test_vectors_are_php_s_answers_to_the_chosen_bodies() -> None:
    assert [body for body, _ in PHP][: len(CHOSEN)] == CHOSEN
    assert len(PHP) >= 500


def test_nests_as_php() -> None:
    assert wrong(PHP) == []


def flood(number: int) -> None:
    """Show the parser more different keys than it remembers."""
    for part in range(3):
        body = "&".join(f"flood{number}_{part}[{key}][x]={key}" for key in range(15_000)).encode()
        tree = parse_form(body)[f"flood{number}_{part}"]
        assert len(tree) == 15_000
        assert tree["14999"] == {"x": "14999"}


def test_what_was_parsed_before_does_not_matter() -> None:
    """Known keys, unknown keys, and keys forgotten since: always the same nest."""
    flood(1)
    assert wrong(PHP) == []
    assert wrong(PHP[::-1]) == []
    flood(2)
    assert wrong(PHP[::-1]) == []
    for place in range(0, len(PHP), 7):  # bodies of other shapes between
        assert wrong(PHP[place : place + 1] * 2) == []


def test_a_body_longer_than_what_is_remembered_parses_whole() -> None:
    body = "&".join(f"k{key}[a][b]={key}" for key in range(MAX_PAIRS)).encode()
    tree = parse_form(body)
    assert len(tree) == MAX_PAIRS
    assert all(tree[f"k{key}"] == {"a": {"b": str(key)}} for key in range(MAX_PAIRS))
    assert ordered(parse_form(body)) == ordered(tree)


def test_results_are_independent() -> None:
    body = b"a[b][c]=1&a[d]=x%20y"
    first = parse_form(body)
    first["a"]["b"]["c"] = "changed"
    first["a"]["d"] = {}
    assert parse_form(body) == {"a": {"b": {"c": "1"}, "d": "x y"}}


_names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[]\0"), min_size=1, max_size=8)
_top = _names.map(lambda name: name.translate(str.maketrans(" .", "__")))
_inner = _names.filter(lambda name: name not in tuple(" \t\n\r\v\f"))
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_trees = st.dictionaries(
    _top,
    st.recursive(_texts, lambda children: st.dictionaries(_inner, children, min_size=1, max_size=4), max_leaves=12),
    min_size=1,
    max_size=4,
)


@PROPERTY
@given(_trees)
def test_what_http_build_query_writes_is_read_back(tree: dict[str, Any]) -> None:
    assert ordered(parse_form(encoded(tree))) == ordered(tree)


@PROPERTY
@given(_trees, _trees)
def test_one_body_after_another(tree: dict[str, Any], other: dict[str, Any]) -> None:
    """Two bodies in one: the later pair wins, whatever nests on its way."""
    body = encoded(tree) + b"&" + encoded(other)
    result = parse_form(body)
    for name in other:
        if name not in tree or isinstance(other[name], str):
            assert result[name] == other[name]
    for name in tree.keys() - other.keys():
        assert result[name] == tree[name]


@PROPERTY
@given(st.binary(max_size=60))
def test_any_bytes_give_a_form_of_texts_or_an_error(body: bytes) -> None:
    try:
        form = parse_form(body)
    except FormError:
        return
    json.dumps(form, ensure_ascii=False).encode()  # no half characters in it

    def check(tree: Any) -> None:
        assert isinstance(tree, str | dict)
        if isinstance(tree, dict):
            for name, value in tree.items():
                assert isinstance(name, str)
                check(value)

    check(form)


@PROPERTY
@given(st.lists(st.sampled_from([b"a", b"b", b"[", b"]", b"[]", b"[a]", b"=", b"&", b"1", b"%5B", b"+", b"."])))
def test_any_brackets_give_a_form(pieces: list[bytes]) -> None:
    parse_form(b"".join(pieces))


@pytest.mark.parametrize("code", [*range(0x20), 0x7F])
def test_control_characters_are_refused(code: int) -> None:
    place = 4
    with pytest.raises(FormError, match=f"0x{code:02x} at position {place}"):
        parse_form(b"a=1&" + bytes([code]) + b"=2")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
def test_new_lines_at_the_end_are_not_part_of_the_form(end: bytes) -> None:
    """A body saved to a file by an editor."""
    assert parse_form(b"a[b]=1" + end) == {"a": {"b": "1"}}


def test_encoded_control_characters_are_text() -> None:
    assert parse_form(b"a=%00%0A%7F") == {"a": "\x00\n\x7f"}


def test_as_many_pairs_as_allowed_and_one_more() -> None:
    assert len(parse_form(b"&".join(b"a%d=1" % number for number in range(MAX_PAIRS)))) == MAX_PAIRS
    with pytest.raises(FormError, match=f"more than {MAX_PAIRS} pairs"):
        parse_form(b"&".join(b"a%d=1" % number for number in range(MAX_PAIRS + 1)))


@pytest.mark.parametrize("level", [b"[b]", b"[]", b"%5Bb%5D"])
def test_as_deep_as_allowed_and_one_deeper(level: bytes) -> None:
    tree: Any = parse_form(b"a" + level * (MAX_DEPTH - 1) + b"=1")
    for _ in range(MAX_DEPTH):
        [tree] = tree.values()
    assert tree == "1"
    for _ in range(2):  # refused again, not only when it is new
        with pytest.raises(FormError, match=f"deeper than {MAX_DEPTH}"):
            parse_form(b"a" + level * MAX_DEPTH + b"=1")


def test_key_path() -> None:
    assert key_path("leads[add][0][id]") == ("leads", "add", "0", "id")
    assert key_path("a[b][]") == ("a", "b", None)
    assert key_path("[a]") == ()


@pytest.mark.parametrize(
    "body",
    [
        b"&".join([b"a[]=1"] * MAX_PAIRS),
        b"&".join(b"a[]=1&a[x%d]=2" % number for number in range(MAX_PAIRS // 2)),
        b"&".join([b"a[][b][]=1"] * MAX_PAIRS),
        b"&".join(b"a[]" + b"[b]" * 60 + b"[%d]=1" % number for number in range(5400)),
        b"&".join([b"a[b][c]=1&a[b]=1"] * (MAX_PAIRS // 2)),
        b"&".join([b"a" + b"[b]" * 60 + b"=1&a=1"] * 5400),
    ],
    ids=["appended", "appended between names", "nests appended", "deep below an appended", "replaced", "deep replaced"],
)
def test_nasty_bodies_take_no_longer_than_others(body: bytes) -> None:
    started = time.process_time()
    parse_form(body[: 1024 * 1024])
    assert time.process_time() - started < 4
