"""Every setting of every process: environment variables KOMMO_STREAMS_..., read once at start (12-factor)."""

from __future__ import annotations

import base64
import os
import re
import sys
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime.integrations import read_integrations
from runtime.signing_keys import read_signing_keys

PREFIX = "KOMMO_STREAMS_"


class SettingsError(Exception):
    """A setting is missing or wrong; the message names it and says what to do."""


class Settings(BaseSettings):
    """The settings, their defaults and their reasons; `kommo-streams config` prints this list."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)

    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port, comma-separated.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to speak to Kafka."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, for the SASL_ protocols."
    )
    kafka_sasl_username: str | None = Field(None, description="SASL user name.")
    kafka_sasl_password: SecretStr | None = Field(None, description="SASL password.")
    kafka_ssl_cafile: str | None = Field(None, description="PEM file of the authority that signed the brokers.")
    kafka_ssl_certfile: str | None = Field(None, description="PEM file of this client's certificate.")
    kafka_ssl_keyfile: str | None = Field(None, description="PEM file of this client's key.")
    kafka_prefix: str = Field(
        "",
        pattern=r"^[a-zA-Z0-9._-]{0,64}$",
        description="Put before every topic and consumer group, where installations share a cluster.",
    )
    kafka_generation: str = Field(
        "g1",
        pattern=r"^g[0-9]{1,9}$",
        description="Which generation of the topics is live (kommo.events.g1).",
    )
    webhooks_partitions: int = Field(12, ge=1, le=1000, description="Partitions of kommo.webhooks, at creation.")
    events_partitions: int = Field(32, ge=1, le=1000, description="Partitions of kommo.events, at creation.")
    commands_partitions: int = Field(12, ge=1, le=1000, description="Partitions of kommo.commands, at creation.")
    webhooks_retention_ms: int = Field(
        -1,
        ge=-1,
        description="How long raw deliveries are kept, in ms; -1 for ever (only that can be replayed).",
    )

    database_url: SecretStr = Field(
        SecretStr("postgresql://127.0.0.1:5432/kommo"),
        description="PostgreSQL; TLS by ?sslmode=verify-full&sslrootcert=FILE as in libpq.",
    )
    database_pool_size: int = Field(8, ge=2, le=200, description="Connections to PostgreSQL a process may hold.")
    redis_url: SecretStr | None = Field(
        None, description="Redis, a cache only; TLS by rediss://...?ssl_ca_certs=FILE. Unset: no cache."
    )

    gateway_host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    gateway_port: int = Field(8081, ge=0, le=65535, description="Port of the gateway.")
    gateway_url: str = Field(
        "http://127.0.0.1:8081",
        description="How Kommo reaches the gateway: the base of every webhook address.",
    )
    gateway_keys: SecretStr | None = Field(
        None,
        description="Keys that sign webhook addresses, ID:BASE64URL, comma-separated; the first signs, all verify.",
    )
    gateway_ack_seconds: float = Field(
        1.5,
        gt=0,
        le=10,
        description="Longest wait for Kafka before the gateway answers 503 (Kommo waits 2 s).",
    )
    gateway_body_seconds: float = Field(
        5.0, gt=0, le=60, description="Longest wait for a request's whole body before it is cut off."
    )

    integrations: SecretStr | None = Field(
        None,
        description="Your own integrations, CLIENT_UUID:CLIENT_SECRET, comma-separated: with the secret Kommo signs "
        "the call that tells of a disabled one. Unset: GET /integrations/disabled answers 404.",
    )

    token_keys: SecretStr | None = Field(
        None,
        description="Fernet keys that keep Kommo's tokens secret in PostgreSQL, comma-separated; the first encrypts, "
        "all decrypt.",
    )
    oauth_redirect_uri: str | None = Field(
        None, description="The redirect address of your integration, exactly as it stands in Kommo."
    )
    kommo_rate: int = Field(7, ge=1, le=10_000, description="Most requests to Kommo in any second, of one account.")
    kommo_timeout_seconds: float = Field(
        15.0, ge=1, le=60, description="Longest wait for Kommo's whole answer to a request."
    )

    dashboard_host: str = Field("127.0.0.1", description="Address the dashboard listens on.")
    dashboard_port: int = Field(8080, ge=0, le=65535, description="Port of the dashboard.")
    dashboard_url: str = Field("http://127.0.0.1:8080", description="How people reach the dashboard.")
    dashboard_token: SecretStr | None = Field(
        None, description="A dashboard token for programs; `up` writes one to its env file."
    )

    ingest_host: str = Field("127.0.0.1", description="Address of ingest's health and metrics.")
    ingest_port: int = Field(8082, ge=0, le=65535, description="Port of ingest's health and metrics.")
    projector_host: str = Field("127.0.0.1", description="Address of the projector's health and metrics.")
    projector_port: int = Field(8083, ge=0, le=65535, description="Port of the projector's health and metrics.")

    worker_host: str = Field("127.0.0.1", description="Address of a worker's health and metrics.")
    worker_port: int = Field(8084, ge=0, le=65535, description="Port of a worker's health and metrics.")
    commands_running: int = Field(
        512, ge=1, le=10_000, description="Most commands that one worker carries out at once, of all accounts."
    )
    commands_per_account: int = Field(
        8, ge=1, le=100, description="Most commands of one account that are carried out at once."
    )
    retry: str = Field(
        "",
        description="Other than the default retries: NAME.FIELD=VALUE, comma-separated. NAME is all, an error class or "
        "an action, FIELD one of attempts, base, cap, jitter, age (seconds): create_task.age=3600",
    )
    smtp_url: SecretStr | None = Field(
        None,
        description="Your mail server, for send_email: smtp://USER:PASSWORD@HOST:587 (STARTTLS), or smtps://.",
    )
    mail_from: str | None = Field(None, description="The sender of what send_email sends: NAME <ADDRESS>.")

    batch_rows: int = Field(5000, ge=1, le=50000, description="Most records in one batch of ingest or projector.")
    batch_seconds: float = Field(
        0.25, gt=0, le=10, description="Longest time a batch is filled while more records are waiting."
    )

    webhook_url: SecretStr | None = Field(
        None, description="A webhook address that can be posted to; `up` writes one to its env file."
    )

    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="console for people, json for machines; auto: console on a terminal."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The least severe line logged.")

    sentry_dsn: SecretStr | None = Field(
        None, description="Where Sentry takes errors that need a person; needs the extra `worker`. Unset: no Sentry."
    )
    sentry_environment: str = Field(
        "production",
        pattern=r"^[^\s/]{1,64}$",
        description="What Sentry calls this installation.",
    )
    sentry_sample_rate: float = Field(
        1.0, ge=0, le=1, description="Which part of those errors Sentry gets: 1 all of them, 0 none."
    )

    maven_repository: SecretStr | None = Field(
        None, description="Where `up` fetches Kafka's jars, instead of Maven Central."
    )

    @field_validator("gateway_url", "dashboard_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        _check_address(value, "http", "https")
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _database_address(cls, value: SecretStr) -> SecretStr:
        _check_address(value.get_secret_value(), "postgresql", "postgres")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_address(value.get_secret_value(), "redis", "rediss", "unix")
        return value

    @field_validator("integrations")
    @classmethod
    def _clients(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            read_integrations(value.get_secret_value())
        return value

    @field_validator("gateway_keys")
    @classmethod
    def _signing_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            read_signing_keys(value.get_secret_value())
        return value

    @field_validator("token_keys")
    @classmethod
    def _fernet_keys(cls, value: SecretStr | None) -> SecretStr | None:
        for number, key in enumerate(fernet_keys(value), 1):
            try:
                right = _FERNET.fullmatch(key) is not None and len(base64.urlsafe_b64decode(key)) == 32
            except ValueError:
                right = False
            if not right:
                raise ValueError(
                    f"key {number} is not 32 bytes in base64url; make one with: python -c "
                    "'import base64, secrets; print(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())'"
                )
        return value

    @field_validator("oauth_redirect_uri")
    @classmethod
    def _redirect_address(cls, value: str | None) -> str | None:
        if value is not None:
            _check_address(value, "http", "https")
        return value

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _brokers(cls, value: str) -> str:
        for broker in value.split(","):
            match = _BROKER.fullmatch(broker.strip())
            if match is None or not 0 < int(match[1]) < 65536:
                raise ValueError("must be host:port, or several of them with commas between")
        return value


_BROKER = re.compile(r"(?:[^\s:,\[\]]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})")


_FERNET = re.compile(r"[A-Za-z0-9_-]{43}=")


def fernet_keys(value: SecretStr | None) -> list[str]:
    """Return the keys of a value as token_keys has it, in their order."""
    text = value.get_secret_value() if value is not None else ""
    return [part for part in (part.strip() for part in text.split(",")) if part]


def _check_address(value: str, *schemes: str) -> None:
    """Raise ValueError where a value is no URL of one of these schemes; the message never holds the value."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("the address or its port cannot be read") from None
    if parts.scheme not in schemes or not (parts.netloc or parts.path):
        raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")


def unknown_settings() -> list[str]:
    """Return the KOMMO_STREAMS_ variables that no setting reads: most often a misspelt name."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises SettingsError that names each wrong variable; a secret's value is never in the message.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"{PREFIX}{'_'.join(map(str, item['loc'])).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        )
        raise SettingsError(f"wrong settings: {wrong}. `kommo-streams config` lists them all.") from None


def use_console(settings: Settings) -> bool:
    """Whether log lines are for a person: chosen, or a terminal is there."""
    return settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
