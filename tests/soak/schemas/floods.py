"""Bodies that cost a parser most: all ways to fill 1 MiB with names, levels, escapes, values, and to pass a bound.

python -m tests.soak.schemas.floods      # the time of each until it is refused or parsed, the longest last
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from schemas.decoder import decode
from schemas.delivery import MAX_BODY_BYTES
from schemas.form import MAX_BRACKETS, MAX_DEPTH, MAX_NESTS, MAX_PAIRS, FormError
from tests.support.extremes import decode_seconds, parse_seconds
from tests.support.webhooks import delivery

_NAMES = {
    "plain": b"a",
    "long": b"abcdefghij" * 4,
    "as long as kept": b"x" * 450,
    "very long": b"x" * 900,
    "half escaped": b"%61b" * 8,
    "escaped": b"%61" * 12,
    "no escapes": b"%" * 16,
    "no UTF-8": b"\xffa" * 12,
    "to mangle": b"a." * 12,
}
_LEVELS: dict[str, list[bytes]] = {
    "no levels": [],
    "one level": [b"x"],
    "two that differ": [b"%d"] * 2,
    "appended": [b""] * 3,
    "appended with a space": [b"+"] * 3,
    "appended below others": [b"b"] * 3 + [b"", b"c"],
    "four, escaped": [b"%61b"] * 4,
    "the last but one differs": [b"b"] * 3 + [b"%d", b"c"],
    "fifteen": [b"b"] * 15,
    "as deep as allowed": [b"b"] * (MAX_DEPTH - 2),
    "as deep as allowed, and the last differs": [b"b"] * (MAX_DEPTH - 2) + [b"%d"],
    "unclosed": [b"b[[["] * 3,
    "more brackets than levels": [b"b["] * (MAX_DEPTH // 2),
}
_BRACKETS = {"bare": (b"[", b"]"), "escaped": (b"%5B", b"%5D"), "escaped small": (b"%5b", b"%5d")}
_VALUES = {"empty": b"", "half escaped": b"%61b" * 8, "no UTF-8": b"\xffa" * 12, "brackets": b"[]" * 4}
_LAST = {
    "nothing": b"",
    "a key too deep": b"&z" + b"[b]" * MAX_DEPTH + b"=1",
    "nests": b"".join(b"&z[%d][y]=" % n for n in range(MAX_NESTS // 2 + 1)),
    "brackets": b"&z=" + b"[" * (MAX_BRACKETS + 1),
}


def floods(step: int = 1) -> Iterator[tuple[str, bytes]]:
    """Yield (what it is, body) for each step-th of all combinations."""
    places = product(_NAMES.items(), _LEVELS.items(), _BRACKETS.items(), (True, False), _VALUES.items(), _LAST.items())
    for place, (name, levels, brackets, differ, value, last) in enumerate(places):
        if place % step == 0:
            parts = [name, levels, brackets, value, last]
            what = ", ".join([*(part[0] for part in parts), "keys that differ" if differ else "keys that come again"])
            yield what, _body(name[1], levels[1], brackets[1], differ, value[1], last[1])


def _body(
    name: bytes, levels: list[bytes], brackets: tuple[bytes, bytes], differ: bool, value: bytes, last: bytes
) -> bytes:
    """As many pairs as fit, or are allowed beside the last ones."""
    key = name + b"".join(brackets[0] + level + brackets[1] for level in levels)
    pairs: list[bytes] = []
    size = len(last)
    for number in range(MAX_PAIRS - last.count(b"&")):
        pair = (b"%d" % number if differ else b"") + key.replace(b"%d", b"%d" % number) + b"=" + value
        size += len(pair) + 1
        if size > MAX_BODY_BYTES:
            break
        pairs.append(pair)
    return b"&".join(pairs) + last


def seconds(body: bytes) -> tuple[float, str]:
    """Return the CPU time from a body to its rejection or form, no key of it known, and the reason."""
    try:
        return parse_seconds(body), ""
    except FormError:
        # What ingest does with such a body, and nothing else: to its dead letter.
        refused = delivery(body)
        took = decode_seconds(refused)
        [rejection] = decode(refused).rejections
        return took, rejection.reason


def main() -> None:
    """Measure all of them."""
    found = [(*seconds(body), what, len(body)) for what, body in floods()]
    for refused in (False, True):
        kind = sorted(entry for entry in found if bool(entry[1]) is refused)
        print(f"{len(kind)} {'refused' if refused else 'parsed'}; the longest:")
        for took, reason, what, size in kind[-12:]:
            print(f"{took * 1e3:7.1f} ms {size:8d} bytes  {what}  {reason}")


if __name__ == "__main__":
    main()
