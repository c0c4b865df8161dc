"""Wrong settings are named at once, and never shown."""

from __future__ import annotations

import pytest

from runtime.settings import PREFIX, SettingsError, load_settings, unknown_settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", ""),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:b:c"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:99999"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1"),
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "hunter2"),
        ("DATABASE_URL", "postgresql://user:hunter2@127.0.0.1:port/x"),
        ("DATABASE_URL", "mysql://user:hunter2@127.0.0.1/x"),
        ("REDIS_URL", "hunter2"),
        ("REDIS_URL", "redis://:hunter2@host:port/0"),
        ("GATEWAY_URL", "hunter2"),
        ("DASHBOARD_URL", "ftp://hunter2"),
        ("GATEWAY_PORT", "hunter2"),
        ("GATEWAY_ACK_SECONDS", "0"),
        ("KAFKA_GENERATION", "latest"),
        ("KAFKA_PREFIX", "a b"),
    ],
)
def test_a_wrong_setting_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError, match=PREFIX + name) as error:
        load_settings()
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "a.example:9092, b-1:9093,[::1]:9094"),
        ("DATABASE_URL", "postgresql://user:p%40ss@host/db?sslmode=verify-full&sslrootcert=/ca.pem"),
        ("REDIS_URL", "rediss://:password@host:6380/0?ssl_ca_certs=/ca.pem"),
        ("REDIS_URL", "unix:///run/redis.sock"),
        ("GATEWAY_URL", "https://hooks.example/"),
    ],
)
def test_the_forms_of_addresses_are_taken(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    load_settings()


def test_a_misspelt_setting_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}GATEWAY_PROT", "1")
    monkeypatch.setenv(f"{PREFIX}GATEWAY_PORT", "1")
    assert unknown_settings() == [f"{PREFIX}GATEWAY_PROT"]
