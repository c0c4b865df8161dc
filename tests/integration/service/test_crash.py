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

from service.embedded import leftovers
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


def _kill_when(directory: Path, moment: Callable[[], object]) -> bool:
    """Start the servers and kill the process at the moment; whether it had come as far as that."""
    with script("run_servers.py", directory) as process:
        while process.poll() is None and not moment():
            time.sleep(0.001)
        reached = process.poll() is None
        process.kill()
        process.wait()
    wait_until(lambda: not alive_on(directory), 3, f"no process of {directory}")
    return reached


def _after(seconds: float) -> Callable[[], bool]:
    limit = time.monotonic() + seconds
    return lambda: time.monotonic() > limit


async def test_killed_at_any_moment_the_next_start_works(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    new_database, new_log = folder / "postgres" / "data.new", folder / "kafka" / "broker-1" / "data.new"
    assert _kill_when(folder, lambda: (new_database / "base").exists())
    assert not (folder / "postgres" / "data").exists()
    assert _kill_when(folder, new_log.exists)
    assert _kill_when(folder, (folder / "log" / "kafka-format.log").exists)
    for seconds in (0.3, 0.8, 1.3):
        assert _kill_when(folder, _after(seconds))
    with script("run_servers.py", folder) as process:
        environment = json.loads(line_with(process, "READY").removeprefix("READY "))
        await put(environment, "kept")
        process.kill()
        process.wait()
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
def test_another_user_without_a_home_can_start(tmp_path_factory: pytest.TempPathFactory) -> None:
    python = _python_for_everyone()
    site = next(path for path in sys.path if path.endswith("site-packages"))
    need_open(SCRIPTS, Path(site))
    folder = Path("/tmp") / f"kommo-streams-nobody-{os.getpid()}"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
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
    try:
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
    finally:
        shutil.rmtree(folder)
