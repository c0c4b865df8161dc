"""The built wheel: it holds all that the source tree has, and its command line runs from it alone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from runtime.settings import PREFIX, Settings
from tests.support import ROOT

PACKAGES = ("schemas", "runtime", "streams", "agents", "projections", "gateway", "dashboard", "simulator", "service")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", folder, ROOT], check=True, timeout=120)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    target = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def run(home: Path, *arguments: str, path: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, (path, str(home)))), **settings}
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=home.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_holds_every_file_of_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    source = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert any(name.endswith(".sql") for name in source)
    assert any(name.endswith(".js") for name in source)
    assert source <= held
    assert {name.split("/")[0] for name in held} == {*PACKAGES, f"kommo_streams-{_version(wheel)}.dist-info"}


def _version(wheel: Path) -> str:
    return wheel.name.split("-")[1]


def test_its_command_line_runs_from_it(unpacked: Path) -> None:
    shown = run(unpacked, "config")
    assert shown.returncode == 0, shown.stderr
    for name in Settings.model_fields:
        assert PREFIX + name.upper() in shown.stdout
    for command in ("up", "init", "gateway", "ingest", "projector", "dashboard", "webhook-url", "token", "simulate"):
        helped = run(unpacked, command, "--help")
        assert helped.returncode == 0, helped.stderr
        assert "Usage:" in helped.stdout


def test_secrets_are_not_shown_and_wrong_settings_are_named(unpacked: Path) -> None:
    secret = "postgresql://user:hunter2@127.0.0.1:1/x"
    shown = run(unpacked, "config", KOMMO_STREAMS_DATABASE_URL=secret)
    assert "hunter2" not in shown.stdout + shown.stderr
    wrong = run(unpacked, "config", KOMMO_STREAMS_GATEWAY_PORT="many", KOMMO_STREAMS_DATABASE_URL=secret)
    assert wrong.returncode == 2
    assert "KOMMO_STREAMS_GATEWAY_PORT" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert "hunter2" not in wrong.stderr


def test_another_package_of_the_same_name_is_said(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("")
    shadowed = run(unpacked, "config", path=str(tmp_path))
    assert shadowed.returncode == 2
    assert "agents" in shadowed.stderr
    assert "environment" in shadowed.stderr


def test_without_its_servers_it_says_which_setting_leads_to_them(unpacked: Path) -> None:
    away = {
        "KOMMO_STREAMS_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "KOMMO_STREAMS_DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x",
        "KOMMO_STREAMS_GATEWAY_KEYS": "k1:" + "a" * 43,
    }
    for command, setting in (
        (("init",), "KOMMO_STREAMS_"),
        (("webhook-url", "--account", "5"), "KOMMO_STREAMS_KAFKA_BOOTSTRAP_SERVERS"),
        (("token", "list"), "KOMMO_STREAMS_DATABASE_URL"),
    ):
        done = run(unpacked, *command, **away)
        assert done.returncode == 3, (command, done.stderr)
        assert setting in done.stderr
        assert "Traceback" not in done.stderr
        assert "hunter2" not in done.stderr
