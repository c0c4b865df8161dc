"""Asks PHP how it nests forms, and writes its answers to php_vectors.json. The tests read that file and need no PHP.

    python -m tests.schemas.make_php_vectors        # needs `php` (made with 8.2) on the PATH

What PHP keeps as bytes that are not UTF-8 is written as \\xNN, as the parser shows it. Left out on purpose, because
the parser reads them otherwise and no sender writes them: control characters that are not percent-encoded (the
parser refuses them), and one character of which some bytes are percent-encoded and some are not.
"""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

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
    # depth
    b"a" + b"[b]" * 63 + b"=1",
    b"a" + b"[]" * 63 + b"=1",
]

_NAMES = ["a", "b", "leads", "a.b", "a b", "+a", "", "ж", "%D0%B6", "_", "0", "a%00c"]
_PARTS = ["[a]", "[b]", "[0]", "[1]", "[7]", "[01]", "[-3]", "[]", "[+]", "[a.b]", "[a b]", "%5Ba%5D", "%5B0%5D"]
_ODD = ["[", "]", "[a", "a]", "x", "[[", "]]", "[ж]", "%5B", "%5D", "[%00]", "[a%FF]", " ", "."]
_VALUES = ["", "1", "x", "a+b", "%20", "100%", "%2B", "ж", "%D0%B6", "%FF", "%E2%82", "a=b", "[x]", "%zz", "%00"]


def bodies() -> list[bytes]:
    """Return the chosen bodies and, from a fixed seed, random ones on few names, so that their paths meet."""
    chance = random.Random(20261124)
    made = list(CHOSEN)
    for number in range(400):
        odd = number % 4 == 0
        keys = [
            chance.choice(_NAMES) + "".join(chance.choices(_PARTS + (_ODD if odd else []), k=chance.randrange(4)))
            for _ in range(chance.randrange(1, 4))
        ]
        pairs = [
            chance.choice(keys) + chance.choice(["", "", "[c]", "[]"]) + "=" + chance.choice(_VALUES)
            for _ in range(chance.randrange(1, 9))
        ]
        made.append("&".join(pairs).encode())
    return made


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
    VECTORS.write_text("[\n" + ",\n".join(json.dumps(vector) for vector in vectors) + "\n]\n", encoding="utf-8")
    print(f"{len(vectors)} vectors")


if __name__ == "__main__":
    main()
