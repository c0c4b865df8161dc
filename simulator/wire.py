"""How Kommo writes a webhook: PHP's http_build_query over nested arrays, beside the account block.

Re-encoding captured bodies by these rules gives their bytes, so key order and escapes here are Kommo's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import quote_plus

Value: TypeAlias = "str | int | Mapping[str, Value] | Sequence[Value]"
"""A text, a number, a map or a list, as PHP nests them."""

Item: TypeAlias = dict[str, Value]
"""The fields of one entity in one webhook, in Kommo's order."""

Texts: TypeAlias = dict[str, Any]
"""An item as it is on the wire: nested maps whose leaves are texts; a list has the keys "0", "1", ..."""

CONTENT_TYPE = "application/x-www-form-urlencoded"


def urlencode(text: str) -> str:
    """Return a text as PHP's urlencode writes it: `+` for a space, and everything but `A-Za-z0-9-_.` as %XX."""
    return quote_plus(text).replace("~", "%7E")  # Python leaves the tilde (RFC 3986), PHP does not


# Names, and the values of an account's fields, hardly vary; ids do, so the cache is bounded.
_cached = lru_cache(maxsize=16384)(urlencode)


def encode_pairs(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return pairs of (key with plain brackets, value) as a form body, in their order."""
    return "&".join(f"{_cached(key)}={urlencode(value)}" for key, value in pairs).encode("ascii")


def encode(tree: Item) -> bytes:
    """Return nested values as a form body; empty maps and lists leave no trace, as in PHP."""
    return "&".join(pair for name, value in tree.items() for pair in _pairs(_cached(name), value)).encode("ascii")


def _pairs(key: str, value: Value) -> Iterator[str]:
    if isinstance(value, str):
        yield f"{key}={_cached(value)}"
    elif isinstance(value, int):
        yield f"{key}={value}"
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _pairs(f"{key}%5B{_cached(name)}%5D", inner)
    else:
        for number, inner in enumerate(value):
            yield from _pairs(f"{key}%5B{number}%5D", inner)


def as_texts(value: Value) -> Any:
    """Return a nested value as a receiver nests it again: Texts of a map or list, a text of a text or number."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    pairs = value.items() if isinstance(value, Mapping) else ((str(n), inner) for n, inner in enumerate(value))
    texts = {name: as_texts(inner) for name, inner in pairs}
    return {name: inner for name, inner in texts.items() if inner != {}}


def account_block(account_id: int, subdomain: str, domain: str = "kommo.com") -> Item:
    """Return the block that tells which account a body is of."""
    return {"subdomain": subdomain, "id": account_id, "_links": {"self": f"https://{subdomain}.{domain}"}}


def request_headers(request_id: str, user_agent: str) -> dict[str, str]:
    """Return the headers of Kommo's request. There is no signature and no charset; `request_id` is a UUID.

    Whether a second attempt has the same is not known; here it has.
    """
    return {
        "User-Agent": user_agent,
        "Content-Type": CONTENT_TYPE,
        "Accept-Encoding": "gzip",
        "X-Amocrm-Requestid": request_id,
    }
