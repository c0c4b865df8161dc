"""The call that tells of a disabled integration: who may make it, and what of it is kept."""

from __future__ import annotations

import functools
import hashlib
import hmac

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.integrations import MAX_QUERY_BYTES, Disabled, Integrations
from runtime.process import StartError
from runtime.settings import Settings, SettingsError, load_settings
from service.cli import cli

CLIENT = "01d01160-8a2b-4c3d-9e4f-0123456789ab"
SECRET = "Zm9vYmFy0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST"
OTHER = "11111111-2222-3333-4444-555555555555"
OTHER_SECRET = "other:secret!with~signs"


@functools.cache  # settings take 10 ms to make
def integrations(text: str = f"{CLIENT}:{SECRET}") -> Integrations:
    return Integrations.from_settings(Settings(integrations=text))


def signed(account: object, client: str = CLIENT, secret: str = SECRET) -> str:
    """The query as Kommo makes it."""
    signature = hmac.new(secret.encode(), f"{client}|{account}".encode(), hashlib.sha256).hexdigest()
    return f"client_uuid={client}&account_id={account}&signature={signature}"


@given(st.integers(1, 2**63 - 1))
def test_a_genuine_call_says_its_account_and_is_kept_without_the_signature(account: int) -> None:
    kept = f"client_uuid={CLIENT}&account_id={account}".encode()
    assert integrations().verify(signed(account).encode()) == Disabled(account, kept)


def test_several_integrations_have_a_secret_each() -> None:
    both = integrations(f" {CLIENT.upper()}:{SECRET} , {OTHER}:{OTHER_SECRET},")
    assert both.verify(signed(5).encode())
    assert both.verify(signed(5, OTHER, OTHER_SECRET).encode())
    assert both.verify(signed(5, OTHER, SECRET).encode()) is None
    assert both.verify(signed(5, CLIENT, OTHER_SECRET).encode()) is None


def test_a_parameter_that_kommo_adds_tomorrow_is_kept_in_its_place() -> None:
    client, account, signature = signed(5).split("&")
    query = "&".join(["from=app%20store", signature, account, "referer=", client])
    found = integrations().verify(query.encode())
    assert found == Disabled(5, f"from=app%20store&{account}&referer=&{client}".encode())


@given(st.data())
def test_any_other_query_is_refused(data: st.DataObject) -> None:
    known = integrations()
    genuine = signed(32720107)
    place = data.draw(st.integers(0, len(genuine) - 1))
    letter = data.draw(st.characters(codec="utf-8").filter(lambda c: c != genuine[place]))
    assert known.verify((genuine[:place] + letter + genuine[place + 1 :]).encode()) is None
    assert known.verify(genuine[:place].encode()) is None
    assert known.verify(data.draw(st.binary(max_size=2000))) is None


def wrong_queries() -> list[str]:
    """Everything that is nearly genuine."""
    genuine = signed(32720107)
    client, account, signature = genuine.split("&")
    return [
        "",
        signed(32720107, secret=OTHER_SECRET),
        signed(32720107, OTHER, OTHER_SECRET),  # nobody's
        f"{client}&{account}",
        f"{client}&{signature}",
        f"{account}&{signature}",
        f"{client}&{account}&signature=",
        *(f"{genuine}&{doubled}" for doubled in (client, account, signature, "account_id=1", "signature=x")),
        *(f"{genuine}&{nested}" for nested in ("account_id[]=1", "client_uuid[a]=1", "%61ccount_id=1", "account.id=1")),
        f"{genuine}&",
        f"{genuine}&x=1&x=2",
        f"{genuine}&x={'y' * MAX_QUERY_BYTES}",
        f"x={'y' * MAX_QUERY_BYTES}&{genuine}",
        f"{client}&{account}&{signature.upper()}",
        f"{client}&{account}&{signature[:-1]}",
        f"{client}&{account}&{signature}0",
        f"{client}&account_id=%33{account[12:]}&{signature}",
        *(signed(account) for account in ("0", "-5", "05", "5.0", "", "x", 2**63, 10**30)),
        signed(5, CLIENT.upper()),
    ]


@pytest.mark.parametrize("query", wrong_queries())
def test_what_is_nearly_genuine_is_refused(query: str) -> None:
    assert integrations().verify(query.encode()) is None


def test_without_integrations_nothing_is_genuine() -> None:
    for none in (None, "", " , "):
        known = Integrations.from_settings(Settings(integrations=none))
        for secret in (SECRET, "", hashlib.sha256(b"").hexdigest()):
            assert known.verify(signed(5, secret=secret).encode()) is None


WRONG = {
    SECRET: "number 1 has no colon",
    f"{CLIENT}{SECRET}": "number 1 has no colon",
    f"{SECRET}:{CLIENT}": "number 1 has before its colon no client id",
    f"{CLIENT[:-1]}:{SECRET}": "number 1 has before its colon no client id",
    f"{CLIENT}:short": "number 1 has a secret that is not of 16",
    f"{CLIENT}:{SECRET} {SECRET}": "number 1 has a secret that is not of 16",
    f"{CLIENT}:é{SECRET}": "number 1 has a secret that is not of 16",
    f"{CLIENT}:{SECRET};{OTHER}:{OTHER_SECRET}" + "x" * 256: "number 1 has a secret that is not of 16",
    f"{CLIENT}:{SECRET},{OTHER}:": "number 2 has a secret that is not of 16",
    f"{CLIENT}:{SECRET},{CLIENT.upper()}:{OTHER_SECRET}": "number 2 has the client id of an earlier one",
    f"{CLIENT}:{SECRET},,{OTHER_SECRET}": "number 2 has before its colon no client id",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_wrong_setting_is_named_and_never_shown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = Settings().model_copy(update={"integrations": SecretStr(text)})
    with pytest.raises(StartError) as started:
        Integrations.from_settings(changed)
    monkeypatch.setenv("KOMMO_STREAMS_INTEGRATIONS", text)
    with pytest.raises(SettingsError) as loaded:
        load_settings()
    config = CliRunner().invoke(cli, ["config"])
    assert (config.exit_code, config.stdout) == (2, "")
    for said in (str(started.value), str(loaded.value), config.stderr):
        assert "KOMMO_STREAMS_INTEGRATIONS: " in said
        assert WRONG[text] in said
        assert "must be CLIENT_UUID:CLIENT_SECRET" in said
        assert "Keys and scopes" in said
        for secret in (SECRET, OTHER_SECRET, "short", CLIENT, CLIENT[:-1], CLIENT.upper(), OTHER):
            assert secret not in said
    assert started.value.__cause__ is None


def test_a_right_setting_is_accepted_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("", " , ", f" {CLIENT.upper()}:{SECRET} , {OTHER}:{OTHER_SECRET},"):
        monkeypatch.setenv("KOMMO_STREAMS_INTEGRATIONS", text)
        config = CliRunner().invoke(cli, ["config"])
        assert config.exit_code == 0
        assert "KOMMO_STREAMS_INTEGRATIONS = (set)" in config.stdout
        assert SECRET not in config.output
