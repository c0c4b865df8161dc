"""What leaves for Sentry holds no secret, wherever in the event it stands."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import SecretStr

from runtime.logs import redact
from runtime.scrub import MAX_DEPTH, MAX_MESSAGE_CHARACTERS, MAX_VALUES, Scrubber, secrets_of
from runtime.settings import Settings

SETTINGS = Settings(
    database_url=SecretStr("postgresql://kommo:p%40ssword@127.0.0.1/kommo"),
    redis_url=SecretStr("redis://:of-redis@127.0.0.1/0"),
    kafka_sasl_password=SecretStr("of-kafka"),
    gateway_keys=SecretStr("k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz, k2:OTg3NjU0MzIxMDk4NzY1NDMyMTA5ODc2"),
    integrations=SecretStr("6f1f5a1c-5d3f-4c3f-9d4b-2d6c7a3a1b11:the-secret-of-an-integration"),
)
SECRETS = [
    "p%40ssword",
    "p@ssword",
    "of-redis",
    "of-kafka",
    "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
    "OTg3NjU0MzIxMDk4NzY1NDMyMTA5ODc2",
    "the-secret-of-an-integration",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_the_secrets_of_the_settings_are_known_by_themselves(secret: str) -> None:
    event: dict[str, Any] = {
        "message": f"it said {secret}.",
        "exception": {"values": [{"type": "X", "value": f"a{secret}b", "mechanism": {"data": {secret: [secret]}}}]},
        "extra": {"deep": [[{"a": (secret, 5, None, 1.5, True)}]], "object": {"b": secret.encode()}},
    }
    clean = Scrubber(SETTINGS)(event)
    assert secret not in json.dumps(clean)
    assert clean["message"] == "it said ***."
    assert clean["extra"]["deep"] == [[{"a": ["***", 5, None, 1.5, True]}]]


def test_what_is_named_as_a_secret_and_what_is_not_wanted_stays_here() -> None:
    event = {
        "extra": {"smtp_password": "abc", "Authorization": "abc", "x_token": ["abc"], "api-key": "k", "apikey": "k2"},
        "request": {"url": "/x"},
        "user": {"id": 5},
        "breadcrumbs": {"values": []},
        "modules": {"a": "1"},
        "exception": {"values": [{"value": "x", "stacktrace": {"frames": [{"vars": {"a": "abc"}, "lineno": 5}]}}]},
    }
    clean = Scrubber(SETTINGS)(event)
    assert "abc" not in json.dumps(clean)
    assert clean.keys() == {"extra", "exception"}
    assert clean["exception"]["values"][0]["stacktrace"]["frames"][0]["lineno"] == 5


def test_of_a_message_the_first_line_leaves_and_no_more_of_it_than_that() -> None:
    values = [{"value": "first\nDETAIL:  Failing row contains (Ann)"}, {"value": "x" * 5000}, {"value": None}, {}]
    clean = Scrubber(SETTINGS)({"exception": {"values": values}})["exception"]["values"]
    assert [item["value"] for item in clean] == ["first", "x" * MAX_MESSAGE_CHARACTERS, "", ""]


def test_accounts_are_not_named_by_addresses() -> None:
    text = "for https://acme-corp.kommo.com/api/v4/leads and https://acme.amocrm.ru/x and https://www.example.com"
    assert Scrubber(SETTINGS).text(text) == (
        "for https://***.kommo.com/api/v4/leads and https://***.amocrm.ru/x and https://www.example.com"
    )


def test_a_deep_and_a_large_event_are_bounded() -> None:
    deep: Any = "of-kafka"
    for _ in range(500):
        deep = [deep]
    clean = Scrubber(SETTINGS)({"extra": {"deep": deep}})
    assert json.dumps(clean).count("[") <= MAX_DEPTH
    large = Scrubber(SETTINGS)({"extra": {"large": [5] * (2 * MAX_VALUES)}})
    assert large["extra"]["large"].count(5) < MAX_VALUES


def test_short_secrets_are_not_looked_for() -> None:
    settings = Settings(database_url=SecretStr("postgresql://kommo:kommo@127.0.0.1/kommo"))
    assert "kommo" not in secrets_of(settings)
    assert Scrubber(settings).text("kommo-streams") == "kommo-streams"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("POST /webhooks/k1.5.1.abc-d?x=1", "POST /webhooks/***?x=1"),
        ("kst_0123_abc", "kst_0123_***"),
        ("postgresql://u:pw@h/d", "postgresql://u:***@h/d"),
        ("Authorization: Bearer abcdefghijklmnop.q", "Authorization: Bearer ***"),
        ("basic authentication failed", "basic authentication failed"),
        ("eyJ0eXAiOiJKV1Q.eyJhdWQiOiI.sig_-x rest", "eyJ*** rest"),
        ("def50200" + "ab" * 40, "def502***"),
        ('{"refresh_token": "xyz", "a": 1}', '{"refresh_token": "***", "a": 1}'),
        ("client_secret=abc&x=1", "client_secret=***&x=1"),
        ("the password is wrong", "the password is wrong"),
        ("exit code 2", "exit code 2"),
    ],
)
def test_secrets_of_a_known_form_are_taken_out_of_every_line(text: str, expected: str) -> None:
    assert redact(text) == expected
