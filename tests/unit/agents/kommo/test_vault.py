"""Secrets at rest: what is kept tells nothing, belongs to its place, and outlives a change of keys."""

from __future__ import annotations

import base64
import secrets
import sys

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from agents.kommo.vault import Vault, VaultError
from runtime.errors import StartError
from runtime.settings import PREFIX, Settings, SettingsError, load_settings
from schemas.errors import ErrorClass
from tests.integration.agents.kommo.conftest import KEY


def key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def vault(*keys: str) -> Vault:
    return Vault.from_settings(Settings(token_keys=SecretStr(" , ".join(keys))))


def test_what_is_kept_comes_back_and_is_not_readable() -> None:
    kept = vault(key()).encrypt("1/access", SecretStr("the token\nof two lines"))
    assert b"token" not in base64.urlsafe_b64decode(kept)
    one = key()
    kept = vault(one).encrypt("1/access", SecretStr("the token\nof two lines"))
    assert vault(one).decrypt("1/access", kept).get_secret_value() == "the token\nof two lines"
    assert Fernet(one).decrypt(kept) == b"1/access\nthe token\nof two lines"


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    old, new = key(), key()
    kept = vault(old).encrypt("1/access", SecretStr("t"))
    both = vault(new, old)
    assert both.decrypt("1/access", kept).get_secret_value() == "t"
    with pytest.raises(VaultError):
        vault(new).decrypt("1/access", kept)
    assert vault(new).decrypt("1/access", both.rotate("1/access", kept)).get_secret_value() == "t"


@pytest.mark.parametrize("broken", [b"", b"x", b"gAAAAA==", None])
def test_what_is_of_another_place_or_broken_is_refused(broken: bytes | None) -> None:
    one = vault(key())
    kept = one.encrypt("1/access", SecretStr("secret of one"))
    with pytest.raises(VaultError) as caught:
        one.decrypt("2/access" if broken is None else "1/access", kept if broken is None else broken)
    assert caught.value.error_class is ErrorClass.AUTHENTICATION
    assert caught.value.left is False
    assert "secret of one" not in str(caught.value)


def test_without_keys_or_library_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartError, match=f"{PREFIX}TOKEN_KEYS"):
        Vault.from_settings(Settings())
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(StartError, match="worker"):
        vault(key())


@pytest.mark.parametrize(
    "value",
    ["hunter2", "hunter2!" + "A" * 35 + "=", f"{KEY[:-2]}==", f"{KEY},hunter2", KEY.replace("=", ""), f"{KEY}="],
)
def test_a_wrong_key_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(f"{PREFIX}TOKEN_KEYS", value)
    with pytest.raises(SettingsError, match=f"{PREFIX}TOKEN_KEYS.*base64url") as caught:
        load_settings()
    for part in value.split(","):
        assert part not in str(caught.value)
    assert "MDEy" not in str(caught.value)


def test_the_other_settings_of_the_client_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("OAUTH_REDIRECT_URI", "hooks"), ("KOMMO_RATE", "0"), ("KOMMO_TIMEOUT_SECONDS", "0")):
        with monkeypatch.context() as one:
            one.setenv(PREFIX + name, value)
            with pytest.raises(SettingsError, match=PREFIX + name):
                load_settings()
