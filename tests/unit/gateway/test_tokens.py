"""Webhook tokens: genuine ones say whose they are, all others are one and the same nothing."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tokens import Keyring, Token
from runtime.process import StartError
from runtime.settings import Settings, SettingsError, load_settings
from tests.support.installation import KEYS

OTHER = "k2:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY"


@functools.cache  # settings take 10 ms to make
def keyring(text: str) -> Keyring:
    return Keyring.from_settings(Settings(gateway_keys=text))


@given(st.integers(1, 2**63 - 1), st.integers(1, 10**9 - 1))
def test_a_signed_token_says_its_account_and_generation(account: int, generation: int) -> None:
    keys = keyring(KEYS)
    assert keys.verify(keys.sign(Token(account, generation))) == Token(account, generation)


@given(st.data())
def test_any_other_text_is_refused(data: st.DataObject) -> None:
    keys = keyring(KEYS)
    genuine = keys.sign(Token(16700680, 3))
    place = data.draw(st.integers(0, len(genuine) - 1))
    letter = data.draw(st.characters(codec="utf-8").filter(lambda c: c != genuine[place]))
    assert keys.verify(genuine[:place] + letter + genuine[place + 1 :]) is None
    assert keys.verify(genuine[:place]) is None
    assert keys.verify(genuine + letter) is None
    assert keys.verify(data.draw(st.text(max_size=300).filter(lambda text: text != genuine))) is None


def test_a_key_can_be_rotated() -> None:
    old, both, new = keyring(KEYS), keyring(f"{OTHER},{KEYS}"), keyring(OTHER)
    given_out = old.sign(Token(1, 1))
    assert both.verify(given_out) == Token(1, 1)
    assert new.verify(given_out) is None
    assert new.verify(both.sign(Token(1, 1))) == Token(1, 1)
    assert old.verify(both.sign(Token(1, 1))) is None


def test_a_token_of_one_account_is_none_of_another() -> None:
    keys = keyring(KEYS)
    key_id, _account, generation, signature = keys.sign(Token(1, 1)).split(".")
    assert keys.verify(f"{key_id}.2.{generation}.{signature}") is None
    assert keys.verify(f"{key_id}.01.{generation}.{signature}") is None


def test_no_keys_are_named_with_the_way_to_make_one() -> None:
    with pytest.raises(StartError, match=r"GATEWAY_KEYS is not set.*os\.urandom"):
        keyring("")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("k1", "key 1 is not ID:BASE64URL"),
        ("k1:short", "key 1 is not ID:BASE64URL"),
        ("K1:" + KEYS[3:], "key 1 is not ID:BASE64URL"),
        ("k1:" + "é" * 40, "key 1 is not ID:BASE64URL"),
        (f"{OTHER},k1:" + "a" * 33, "key 2 is not base64url"),
        (f"{KEYS}, {KEYS}", "key 2 has the id of an earlier one"),
    ],
)
def test_wrong_keys_are_refused_before_any_process_starts(
    text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOMMO_STREAMS_GATEWAY_KEYS", text)
    with pytest.raises(SettingsError, match=r"KOMMO_STREAMS_GATEWAY_KEYS.*os\.urandom") as error:
        load_settings()
    assert said in str(error.value)
    assert all(part.partition(":")[2] not in str(error.value) for part in text.split(",") if ":" in part)
