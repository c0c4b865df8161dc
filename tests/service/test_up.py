"""`up` as a user meets it, with stand-ins for our own processes (the servers are real)."""

import os
import re
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

from service_support import alive_on, child_of, end, fails, line_with, put, script, two_free_ports, wait_until, words

from service.embedded.envfile import read_env_file

NAMES = [
    "KAFKA_BOOTSTRAP_SERVERS",
    "DATABASE_URL",
    "REDIS_URL",
    "GATEWAY_URL",
    "DASHBOARD_URL",
    "DASHBOARD_TOKEN",
    "WEBHOOK_URL",
]


async def test_the_life_of_up(tmp_path: Path) -> None:
    folder, port = tmp_path / "my data", two_free_ports()
    begin = time.monotonic()
    with script("run_up.py", folder, str(port), "demo") as process:
        line_with(process, "kommo-streams is up")
        assert time.monotonic() - begin < 15
        assert f"http://127.0.0.1:{port}/login?code=once" in line_with(process, "Dashboard")
        assert f"http://127.0.0.1:{port + 1}/webhooks/token-of-1" in line_with(process, "Webhook")
        settings = line_with(process, "Settings").split(None, 1)[1]
        file = folder / "kommo-streams.env"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        values = read_env_file(folder)
        assert all(values[f"KOMMO_STREAMS_{name}"] for name in NAMES)
        assert re.fullmatch(r"k1:[\w-]{43}=", values["KOMMO_STREAMS_GATEWAY_KEYS"])
        shell = subprocess.run(["sh", "-c", f"{settings}\nenv"], capture_output=True, text=True, check=True)
        assert set(shell.stdout.splitlines()) >= {f"{name}={value}" for name, value in values.items()}
        await put(values, "before")

        with script("run_up.py", folder) as second:
            assert f"pid {process.pid}" in fails(second, "already running", "--data")

        for what in (["postgres", "-D"], ["valkey.conf"], ["kafka.Kafka"], ["standin.py", "gateway"], ["simulate"]):
            killed = child_of(folder, *what)
            killed.send_signal(signal.SIGKILL)
            assert "started again" in line_with(process, "has ended")
            line_with(process, "runs again")
        assert (await words(values))["postgres"] == ["before"]
        assert end(process, number=signal.SIGINT) < 10
        assert process.returncode == 0
    assert alive_on(folder) == []

    with script("run_up.py", folder) as process:
        line_with(process, "kommo-streams is up")
        assert read_env_file(folder) == values  # the ports, secrets and the token are kept
        assert await words(values) == {name: ["before"] for name in ("kafka", "postgres", "valkey")}
        process.kill()
        process.wait()
    wait_until(lambda: not alive_on(folder), 3)


def test_sigterm_in_the_middle_of_a_start(tmp_path: Path) -> None:
    for number, moment in enumerate(("postgres/data.new", "log/init.log")):
        folder = tmp_path / str(number)
        with script("run_up.py", folder) as process:
            wait_until((folder / moment).exists)
            assert end(process) < 10
            assert process.returncode == 0
        assert alive_on(folder) == []


def test_a_port_in_use(tmp_path: Path) -> None:
    port = two_free_ports()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + 1))
        other.listen()
        with script("run_up.py", tmp_path / "data", str(port)) as process:
            fails(process, f"Port {port + 1}", "the gateway", "--port", seconds=10)
    with script("run_up.py", tmp_path / "data", "65535") as process:
        fails(process, "--port 65535", seconds=10)
    assert alive_on(tmp_path) == []


def test_relative_linked_and_long_folders(tmp_path: Path) -> None:
    real = tmp_path / "real" / ("x" * 200) / ("y" * 200)  # a socket's path could not be so long
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    relative = Path(os.path.relpath(tmp_path / "link")) / real.relative_to(tmp_path / "real")
    with script("run_servers.py", relative) as process:
        line_with(process, "READY")
        with script("run_servers.py", real) as second:
            fails(second, "already running", str(real))
        end(process)
    assert alive_on(tmp_path / "real") == []
