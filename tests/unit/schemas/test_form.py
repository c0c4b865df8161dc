"""Forms are nested as PHP nests them: by PHP's own answers (php_vectors.json), and by the way back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import form
from schemas.decoder import decode
from schemas.errors import ErrorClass
from schemas.form import MAX_DEPTH, MAX_NESTS, MAX_PAIRS, FormError, key_path, parse_form
from tests.support.extremes import (
    JSON_PAST,
    MAX_COST,
    MAX_REFUSAL,
    MIB,
    NESTS,
    PAST,
    WITHIN,
    decode_seconds,
    mean_cost,
    parse_seconds,
    plain_seconds,
)
from tests.support.webhooks import delivery, encoded
from tests.unit.schemas.make_php_vectors import VECTORS, bodies

PHP: list[tuple[bytes, dict[str, Any]]] = [
    (body.encode("latin-1"), tree) for body, tree in json.loads(VECTORS.read_text(encoding="utf-8"))
]


def ordered(tree: dict[str, Any]) -> str:
    """A tree as text, in which the order of keys counts."""
    return json.dumps(tree)


ANSWERS = {body: ordered(tree) for body, tree in PHP}


def wrong(vectors: list[tuple[bytes, dict[str, Any]]]) -> list[tuple[bytes, dict[str, Any], dict[str, Any]]]:
    return [(body, tree, parse_form(body)) for body, tree in vectors if ordered(parse_form(body)) != ANSWERS[body]]


def test_vectors_are_php_s_answers_to_the_bodies() -> None:
    assert [body for body, _ in PHP] == bodies()
    assert len(PHP) >= 4000
    assert VECTORS.stat().st_size < 1_000_000


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
    assert wrong(PHP[::-1]) == []
    assert wrong(PHP) == []
    flood(2)
    for place in range(0, len(PHP), 7):  # bodies of other shapes between
        assert wrong(PHP[place : place + 1] * 2) == []


def test_a_body_longer_than_what_is_remembered_parses_whole() -> None:
    body = "&".join(f"k{key}[a]={key}" for key in range(MAX_PAIRS)).encode()
    tree = parse_form(body)
    assert len(tree) == MAX_PAIRS
    assert all(tree[f"k{key}"] == {"a": str(key)} for key in range(MAX_PAIRS))
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
    st.recursive(_texts, lambda children: st.dictionaries(_inner, children, min_size=1, max_size=4), max_leaves=8),
    min_size=1,
    max_size=4,
)


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


# Bounds: what is past one costs a sender more than it costs us, and what is within them takes no longer than its size


@pytest.mark.parametrize("name", PAST)
def test_past_a_bound_is_a_rejection_that_names_it(name: str) -> None:
    body, reason = PAST[name]
    [rejection] = decode(delivery(body)).rejections
    assert (rejection.item, rejection.error_class) == ("", ErrorClass.VALIDATION)
    assert reason in rejection.reason


def test_past_a_bound_a_body_is_cheap_whether_form_or_json() -> None:
    """All of them together, and the dearest; tests/soak/schemas compares each."""
    deliveries = [delivery(body) for body, _ in [*PAST.values(), *JSON_PAST.values()]]
    costs: list[float] = []

    def measured() -> Iterator[float]:
        for item in deliveries:
            costs.append(decode_seconds(item))
            yield costs[-1]

    assert mean_cost(measured()) < MAX_REFUSAL / 4  # it is 0.4
    dearest = deliveries[costs.index(max(costs))]
    assert min(decode_seconds(dearest) for _ in range(3)) < MAX_REFUSAL * plain_seconds()


_PIECES = b"a b [ ] [] [a] [b] [+] [%0D] %5B %5d = & &a + %61 %00".split()


def nests_in(tree: Any) -> int:
    return sum(1 + nests_in(child) for child in tree.values() if isinstance(child, dict))


def depth_of(tree: Any) -> int:
    return 1 + max(map(depth_of, tree.values()), default=0) if isinstance(tree, dict) else 0


@given(st.lists(st.sampled_from(_PIECES), max_size=30).map(b"".join))
def test_no_spelling_hides_a_nest_or_a_level(body: bytes) -> None:
    tree = parse_form(body)
    for bound, there in (("MAX_NESTS", nests_in(tree)), ("MAX_DEPTH", depth_of(tree))):
        if there > 1:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(form, bound, there - 1)
                with pytest.raises(FormError):
                    form._check_brackets(body.decode())


@given(_trees, st.booleans())
def test_what_http_build_query_writes_is_read_back_and_no_more_is_counted_than_there_is(
    tree: dict[str, Any], plain: bool
) -> None:
    assert ordered(parse_form(encoded(tree))) == ordered(tree)
    body = encoded(tree).replace(b"%5B", b"[").replace(b"%5D", b"]") if plain else encoded(tree)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(form, "MAX_NESTS", nests_in(tree))
        patch.setattr(form, "MAX_DEPTH", depth_of(tree))
        form._check_brackets(body.decode())


@pytest.mark.parametrize("space", ["", " ", "+", *(f"%{code:02X}" for code in (9, 10, 11, 12, 13, 32)), "%0a", "%0d"])
def test_each_way_to_append_is_another_nest_each_time(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = f"a[{space}][b]=1&a[{space}][b]=2"
    assert nests_in(parse_form(body.encode())) == 3
    monkeypatch.setattr(form, "MAX_NESTS", 2)
    with pytest.raises(FormError):
        form._check_brackets(body)


def test_the_size_from_which_nests_are_counted() -> None:
    """Each has two brackets, so that a smaller body cannot have too many of them."""
    pair = b"a" + b"[]" * (MAX_DEPTH - 1) + b"="
    fewest = MAX_NESTS // (MAX_DEPTH - 2) + 1
    with pytest.raises(FormError, match=NESTS):
        parse_form(b"&".join([pair] * fewest))
    most = form._LARGE // (len(pair) + 1)
    assert nests_in(parse_form(b"&".join([pair] * most))) <= MAX_NESTS


def test_a_key_too_deep_is_found_though_its_head_was_seen_before() -> None:
    head = "a" + "[b]" * (MAX_DEPTH - 1)
    form._check_brackets(f"{head}[c=1&{head}[d=1")  # not closed: a level less
    with pytest.raises(FormError, match=f"deeper than {MAX_DEPTH}"):
        form._check_brackets(f"{head}[c=1&{head}[c]=1")


@pytest.mark.parametrize("name", [b"", b"+", b" %20+", b"%00", b"a%00", b"+a%00x", b"a[b[" * 40])
def test_what_is_no_level_is_not_too_deep_in_a_large_body_either(name: bytes) -> None:
    """PHP drops a key without a name, and what stands behind NUL; a bracket that is not closed opens nothing."""
    key = name + b"[b]" * (MAX_DEPTH if b"[" not in name else 5) + b"=1"
    assert parse_form(key + b"&x=" + b"x" * form._LARGE) == {**parse_form(key), "x": "x" * form._LARGE}


def test_the_fullest_body_that_kommo_could_write_is_within_the_bounds() -> None:
    """As many items of 40 custom fields as fit into 1 MiB, encoded as PHP does it."""
    custom = {str(n): {"id": str(100_000 + n), "name": "n", "values": {"0": {"value": "x"}}} for n in range(40)}
    item = {"id": "1", "custom_fields": custom}
    size = len(encoded({"leads": {"update": {"100": item}}})) + 1
    tree = {"leads": {"update": {str(n): item for n in range(MIB // size)}}}
    assert nests_in(parse_form(encoded(tree))) > 14_000
    fields = {f"field{n}": "x" for n in range(40)}
    tree = {"leads": {"update": {str(n): fields for n in range(250)}}}
    assert parse_form(encoded(tree)) == tree


def test_within_the_bounds_a_body_is_parsed_and_takes_no_longer_than_its_size() -> None:
    """All of them together; tests/soak/schemas compares each, and that twice the pairs take twice the time."""
    assert mean_cost(map(parse_seconds, WITHIN.values())) < MAX_COST / 2  # it is 4.3


def test_as_many_nests_as_allowed_and_one_more() -> None:
    body = b"&".join(b"a[%d][b][c]=1" % number for number in range(MAX_NESTS // 2 - 1))
    assert len(parse_form(body + b"&x[y]=1")["a"]) == MAX_NESTS // 2 - 1
    with pytest.raises(FormError, match=f"more than {MAX_NESTS} nested keys"):
        parse_form(body + b"&x[y]=1&z[1]=2")
