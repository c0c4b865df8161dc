"""The built wheel: it holds all that the source tree has, and its command line runs from it alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest

from runtime.settings import PREFIX, Settings
from service.cli import cli
from tests.support import ROOT

SECRET = "postgresql://user:hunter2@127.0.0.1:1/x"
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


def python(
    home: Path, *arguments: str, path: str = "", given: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run Python where our packages are those of the wheel."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, (path, str(home)))), **settings}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=home.parent,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run(home: Path, *arguments: str, path: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command line of the wheel as a process."""
    return python(home, "-m", "service", *arguments, path=path, **settings)


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


def test_its_command_line_runs_from_it_and_shows_no_secret(unpacked: Path) -> None:
    shown = run(unpacked, "config", KOMMO_STREAMS_DATABASE_URL=SECRET)
    assert shown.returncode == 0, shown.stderr
    for name in Settings.model_fields:
        assert PREFIX + name.upper() in shown.stdout
    assert "hunter2" not in shown.stdout + shown.stderr


def test_wrong_settings_are_named(unpacked: Path) -> None:
    wrong = run(unpacked, "config", KOMMO_STREAMS_GATEWAY_PORT="many", KOMMO_STREAMS_DATABASE_URL=SECRET)
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


AWAY = {
    ("init",): "KOMMO_STREAMS_KAFKA_BOOTSTRAP_SERVERS",
    ("webhook-url", "--account", "5"): "KOMMO_STREAMS_KAFKA_BOOTSTRAP_SERVERS",
    ("token", "list"): "KOMMO_STREAMS_DATABASE_URL",
}
"""A command line, and the setting that leads to the server that it needs first."""

EACH = """
import json, sys
import service
from click.testing import CliRunner
from service.cli import cli
done = [CliRunner().invoke(cli, arguments) for arguments in json.load(sys.stdin)]
print(json.dumps([service.__file__, *([one.exit_code, one.stdout, one.stderr] for one in done)]))
"""


@pytest.fixture(scope="module")
def answers(unpacked: Path) -> dict[tuple[str, ...], tuple[int, str, str]]:
    """Exit code, output and errors of many command lines, all called in one process; no server is there."""
    calls = [*((command, "--help") for command in cli.list_commands(click.Context(cli))), *AWAY]
    away = {
        "KOMMO_STREAMS_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "KOMMO_STREAMS_DATABASE_URL": SECRET,
        "KOMMO_STREAMS_GATEWAY_KEYS": "k1:" + "a" * 43,
    }
    done = python(unpacked, "-c", EACH, given=json.dumps(calls), **away)
    assert done.returncode == 0, done.stderr
    file, *told = json.loads(done.stdout)
    assert Path(file).is_relative_to(unpacked)
    return {call: (code, output, errors) for call, (code, output, errors) in zip(calls, told, strict=True)}


def test_every_command_is_in_it_with_all_it_imports(answers: dict[tuple[str, ...], tuple[int, str, str]]) -> None:
    helped = [call for call in answers if call[1:] == ("--help",)]
    assert len(helped) > 10
    for call in helped:
        code, output, errors = answers[call]
        assert code == 0, (call, errors)
        assert "Usage:" in output


def test_without_its_servers_it_says_which_setting_leads_to_them(
    answers: dict[tuple[str, ...], tuple[int, str, str]],
) -> None:
    for call, setting in AWAY.items():
        code, _, errors = answers[call]
        assert code == 3, (call, errors)
        assert setting in errors
        assert "Traceback" not in errors
        assert "hunter2" not in errors
