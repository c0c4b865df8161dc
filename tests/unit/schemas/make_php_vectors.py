"""Asks PHP how it nests forms, and writes its answers to php_vectors.json. The tests read that file and need no PHP.

    python -m tests.unit.schemas.make_php_vectors        # needs `php` (made with 8.2) on the PATH

What PHP keeps as bytes that are not UTF-8 is written as \\xNN, as the parser shows it. Left out on purpose, because
the parser reads them otherwise (its docstring says why): control characters that are not percent-encoded, keys deeper
than PHP's limit, and `[]` after the largest number.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.webhooks import bodies as corpus

VECTORS = Path(__file__).with_name("php_vectors.json")

# One body a line in hex; answers the nest as lists of [key, value], texts in hex, so that bytes, order and keys stay.
_PHP = r"""
function pairs($nest) {
    $list = [];
    foreach ($nest as $key => $value) {
        $list[] = [bin2hex((string) $key), is_array($value) ? pairs($value) : bin2hex($value)];
    }
    return $list;
}
while (($line = fgets(STDIN)) !== false) {
    parse_str(hex2bin(trim($line)), $nest);
    echo json_encode(pairs($nest), 0, 1024), "\n";
}
"""

CHOSEN: list[bytes] = [
    # plain
    b"",
    b"a=1",
    b"a",
    b"a=",
    b"=1",
    b"=",
    b"&",
    b"&&a=1&&b=2&",
    b"a=1=2",
    b"a==",
    b"a=1&a=2",
    b"a=1&b=2&a=3",
    b"a=1;b=2",
    b"A=1&a=2",
    # nesting, as Kommo writes it
    b"leads[add][0][id]=1&leads[add][0][name]=x",
    b"leads%5Badd%5D%5B0%5D%5Bid%5D=1&leads%5badd%5d%5b0%5d%5bname%5d=x",
    b"leads%5Badd]%5B0]%5Bid%5D=1",
    b"contacts[add][0][linked_leads_id][40326593][ID]=40326593",
    b"leads[add][1][id]=1&leads[add][0][id]=2",
    # a scalar and a nest on one path, in both orders
    b"a=1&a[b]=2",
    b"a[b]=2&a=1",
    b"a[b]=2&a=1&a[c]=3",
    b"a=1&a[b]=2&a=3&a[c]=4&a[d]=5",
    b"a[b][c]=1&a[b]=2&a[b][d]=3",
    b"a[b][c]=1&a[b]=2",
    b"a[b][c][d]=1&a[b]=2&a[b][c][e]=3",
    b"a[b]=1&a[b][c][d]=2&a[x]=3",
    b"n[note][type]=3&n[note][type][message_uuid]=u",
    b"n[note][type][message_uuid]=u&n[note][type]=3",
    b"a[]=1&a[][b]=2&a=3&a[]=4",
    b"a[0]=1&a[0][0]=2&a[0]=3",
    b"x=1&a[b]=2&a=1&y=2&a[b]=3",
    # []: the next free number
    b"a[]=1&a[]=2&a[]=3",
    b"a[5]=1&a[]=2",
    b"a[]=1&a[5]=2&a[]=3&a[2]=4&a[]=5",
    b"a[x]=1&a[]=2",
    b"a[01]=1&a[]=2",
    b"a[1]=1&a[01]=2&a[1.0]=3&a[+1]=4&a[%201]=5&a[]=6",
    b"a[-1]=1&a[]=2",
    b"a[-5]=1&a[-3]=2&a[]=3&a[]=4",
    b"a[-0]=1&a[]=2",
    b"a[0]=1&a[]=2",
    b"a[][]=1&a[][]=2",
    b"a[][b]=1&a[][b]=2&a[][c]=3",
    b"a[][b][]=1&a[][b][]=2",
    b"a[0][]=1&a[0][]=2&a[1][]=3",
    b"a[+]=1&a[%20]=2&a[%09]=3&a[%0A]=4&a[%0D]=5&a[%0B]=6&a[%0C]=7",
    b"a[%20x]=1&a[x%20]=2",
    b"[]=1",
    b"[a]=1",
    b"[a][b]=1&c=2",
    b"[[a]]=1",
    b"a[999999999999]=1&a[]=2",
    b"a[1e3]=1&a[]=2",
    b"a[0x1]=1&a[]=2",
    # brackets that do not close, and what stands behind one that did
    b"a[b=1",
    b"a[=1",
    b"a[b[c=1",
    b"a[b.c d=1",
    b"a[b[c]=1",
    b"a[[b]]=1",
    b"a[[b]=1",
    b"a[b]]=1",
    b"a]=1",
    b"a]b=1",
    b"a][b]=1",
    b"a[b]c=1",
    b"a[b]c[d]=1",
    b"a[b][c=1",
    b"a[b][=1",
    b"a[b][c[d]=1",
    b"a[b] [c]=1",
    b"a[b][c]d=1&a[b][c]=2",
    b"a[]]=1",
    b"a[][=1",
    b"a[b]=1&a[c=2",
    b"a[ b =1",
    b"a[.b]=1",
    # what becomes of a name at the top, and only there
    b"a.b=1&a_b=2",
    b"a b=1",
    b"a+b=1",
    b"a%20b=1",
    b" a=1",
    b"+a=1",
    b"%20%20a=1",
    b"a =1",
    b"a+=1",
    b".a=1",
    b"_=1",
    b" =1",
    b"+=1",
    b"%20=1&+[x]=2",
    b"a.b[c.d][e f]=1",
    b"a.b.c[d]=1",
    b"a-b=1&a:b=2&a$b=3",
    b"GLOBALS[a]=1&this=2&_SERVER[x]=3",
    # percent and plus
    b"a=1%202+3%2B4",
    b"a=%",
    b"a=%4",
    b"a=%zz%41",
    b"a=100%&b=5%25",
    b"a=%2541",
    b"a=%26b%3D2",
    b"a%26b=1&c%3Dd=2",
    b"a%3D=1",
    b"a=%5Bx%5D",
    b"%61%5B%62%5D=1",
    b"a=%0A%0D%09",
    b"a=%00b",
    b"a%00b=1",
    b"a[b%00c]=1",
    b"a[b%00c][d]=1",
    b"%00a=1&b=2",
    b"a[%00]=1",
    # UTF-8 and what is none
    "a=тест&имя[ключ]=значение".encode(),
    b"a=%D1%82%D0%B5%D1%81%D1%82&%D0%B8[%D0%BA]=%D0%B7",
    b"a=%F0%9F%98%80",
    b"a=%C3%28&b=%FF%FE&c=%E2%82",
    b"a=\xc3\x28&b=\xff\xfe&c=\xe2\x82",
    b"a%FF[b%FE]=1",
    b"a\xff[b\xfe]=1&a\xff[c]=2",
    b"a=%ED%A0%80",
    b"a=%C0%80&b=%F5%80%80%80",
    b"a=%C2%A0&b=%E2%80%A8",
    # as large as PHP's numbers are, and larger
    b"a[9223372036854775806]=1&a[]=2",
    b"a[1000000000000000000]=1&a[]=2",
    b"a[9223372036854775808]=1&a[]=2",
    b"a[9999999999999999999]=1&a[]=2",
    b"a[-9223372036854775808]=1&a[]=2",
    b"a[-9223372036854775809]=1&a[]=2",
    # one character, some of its bytes percent-encoded and some not
    b"a=\xd1%82&b=%d1\x82&\xd0%b6[\xd0%b6]=1",
    # depth
    b"a" + b"[b]" * 63 + b"=1",
    b"a" + b"[]" * 63 + b"=1",
]

_NAMES = ["a", "b", "leads", "a.b", "a b", "+a", "", "ж", "%D0%B6", "_", "0", "a%00c"]
_PARTS = ["[a]", "[b]", "[0]", "[1]", "[7]", "[01]", "[-3]", "[]", "[+]", "[a.b]", "[a b]", "%5Ba%5D", "%5B0%5D"]
_ODD = ["[", "]", "[a", "a]", "x", "[[", "]]", "[ж]", "%5B", "%5D", "[%00]", "[a%FF]", " ", "."]
_VALUES = ["", "1", "x", "a+b", "%20", "100%", "%2B", "ж", "%D0%B6", "%FF", "%E2%82", "a=b", "[x]", "%zz", "%00"]

# Names as Kommo writes them, and what stands in their place in bodies that are broken.
_ENTITIES = ["leads", "contacts", "task", "unsorted", "catalogs", "talk", "message", "account", "customers"]
_ACTIONS = ["add", "update", "delete", "status", "note", "restore", "responsible"]
_FIELDS = ["id", "name", "type", "text", "price", "last_modified", "tags", "note", "_links", "custom_fields", "values"]
_IDS = ["40326593", "123456789", "0", "1", "2", "17611273", "9223372036854775000", "99999999999999999999"]
_NUMBERS = ["0", "1", "2", "3", "7", "00", "01", "-1", "-2", "-0", "+1", "1.0", "1e1", " 1", "1 ", "x", "", "", "", ""]
_TEXTS = [
    "Ivan+Petrov",
    "%D0%98%D0%B2%D0%B0%D0%BD",
    "100%25",
    "100%2525",
    "%2541",
    "50%+off",
    "%26amp%3B",
    "&amp;",
    "&lt;b&gt;",
    "Tom+%26amp%3B+Jerry",
    "%7B%22UNIQ%22%3A%22u%5B1%5D%22%7D",
    "https%3A%2F%2Fx.kommo.com%2F%3Fa%5Bb%5D%3D1%26c%3D2",
    "%2B49+30",
    "+49",
    "2024-09-17+13%3A54%3A55",
    "%0A",
    "%D1",
    "\udcd1%82",
    "%",
    "%%41",
    "%4",
    "%E2%80%A8",
    "%F0%9F%98%80",
    "",
    "null",
    "0",
    "-1",
    "a;b",
    "a[b]=c",
    "'quoted'",
    "\u2028",
]
_BITS = ["[", "]", "[", "]", "%5B", "%5D", "%5b", "a", "b", "0", "1", ".", "+", "%20", " ", "%00", "=", "&", "%", "_"]
_BITS += ["%2E", "%5b%5d", "[]", "%26", "%3D", "%2B", "ж", "\udcff", "%FF", "%25", "%255B", "%5", "[ ]", "[.]", "5B"]


def _random(chance: random.Random) -> str:
    """Few names, so that paths meet."""
    odd = chance.random() < 0.25
    keys = [
        chance.choice(_NAMES) + "".join(chance.choices(_PARTS + (_ODD if odd else []), k=chance.randrange(4)))
        for _ in range(chance.randrange(1, 4))
    ]
    return "&".join(
        chance.choice(keys) + chance.choice(["", "", "[c]", "[]"]) + "=" + chance.choice(_VALUES)
        for _ in range(chance.randrange(1, 9))
    )


def _kommo(chance: random.Random) -> str:
    """ENTITY[ACTION][INDEX][FIELD].. with ids as keys, in one spelling of the brackets or in several."""
    opening, closing = chance.choice([("[", "]"), ("%5B", "%5D"), ("%5b", "%5d"), ("%5B", "]")])
    pairs = []
    item = [chance.choice(_ENTITIES), chance.choice(_ACTIONS), chance.choice(["0", "0", "1", ""])]
    for _ in range(chance.randrange(2, 7)):
        deep = [chance.choice([*_FIELDS, *_IDS, *_FIELDS, ""]) for _ in range(chance.randrange(1, 5))]
        name, *parts = [*item, *deep]
        pairs.append(name + "".join(f"{opening}{part}{closing}" for part in parts) + "=" + chance.choice(_TEXTS))
        if chance.random() < 0.2:
            item[2] = chance.choice(_IDS)
    return "&".join(pairs)


def _one_path(chance: random.Random) -> str:
    """Scalars and nests that take each other's place, and repeats."""
    levels = ["[b]", "[c]", "[0]", "[]"]
    return "&".join(
        "a" + "".join(chance.choices(levels, k=chance.choice([0, 0, 1, 1, 2, 3, 4]))) + f"={number}"
        for number in range(chance.randrange(2, 10))
    )


