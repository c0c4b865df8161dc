"""An integration, an account and credentials of it, as tests of the client for Kommo use them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import SecretStr

from agents.kommo.credentials import Credentials, Pair
from tests.support.raw_server import jwt

CLIENT = "5f3a0c9e-1b7d-4c55-9a61-0d6a3f8e2b14"
SECRET = "a-secret-of-the-integration"
REDIRECT = "https://hooks.example/oauth"
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
ACCOUNT = 31337
TOKEN = jwt(account_id=ACCOUNT, sub="77", exp=4_000_000_000)


def credentials(base_url: str, account_id: int = ACCOUNT, **other: Any) -> Credentials:
    """Credentials of a long-lived token, unless `refresh` is given."""
    refresh = other.pop("refresh", None)
    lives = other.pop("lives", dt.timedelta(days=1))
    pair = Pair(
        SecretStr(other.pop("access", TOKEN)),
        dt.datetime.now(dt.UTC) + lives,
        None if refresh is None else SecretStr(refresh),
    )
    own: dict[str, Any] = {} if refresh is None else {"client_uuid": CLIENT, "redirect_uri": REDIRECT}
    return Credentials(account_id, base_url, pair, **own, **other)
