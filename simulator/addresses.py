"""Webhook addresses, and whose they are: each is signed for one account, so each account needs one of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from runtime.settings import PREFIX, Settings
from simulator.company import DEFAULT_ACCOUNT

_MORE = (
    "`kommo-streams webhook-url --account ID` makes one; give several by --url, or in "
    f"{PREFIX}WEBHOOK_URL separated by spaces"
)


class AddressError(ValueError):
    """Addresses that cannot be sent to; the message says what to do, and never repeats an address."""


def token_account(url: str) -> int | None:
    """Return the account id in a webhook address' token (KEYID.ACCOUNT.GENERATION.SIGNATURE); None where none is."""
    parts = urlsplit(url).path.rstrip("/").rpartition("/")[2].split(".")
    return int(parts[1]) if len(parts) == 4 and parts[1].isascii() and parts[1].isdecimal() else None


def by_account(given: Sequence[str], settings: Settings, accounts: int | None, account: int | None) -> dict[int, str]:
    """Return the addresses to send to, by account.

    `given`: addresses, or @FILE with one a line; where none is, those of the settings. `accounts`: how many, all
    where None. `account`: whose the only address is, where its token does not say. Raises AddressError.
    """
    found = [address for text in given or [_of(settings)] for address in _read(text)]
    if not found:
        raise AddressError(
            f"no webhook address: give --url or set {PREFIX}WEBHOOK_URL (`up` writes it to its env file)."
        )
    if accounts is not None and accounts > len(found):
        raise AddressError(
            f"--accounts {accounts}: of {len(found)} there is an address, and each needs its own; {_MORE}."
        )
    for address in found:
        _check(address)
    found = found[:accounts]
    if len(found) == 1:
        return {_whose(found[0], account): found[0]}
    if account is not None:
        raise AddressError("--account goes with one address only; of several each names its account.")
    owned = {named: address for address in found if (named := token_account(address)) is not None}
    if len(owned) < len(found):
        raise AddressError(f"of {len(found)} addresses only {len(owned)} name an account of their own; {_MORE}.")
    return owned


def _of(settings: Settings) -> str:
    return settings.webhook_url.get_secret_value() if settings.webhook_url is not None else ""


def _read(text: str) -> list[str]:
    if not text.startswith("@"):
        return text.split()
    try:
        return Path(text[1:]).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise AddressError(f"--url {text}: the file cannot be read: {error}") from None


def _check(address: str) -> None:
    valid = False
    with contextlib.suppress(ValueError):  # its message would repeat the address
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    if not valid:
        raise AddressError("the webhook address is not an http:// or https:// address.")


def _whose(address: str, account: int | None) -> int:
    named = token_account(address)
    if account is None:
        return named or DEFAULT_ACCOUNT
    if named is not None and named != account:
        raise AddressError(
            f"--account {account}: the webhook address belongs to account {named}, and bodies must name the same."
        )
    return account
