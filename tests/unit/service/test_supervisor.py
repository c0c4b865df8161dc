"""Children are started again, given up with a clear word, and stopped within their bound."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from service.embedded.child import LOG_LIMIT, Child
from service.embedded.errors import EmbeddedError
from service.supervisor import Process, Supervisor, stop_all
from tests.support.processes import alive_on, wait_until

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)


def _python(directory: Path, name: str, code: str, **options: object) -> Process:
    (directory / "log").mkdir(exist_ok=True)
    command = [sys.executable, "-c", code]
    return Process(name, [], directory=directory, environment={}, command=command, **options)  # type: ignore[arg-type]


def _steps(supervisor: Supervisor, until: object, seconds: float = 10) -> None:
    def step() -> object:
        supervisor.step()
        return until() if callable(until) else None

    wait_until(step, seconds)


def test_what_is_killed_is_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    process = _python(tmp_path, "sleeper", "import time; time.sleep(60)")
    process.start()
    supervisor = Supervisor(tmp_path, said.append)
    supervisor.watch(process)
    first = process.child.pid
    process.child.kill()
    _steps(supervisor, lambda: process.is_alive() and process.child.pid != first)
    wait_until(lambda: len(said) == 2)
    assert "sleeper has ended" in said[0]
    assert "log/sleeper.log" in said[0]
    assert "runs again" in said[1]
    stop_all([process])
    assert alive_on(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit('the reason')", ["broken ended 5 times", "broken.log", "the reason"]),
        ("raise SystemExit('x: No space left on device')", ["is full", "--data"]),
    ],
)
def test_what_keeps_failing_is_given_up(
    tmp_path: Path, code: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.supervisor._BACKOFF", (0.01,))
    process = _python(tmp_path, "broken", code)
    process.start()
    supervisor = Supervisor(tmp_path, lambda _: None)
    supervisor.watch(process)
    with pytest.raises(EmbeddedError) as caught:
        _steps(supervisor, lambda: False)
    for word in words:
        assert word in str(caught.value)


def test_a_stop_is_bounded_for_a_process_that_does_not_listen(tmp_path: Path) -> None:
    processes = [_python(tmp_path, f"deaf-{number}", STUBBORN) for number in range(3)]
    for process in processes:
        process.start()
    wait_until(lambda: all("deaf" in process.child.output() for process in processes))
    begin = time.monotonic()
    stop_all(processes)
    assert 2.0 < time.monotonic() - begin < 6.5  # each has 2.5 s; one after another would be 7.5 s
    assert [process.child.returncode for process in processes] == [-signal.SIGKILL] * 3


def test_a_process_that_is_never_ready_is_named_with_its_last_answer(tmp_path: Path) -> None:
    process = _python(tmp_path, "idle", "import time; time.sleep(60)", port=9)
    process.start()
    with pytest.raises(EmbeddedError, match=r"idle was not ready after 0 s.*no answer on port 9.*idle\.log"):
        Supervisor(tmp_path, lambda _: None).wait_ready([process], 0.3, threading.Event())
    stop_all([process])


def test_a_command_gives_its_output_or_a_clear_error(tmp_path: Path) -> None:
    stop = threading.Event()
    assert _python(tmp_path, "answers", "print('yes')", capture=True).run(10, stop) == "yes"
    with pytest.raises(EmbeddedError, match=r"fails failed.*fails\.log(.|\n)*no topic"):
        _python(tmp_path, "fails", "raise SystemExit('no topic')", capture=True).run(10, stop)
    with pytest.raises(EmbeddedError, match="slow was not done after 0 s"):
        _python(tmp_path, "slow", "import time; time.sleep(60)", capture=True).run(0.2, stop)
    assert alive_on(tmp_path) == []


def test_a_child_started_from_a_thread_outlives_the_thread(tmp_path: Path) -> None:
    process = _python(tmp_path, "sleeper", "import time; time.sleep(60)")
    thread = threading.Thread(target=process.start)
    thread.start()
    thread.join()
    assert process.child.wait(0.5) is None
    process.child.kill()


def test_logs_are_bounded_and_children_have_no_file_of_ours(tmp_path: Path) -> None:
    code = "import os; print(sorted(os.listdir('/proc/self/fd')))" if sys.platform == "linux" else "print(['0'])"
    process = _python(tmp_path, "chatty", code)
    process.log.write_bytes(b"x" * (LOG_LIMIT + 1))
    with (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), False)
        process.start()
        assert process.child.wait(10) == 0
    assert process.log.stat().st_size < 1000
    assert (tmp_path / "log" / "chatty.log.1").stat().st_size > LOG_LIMIT
    assert "'4'" not in process.child.output().replace("'3'", "")  # 3 is listdir's own


def test_a_log_is_set_aside_under_a_process_that_goes_on_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.embedded.child.LOG_LIMIT", 1000)
    code = "import sys\nwhile True: print('x' * 99, flush=True); import time; time.sleep(0.001)"
    process = _python(tmp_path, "chatty", code)
    process.start()
    supervisor = Supervisor(tmp_path, lambda _: None)
    supervisor.watch(process)
    for _ in range(3):
        wait_until(lambda: process.log.stat().st_size > 1000)
        supervisor.rotate_logs()
        assert process.log.stat().st_size < 1000
    wait_until(lambda: process.child.output().startswith("xxx"))
    assert b"\0" not in process.log.read_bytes()
    stop_all([process])


def test_a_program_that_is_not_there_says_so(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    child = Child("nothing", ["/no/such/program"], directory=tmp_path, cwd=tmp_path)
    child.start()
    assert child.wait(10) == 1
    assert "/no/such/program: No such file or directory" in child.output()
