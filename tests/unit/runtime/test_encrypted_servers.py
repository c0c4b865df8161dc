"""Settings of encrypted connections that cannot be right are said at the start, before anything is connected to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runtime.process import StartError
from runtime.settings import Settings
from streams.topics import ensure_topics


def test_sasl_without_a_user_is_said() -> None:
    settings = Settings(kafka_security_protocol="SASL_SSL")
    with pytest.raises(StartError, match="KAFKA_SASL_USERNAME"):
        asyncio.run(ensure_topics(settings))


def test_a_certificate_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    settings = Settings(kafka_security_protocol="SSL", kafka_ssl_cafile=str(tmp_path / "none.pem"))
    with pytest.raises(StartError, match="KAFKA_SSL_CAFILE"):
        asyncio.run(ensure_topics(settings))
