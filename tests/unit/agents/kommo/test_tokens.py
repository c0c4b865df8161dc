"""What a token says of itself, the integrations of the settings, and the addresses that a token may be sent to."""

from __future__ import annotations

import datetime as dt

import pytest
from pydantic import SecretStr

from agents.kommo.credentials import base_url_of
from agents.kommo.oauth import Claims, claims_of, integrations_of
from runtime.settings import Settings
from tests.support.credentials import ACCOUNT, CLIENT, SECRET, TOKEN
from tests.support.raw_server import jwt


def test_claims_are_read_whatever_they_are() -> None:
    assert claims_of(SecretStr(TOKEN)) == Claims(ACCOUNT, 77, dt.datetime.fromtimestamp(4_000_000_000, dt.UTC))
    assert claims_of(SecretStr(jwt(account_id="31337"))) == Claims(31337)
    nothing = [
        "",
        "a.b",
        "a.!.c",
        "eyJ.eyJ",
        jwt(),
        jwt(account_id=True, sub=[], exp="x"),
        jwt(account_id=-1, exp=1e99),
    ]
    for text in [*nothing, "a.W10.c", "a.é.c", jwt(account_id=0, sub="²", exp=None)]:
        assert claims_of(SecretStr(text)) == Claims(), text


def test_integrations_of_the_settings() -> None:
    known = integrations_of(Settings(integrations=SecretStr(f" {CLIENT.upper()}:{SECRET} , {CLIENT[:-1]}0:{'b:' * 9}")))
    assert {client: secret.get_secret_value() for client, secret in known.items()} == {
        CLIENT: SECRET,
        f"{CLIENT[:-1]}0": "b:" * 9,
    }
    assert SECRET not in repr(known)
    assert integrations_of(Settings()) == {}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://Sub.kommo.com/", "https://sub.kommo.com"),
        (" https://sub.amocrm.ru ", "https://sub.amocrm.ru"),
        ("https://sub.kommo.com:8443", "https://sub.kommo.com:8443"),
        ("http://127.0.0.1:8085/", "http://127.0.0.1:8085"),
        ("http://[::1]:8085", "http://[::1]:8085"),
        ("http://localhost:1", "http://localhost:1"),
    ],
)
def test_addresses_that_are_taken(text: str, address: str) -> None:
    assert base_url_of(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sub.kommo.com",
        "http://sub.kommo.com",
        "http://127.0.0.1.nip.io",
        "http://10.0.0.1",
        "https://user:pw@sub.kommo.com",
        "https://sub.kommo.com/leads",
        "https://sub.kommo.com?x=1",
        "https://sub.kommo.com#x",
        "https://",
        "https://sub.kommo.com:99999",
        "https://[::1",
        "ftp://127.0.0.1",
        "https://süb.kommo.com",
    ],
)
def test_addresses_that_are_not(text: str) -> None:
    with pytest.raises(ValueError):
        base_url_of(text)
