"""Bodies at and past the bounds of a form and of JSON, and what they cost: in unit the sum of all, in soak each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from urllib.parse import parse_qsl

from schemas import form
from schemas.decoder import decode
from schemas.delivery import MAX_BODY_BYTES, Delivery
from schemas.form import MAX_BRACKETS, MAX_DEPTH, MAX_NESTS, MAX_PAIRS, parse_form

MAX_REFUSAL = 8.0
"""How long it may take until a body that is past a bound is a rejection, in `plain_seconds`; the longest takes 2."""
MAX_COST = 30.0
"""How long a body within the bounds may take, in `plain_seconds`; the longest takes 12."""

MIB = MAX_BODY_BYTES


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

_DEEP = MAX_DEPTH + 2
JSON_PAST: dict[str, tuple[bytes, str]] = {
    "size": (b'["' + b"x" * MIB + b'"]', f"a body of more than {MIB} bytes"),
    "depth": (b"[" * _DEEP + b"]" * _DEEP, f"deeper than {MAX_DEPTH} levels"),
    "depth, of maps": (b'{"a":' * _DEEP + b"1" + b"}" * _DEEP, f"deeper than {MAX_DEPTH} levels"),
    "depth, of more than a parser takes": (b"[" * 10_000 + b"]" * 10_000, f"deeper than {MAX_DEPTH} levels"),
    "depth, cut off": (b'{"a":' * 5000, f"deeper than {MAX_DEPTH} levels"),
    "depth, after numbers": (b"[" + b"1.5," * (MIB // 4 - 100) + b"[" * 70 + b"]" * 71, "deeper than"),
    "depth, after texts": (b"[" + b'"\\n",' * (MIB // 5 - 100) + b"[" * 70 + b"]" * 71, "deeper than"),
    "depth, after texts, cut off": (b"[" + b'"\\n",' * (MIB // 5 - 300) + b"[" * 1100, "deeper than"),
    "depth, after maps": (b"[" + b'{"%06x":1},' % 1 * (MAX_NESTS - 100) + b"[" * 70 + b"]" * 71, "deeper than"),
    "depth, after keys": (
        b'{"x":{' + b",".join(b'"%x":1' % n for n in range(80_000)) + b'},"y":' + b"[" * 70 + b"]" * 70 + b"}",
        "deeper than",
    ),
    "nests of lists": (b"[" + b"[]," * (MIB // 3 - 2) + b"1]", f"more than {MAX_NESTS} nested values"),
    "nests of lists in lists": (b"[" + b"[[[[]]]]," * (MIB // 9 - 1) + b"1]", f"more than {MAX_NESTS} nested values"),
    "nests of maps": (b"[" + b'{"a":1},' * (MIB // 8 - 1) + b"1]", f"more than {MAX_NESTS} nested values"),
    "nests, cut off": (b"[" + b"{}," * (MIB // 3 - 2), f"more than {MAX_NESTS} nested values"),
    "nests, and no JSON": (b"[[" + b"[a]" * (MIB // 3 - 2), f"more than {MAX_NESTS} nested values"),
}


_PLAIN = b"&".join(b"k%d=%d" % (number, number) for number in range(MAX_PAIRS))


def plain_seconds() -> float:
    """Return the CPU time, now and here, in which urllib parses as many plain pairs: what a cost is compared with."""
    began = time.process_time()
    parse_qsl(_PLAIN)
    return time.process_time() - began


def forget() -> None:
    """Let the parser know no key."""
    form._ways, form._values = form._Ways(), {}


def parse_seconds(body: bytes) -> float:
    """Return the CPU time of the first parse of a body within the bounds, when no key is known."""
    forget()
    began = time.process_time()
    parse_form(body)
    return time.process_time() - began


def decode_seconds(delivery: Delivery) -> float:
    """Return the CPU time until a delivery is events and rejections, when no key is known."""
    forget()
    began = time.process_time()
    decode(delivery)
    return time.process_time() - began


def mean_cost(costs: Iterable[float]) -> float:
    """Return what CPU times are on average in `plain_seconds`, each of which is measured beside the time it is next to.

    One comparison of many: a square anywhere costs hundreds, and a busy moment slows both.
    """
    took = plain = 0.0
    for number, cost in enumerate(costs, 1):
        took += cost
        if number % 4 == 1:
            part = plain_seconds()
        plain += part
    return took / plain