def _numbers(chance: random.Random) -> str:
    """Keys that are numbers for PHP, those that only look so, and `[]` between them."""
    below = chance.choice(["", "", "[]", "[x]"])
    return "&".join(
        f"a[{chance.choice(_IDS if chance.random() < 0.1 else _NUMBERS)}]{chance.choice([below, ''])}={n}"
        for n in range(chance.randrange(2, 9))
    )


def _broken(chance: random.Random) -> str:
    """Brackets, escapes, dots and spaces anywhere."""
    return "".join(chance.choices(_BITS, k=chance.randrange(2, 14))) + chance.choice(["=1", "=1&a[b]=2", ""])


def _deep(chance: random.Random) -> str:
    """Up to the deepest that PHP takes."""
    depth = chance.choice([5, 17, 40, 62, 63])
    levels = "".join(chance.choices(["[b]", "[]", "[0]", "%5Bb%5D"], k=depth))
    return f"a{levels}=1&a{levels[: levels.find(']') + 1]}[z]=2&a{levels}=3" if depth < 20 else f"a{levels}=1"


def _values(chance: random.Random) -> str:
    """Values, decoded once."""
    return "&".join(
        f"{name}={''.join(chance.choices(_TEXTS, k=chance.randrange(1, 4)))}" for name in chance.sample("abcd", 2)
    )


