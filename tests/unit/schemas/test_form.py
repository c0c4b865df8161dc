"""Forms are nested as PHP nests them: by PHP's own answers (php_vectors.json), and by the way back."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import form
from schemas.decoder import decode
from schemas.delivery import MAX_BODY_BYTES
from schemas.errors import ErrorClass
from schemas.form import MAX_BRACKETS, MAX_DEPTH, MAX_NESTS, MAX_PAIRS, FormError, key_path, parse_form
from tests.support.webhooks import delivery, encoded
from tests.unit.schemas.floods import MAX_REFUSAL, floods, plain_seconds, seconds
from tests.unit.schemas.make_php_vectors import VECTORS, bodies

PHP: list[tuple[bytes, dict[str, Any]]] = [
    (body.encode("latin-1"), tree) for body, tree in json.loads(VECTORS.read_text(encoding="utf-8"))
]


def ordered(tree: dict[str, Any]) -> str:
    """A tree as text, in which the order of keys counts."""
    return json.dumps(tree)


def wrong(vectors: list[tuple[bytes, dict[str, Any]]]) -> list[tuple[bytes, dict[str, Any], dict[str, Any]]]:
    return [(body, tree, parse_form(body)) for body, tree in vectors if ordered(parse_form(body)) != ordered(tree)]


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
    assert wrong(PHP) == []
    assert wrong(PHP[::-1]) == []
    flood(2)
    assert wrong(PHP[::-1]) == []
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
    st.recursive(_texts, lambda children: st.dictionaries(_inner, children, min_size=1, max_size=4), max_leaves=12),
    min_size=1,
    max_size=4,
)


@given(_trees)
def test_what_http_build_query_writes_is_read_back(tree: dict[str, Any]) -> None:
    assert ordered(parse_form(encoded(tree))) == ordered(tree)


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


MIB = MAX_BODY_BYTES
MAX_COST = 30.0
"""How long a body within the bounds may take, in `plain_seconds`; the longest takes 12."""


def each(write: Callable[[int], bytes], last: bytes = b"", pairs: int = MAX_PAIRS) -> bytes:
    """As many pairs as allowed, each written from its number, in 1 MiB; and a last one."""
    body = b"&".join(write(number) for number in range(pairs - (1 if last else 0)))
    if len(body) + len(last) >= MIB:
        body = body[: MIB - len(last) - 1].rpartition(b"&")[0]
    return body + b"&" + last if last else body


def within(write: Callable[[int], bytes]) -> bytes:
    """As many of these pairs as the brackets in them allow."""
    pair = write(0)
    return each(write, pairs=min(MAX_PAIRS, MAX_BRACKETS // (pair.count(b"[") + pair.lower().count(b"%5b"))))


DEEP = b"a" + b"[b]" * MAX_DEPTH + b"=1"
NESTS, BRACKETS = f"more than {MAX_NESTS} nested keys", f"more than {MAX_BRACKETS} brackets"

PAST: dict[str, tuple[bytes, str]] = {
    "size": (b"a=1&" * (MIB // 4) + b"b", f"a body of more than {MIB} bytes"),
    "size, JSON": (b'{"a":"' + b"x" * MIB + b'"}', f"a body of more than {MIB} bytes"),
    "size, all percents": (b"%" * (8 * MIB), f"more than {MIB} bytes"),
    "control characters": (b"\x01" * MIB, "control character 0x01 at position 0"),
    "a control character at the end": (b"a=" + b"x" * (MIB - 3) + b"\x7f", "control character 0x7f"),
    "pairs": (b"&" * MIB, f"more than {MAX_PAIRS} pairs"),
    "pairs that differ": (b"&".join(b"%x=%%41%%42" % n for n in range(MAX_PAIRS + 1)), f"more than {MAX_PAIRS} pairs"),
    "depth": (DEEP, f"deeper than {MAX_DEPTH} levels"),
    "depth at the end": (each(lambda n: b"%05d[x]=%%41b%%41b%%41b%%41b%%41b" % n, DEEP), "deeper than"),
    "depth after long keys": (each(lambda n: b"a" + b"[b]" * 50 + b"[%05d]=" % n, DEEP, 1900), "deeper than"),
    "depth, encoded": (each(lambda n: b"%05d[x]=%%41b%%41b" % n, DEEP.replace(b"[", b"%5b")), "deeper than"),
    "depth, after spaces": (each(lambda n: b"+%%20+[%05d]=" % n, b"+%20" + DEEP), "deeper than"),
    "brackets": (b"a" + b"[b]" * ((MIB - 1) // 3), BRACKETS),
    "brackets of appended ones": (b"a" + b"[]" * ((MIB - 1) // 2), BRACKETS),
    "brackets, far apart": (each(lambda n: b"%05d" % n + b"[x]" * 15 + b"="), BRACKETS),
    "brackets, encoded": (each(lambda n: b"a%d" % n + b"%5bb%5D" * 16 + b"="), BRACKETS),
    "brackets in a value": (b"a=" + b"%5B[" * (MAX_BRACKETS // 2 + 1), BRACKETS),
    "nests, two a pair": (each(lambda n: b"%05d[x][y]=" % n + b"%61b" * 7), NESTS),
    "nests, five a pair": (each(lambda n: b"%05d" % n + b"[x]" * 5 + b"="), NESTS),
    "nests, deep": (each(lambda n: b"a%d" % n + b"[b]" * 60 + b"=", pairs=1600), NESTS),
    "nests, encoded": (each(lambda n: b"%05d" % n + b"%5Bx%5D" * 5 + b"="), NESTS),
    "nests, encoded names": (each(lambda n: b"%%61%05d%%5bx%%5d%%5b%%61%%5d=" % n), NESTS),
    "nests appended": (each(lambda n: b"a" + b"[]" * 5 + b"="), NESTS),
    "nests appended, with spaces": (each(lambda n: b"a[+][ ][%20][%0a][%0D]="), NESTS),
    "nests appended below numbers": (each(lambda n: b"a[%05d]" % n + b"[]" * 4 + b"="), NESTS),
    "nests, unclosed": (b"a" + b"[" * MAX_BRACKETS + b"=", NESTS),
    "nests below an appended": (each(lambda n: b"a[][b][c][d]="), NESTS),
}

WITHIN: dict[str, bytes] = {
    "plain": each(lambda n: b"k%d=%d" % (n, n)),
    "names to mangle": each(lambda n: b"%05d" % n + b"." * 40 + b"="),
    "names encoded": each(lambda n: b"%06d" % n + b"%61b" * 11 + b"="),
    "names encoded whole": each(lambda n: b"%06d" % n + b"%61" * 14 + b"="),
    "names that are not UTF-8": each(lambda n: b"%06d" % n + b"\xffa" * 22 + b"="),
    "values encoded": each(lambda n: b"%05d=%05d" % (n, n) + b"%61b" * 10),
    "one value encoded": b"a=" + b"%61b" * (MIB // 4 - 1),
    "one value of percents": b"a=" + b"%" * (MIB - 2),
    "one value that is not UTF-8": b"a=" + b"\xff" * (MIB - 2),
    "one value that is not UTF-8, encoded": b"a=" + b"%ff" * (MIB // 3 - 1),
    "one value of which every other byte is not UTF-8": b"a=" + b"\xffa" * (MIB // 2 - 1),
    "a name of brackets": b"a" + b"[" * MAX_NESTS + b"x" * (MIB - 1 - MAX_NESTS),
    "a name of closing brackets": b"a" + b"]" * (MIB - 1),
    "unclosed": each(lambda n: b"a[%05d=" % n + b"%5B" * 4),
    "keys below one": within(lambda n: b"a" + b"%5Bx%5D" * 4 + b"[%05d]=%%61b" % n),
    "long keys below one": within(lambda n: b"a" + b"[b]" * 60 + b"[%05d]=" % n),
    "long encoded keys below one": within(lambda n: b"a" + b"%5bb%5d" * 62 + b"[%05d]=" % n),
    "keys with something behind": within(lambda n: b"a[b[c][d][e][f][g][h][i][j][k]%05d=1" % n),
    "appended": each(lambda n: b"a[]=1"),
    "appended between names": each(lambda n: b"a[]=1" if n % 2 else b"a[x%d]=2" % n),
    "appended between numbers": each(lambda n: b"a[]=1" if n % 2 else b"a[%d]=2" % (9 * n)),
    "nests appended": each(lambda n: b"a[][b]=1", pairs=MAX_NESTS // 2),
    "names below an appended": each(lambda n: b"a=1" if n % 3 else b"a[][b][%05d]=1" % n),
    "replaced": each(lambda n: b"a[b]=1" if n % 2 else b"a[b][c]=1"),
    "replaced beside long keys": each(lambda n: (b"a" + b"[b]" * 5 + b"[%05d]=" % n, b"z[a]=", b"z=")[n % 3]),
    "replaced, deep": within(lambda n: b"a" + b"[b]" * 60 + b"=1&a=1"),
    "as many nests as allowed": each(lambda n: b"%05d[x][y]=" % n if n < MAX_NESTS // 2 else b"a="),
}


def cpu_seconds(body: bytes) -> float:
    """The time of the first parse, when no key is known."""
    form._ways, form._values = form._Ways(), {}
    started = time.process_time()
    with contextlib.suppress(FormError):
        parse_form(body)
    return time.process_time() - started


@pytest.mark.parametrize("name", PAST)
def test_past_a_bound_is_a_rejection_that_names_it_and_is_cheap(name: str) -> None:
    body, reason = PAST[name]
    [rejection] = decode(delivery(body)).rejections
    assert (rejection.item, rejection.error_class) == ("", ErrorClass.VALIDATION)
    assert reason in rejection.reason
    assert min(cpu_seconds(body) for _ in range(3)) < MAX_REFUSAL * plain_seconds()


def test_no_way_to_fill_a_body_makes_a_refusal_dear() -> None:
    """A sample of all combinations of names, levels, escapes, values and bounds; floods.py is all."""
    refused, dear = 0, []
    for what, body in floods(173):
        took, reason = min(seconds(body) for _ in range(2))
        refused += bool(reason)
        if reason and took > MAX_REFUSAL * plain_seconds():
            dear.append((what, took))
    assert dear == []
    assert refused > 30


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
def test_of_what_kommo_could_write_no_more_is_counted_than_there_is(tree: dict[str, Any], plain: bool) -> None:
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


@pytest.mark.parametrize("name", WITHIN)
def test_within_the_bounds_a_body_takes_no_longer_than_its_size(name: str) -> None:
    body = WITHIN[name]
    parse_form(body)
    assert min(cpu_seconds(body) for _ in range(3)) < MAX_COST * plain_seconds()


def test_as_many_nests_as_allowed_and_one_more() -> None:
    body = b"&".join(b"a[%d][b][c]=1" % number for number in range(MAX_NESTS // 2 - 1))
    assert len(parse_form(body + b"&x[y]=1")["a"]) == MAX_NESTS // 2 - 1
    with pytest.raises(FormError, match=f"more than {MAX_NESTS} nested keys"):
        parse_form(body + b"&x[y]=1&z[1]=2")


def test_twice_the_pairs_take_twice_the_time() -> None:
    """Nothing grows with the square of a body's size: a square would make this four each time, noise does not."""
    for name, body in WITHIN.items():
        pairs = body.split(b"&")
        if len(pairs) == MAX_PAIRS:
            half = b"&".join(pairs[: MAX_PAIRS // 2])
            assert any(cpu_seconds(body) / cpu_seconds(half) < 3.4 for _ in range(8)), name
