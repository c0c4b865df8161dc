from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from schemas.form import parse_form
from simulator.wire import Item, account_block, as_texts, encode, encode_pairs, request_headers, urlencode

BODIES = sorted((Path(__file__).parent / "bodies").glob("*.form"))


@pytest.mark.parametrize("path", BODIES, ids=lambda path: path.stem)
def test_a_body_of_kommo_encoded_again_is_the_same_bytes(path: Path) -> None:
    body = path.read_bytes()
    pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    assert encode_pairs(pairs) == body


def test_there_are_bodies_to_compare_with() -> None:
    assert len(BODIES) >= 20


# What PHP 8's urlencode gives for each of these.
@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("a b", "a+b"),
        ("a+b", "a%2Bb"),
        ("~", "%7E"),
        ("-_.", "-_."),
        ("!*'()", "%21%2A%27%28%29"),
        ("[0]", "%5B0%5D"),
        ("50% & more = ?", "50%25+%26+more+%3D+%3F"),
        ("ñ й 😀", "%C3%B1+%D0%B9+%F0%9F%98%80"),
        ("line\r\n", "line%0D%0A"),
        ("https://a/b:c@d;e,f$g", "https%3A%2F%2Fa%2Fb%3Ac%40d%3Be%2Cf%24g"),
        ("", ""),
    ],
)
def test_texts_are_escaped_as_php_does(text: str, encoded: str) -> None:
    assert urlencode(text) == encoded


NESTED: Item = {"id": 1, "tags": [{"id": "2", "name": "x"}], "empty": [], "map": {"77": {"ID": 77}}, "bare": [5]}


def test_nested_values_are_written_as_php_does() -> None:
    pairs = parse_qsl(encode({"leads": {"add": [NESTED]}}).decode("ascii"))
    assert pairs == [
        ("leads[add][0][id]", "1"),
        ("leads[add][0][tags][0][id]", "2"),
        ("leads[add][0][tags][0][name]", "x"),
        ("leads[add][0][map][77][ID]", "77"),
        ("leads[add][0][bare][0]", "5"),
    ]


def test_texts_are_what_a_receiver_reads() -> None:
    assert as_texts(NESTED) == parse_form(encode({"leads": NESTED}))["leads"]


def test_keys_are_in_the_order_given() -> None:
    body = encode({"account": account_block(16700680, "northgate"), "task": {"delete": [{"id": 5}]}})
    assert body == (
        b"account%5Bsubdomain%5D=northgate&account%5Bid%5D=16700680"
        b"&account%5B_links%5D%5Bself%5D=https%3A%2F%2Fnorthgate.kommo.com&task%5Bdelete%5D%5B0%5D%5Bid%5D=5"
    )


def test_headers_are_kommos() -> None:
    headers = request_headers("0f6b1a52-6d7e-4c7b-9f0e-2b1f6f0d9a11", "amoCRM-Webhooks/3.0")
    assert headers["User-Agent"] == "amoCRM-Webhooks/3.0"
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["X-Amocrm-Requestid"] == "0f6b1a52-6d7e-4c7b-9f0e-2b1f6f0d9a11"
    assert not any("signature" in name.lower() for name in headers)