KINDS: dict[Callable[[random.Random], str], int] = {
    _random: 1000,
    _kommo: 900,
    _one_path: 700,
    _numbers: 700,
    _broken: 1100,
    _deep: 40,
    _values: 300,
}
"""How many bodies of each kind."""


def bodies() -> list[bytes]:
    """Return the chosen bodies, those of the corpus, and random ones of each kind from fixed seeds; each once."""
    made = [*CHOSEN, *(path.read_bytes().rstrip(b"\r\n") for path in corpus())]
    for kind, count in KINDS.items():
        chance = random.Random(f"20261124 {kind.__name__}")
        made += [kind(chance).encode("utf-8", "surrogateescape") for _ in range(count)]
    return list(dict.fromkeys(made))


def _text(hexadecimal: str) -> str:
    return bytes.fromhex(hexadecimal).decode("utf-8", "backslashreplace")


def _tree(pairs: list[Any]) -> dict[str, Any]:
    return {_text(key): _tree(value) if isinstance(value, list) else _text(value) for key, value in pairs}


def main() -> None:
    """Write the vectors: [body with one character a byte, PHP's nest]."""
    asked = bodies()
    lines = "".join(body.hex() + "\n" for body in asked)
    answer = subprocess.run(["php", "-n", "-r", _PHP], input=lines, text=True, capture_output=True, check=True)
    trees = [_tree(json.loads(line)) for line in answer.stdout.splitlines()]
    vectors = [[body.decode("latin-1"), tree] for body, tree in zip(asked, trees, strict=True)]
    VECTORS.write_text(
        "[\n" + ",\n".join(json.dumps(vector, separators=(",", ":")) for vector in vectors) + "\n]\n", encoding="utf-8"
    )
    print(f"{len(vectors)} vectors")


if __name__ == "__main__":
    main()
