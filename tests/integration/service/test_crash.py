"""A killed run, at any moment, leaves no process behind, and the next one works."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.embedded import EmbeddedError, EmbeddedServers, leftovers
from service.embedded.child import MARK
from tests.support import ROOT
from tests.support.processes import (
    SCRIPTS,
    alive_on,
    end,
    jar_cache,
    line_with,
    need_open,
    put,
    script,
    wait_until,
    words,
)


def _kill_when(directory: Path, server: str, moment: Callable[[], object]) -> None:
    """Start a server, and kill the process at the moment."""
    with script("run_servers.py", directory, server) as process:
        while not moment():
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        process.wait()
    wait_until(lambda: not alive_on(directory), 3, f"no process of {directory}")


async def test_killed_at_any_moment_the_next_start_works(folder: Path) -> None:
    new_database, new_log = folder / "postgres" / "data.new", folder / "kafka" / "broker-1" / "data.new"
    database, log = (path.with_name("data") for path in (new_database, new_log))
    _kill_when(folder, "postgres", (new_database / "base").exists)
    assert not database.exists()
    _kill_when(folder, "kafka", new_log.exists)
    _kill_when(folder, "postgres", (database / "postmaster.pid").exists)
    _kill_when(folder, "kafka", log.exists)  # whole, and the broker starts
    with script("run_servers.py", folder) as process:
        environment = json.loads(line_with(process, "READY").removeprefix("READY "))
        await put(environment, "kept")
        process.kill()
        process.wait()
    wait_until(lambda: not alive_on(folder), 3, f"no process of {folder}")
    with script("run_servers.py", folder) as process:
        assert json.loads(line_with(process, "READY").removeprefix("READY ")) == environment
        assert await words(environment) == {name: ["kept"] for name in ("kafka", "postgres", "valkey")}
        assert end(process) < 8
    assert alive_on(folder) == []
    assert not new_database.exists()
    assert not new_log.exists()


def test_only_processes_of_the_folder_are_ended(tmp_path: Path) -> None:
    ours, other = tmp_path / "ours", tmp_path / "ours too"
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    ours.mkdir()
    environment = {MARK: str(ours)}
    with (
        subprocess.Popen(sleep, env={**os.environ, MARK: str(ours)}) as left,
        subprocess.Popen(sleep, env={**os.environ, MARK: str(other)}) as neighbour,
        subprocess.Popen([*sleep, str(ours)], cwd=ours) as bystander,
    ):
        wait_until(lambda: [process.pid for process in leftovers.find(ours)] == [left.pid], 5, str(environment))
        assert leftovers.end(ours) == 1
        assert left.wait() == -signal.SIGKILL
        assert neighbour.poll() is None
        assert bystander.poll() is None
        neighbour.kill()
        bystander.kill()


def test_up_says_what_it_ended(tmp_path: Path) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleep, env={**os.environ, MARK: str(tmp_path / "data")}) as left:
        wait_until(lambda: list(leftovers.find(tmp_path / "data")), 5)
        with script("run_up.py", tmp_path / "data", "valkey") as process:
            line_with(process, f"Ended 1 process that a killed run on {tmp_path / 'data'} left.")
            assert left.wait() == -signal.SIGKILL
            end(process)


def test_servers_of_a_data_folder_within_the_folder_are_not_ended(tmp_path: Path) -> None:
    inner = EmbeddedServers(tmp_path / "outer" / "inner", only=("postgres", "valkey"))
    inner.start()
    try:
        assert list(leftovers.find(tmp_path / "outer")) == []
        assert {process.name() for process in leftovers.find(tmp_path / "outer" / "inner")} >= {"postgres"}
        with pytest.raises(EmbeddedError, match=r"not empty \(inner\)"):
            EmbeddedServers(tmp_path / "outer", only=("valkey",)).start()
        assert all(server.is_alive() for server in inner.servers)
    finally:
        inner.stop()


def _python_for_everyone() -> str:
    """An interpreter that another user may run: the one of the tests may lie in a closed home."""
    for candidate in (
        sys.executable,
        shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin"),
    ):
        probe = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", f"{candidate} -c ''"]
        if candidate and subprocess.run(probe, capture_output=True).returncode == 0:
            return candidate
    reason = "no Python of this version that another user may run"
    return pytest.skip(reason)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_another_user_without_a_home_can_start(folder: Path) -> None:
    python = _python_for_everyone()
    site = next(path for path in sys.path if path.endswith("site-packages"))
    need_open(SCRIPTS, Path(site))
    jars = folder / "cache"
    shutil.copytree(jar_cache(folder), jars / "kommo-streams")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT), site]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/nonexistent",
        "XDG_CACHE_HOME": str(jars),
    }
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-u"]
    subprocess.run(["chown", "-R", "65534:65534", str(folder)], check=True)
    with subprocess.Popen(
        [*command, str(SCRIPTS / "run_servers.py"), str(folder / "data")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        line_with(process, "READY")
        assert end(process) < 8
    assert alive_on(folder) == []
