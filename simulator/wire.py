"""How Kommo writes a webhook: PHP's http_build_query over nested arrays, the account block first.

Re-encoding captured bodies by these rules gives their bytes, so key order and escapes here are Kommo's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import quote_plus

Value: TypeAlias = "str | int | Mapping[str, Value] | Sequence[Value]"
"""A text, a number, a map or a list, as PHP nests them."""

Item: TypeAlias = dict[str, Value]
"""The fields of one entity in one webhook, in Kommo's order."""

CONTENT_TYPE = "application/x-www-form-urlencoded"
USER_AGENT = "amoCRM-Webhooks/3.0"


def urlencode(text: str) -> str:
    """Return a text as PHP's urlencode writes it: `+` for a space, and everything but `A-Za-z0-9-_.` as %XX."""
    return quote_plus(text).replace("~", "%7E")  # Python leaves the tilde (RFC 3986), PHP does not


# The keys of a body hardly vary; ids in keys (linked_leads_id) do, so the cache is bounded.
_key = lru_cache(maxsize=8192)(urlencode)


def encode_pairs(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return pairs of (key with plain brackets, value) as a form body, in their order."""
    return "&".join(f"{_key(key)}={urlencode(value)}" for key, value in pairs).encode("ascii")


def flatten(value: Value, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a nested value under a key; empty maps and lists leave no trace, as in PHP."""
    if isinstance(value, str):
        yield prefix, value
    elif isinstance(value, int):
        yield prefix, str(value)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from flatten(inner, f"{prefix}[{name}]")
    else:
        for number, inner in enumerate(value):
            yield from flatten(inner, f"{prefix}[{number}]")


def account_block(account_id: int, subdomain: str) -> Item:
    """Return the block that has come first in every body since about 2023."""
    return {"subdomain": subdomain, "id": account_id, "_links": {"self": f"https://{subdomain}.kommo.com"}}


def encode_body(account: Item, entity: str, action: str, item: Item) -> bytes:
    """Return the body of a webhook about one item: account block, then `entity[action][0][field]`."""
    return encode_pairs([*flatten(account, "account"), *flatten(item, f"{entity}[{action}][0]")])


def request_headers(request_id: str) -> dict[str, str]:
    """Return the headers of Kommo's request. There is no signature and no charset; `request_id` is a UUID."""
    return {
        "User-Agent": USER_AGENT,
        "Content-Type": CONTENT_TYPE,
        "Accept-Encoding": "gzip",
        "X-Amocrm-Requestid": request_id,
    }
