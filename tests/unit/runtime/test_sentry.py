"""Errors are counted once; those of a class that Sentry hears of arrive there once, and tell no secret."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from runtime import sentry
from runtime.settings import PREFIX, Settings
from tests.support import ROOT
from tests.unit.runtime import failing
from tests.unit.runtime.receiver import Receiver, receiving


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process of failing.py ended: the errors it counted by class and part, and what it wrote."""

    code: int
    imported: bool
    counted: dict[tuple[str, str], int]
    log: str


def _environment(receiver: Receiver | None, **more: str) -> dict[str, str]:
    given = {"DATABASE_URL": f"postgresql://kommo:{failing.PASSWORD}@127.0.0.1/kommo", **more}
    if receiver is not None:
        given = {"SENTRY_DSN": receiver.dsn, **given}
    return {**os.environ, "NO_PROXY": "127.0.0.1", **{PREFIX + name: value for name, value in given.items()}}


def fail(how: str, receiver: Receiver | None = None, **settings: str) -> Ended:
    """Run a process that fails in this way, to its end."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.unit.runtime.failing", how],
        cwd=ROOT,
        env=_environment(receiver, **settings),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    counted = re.findall(r'\{error_class="(\w+)",part="([\w.]+)"\} ([0-9.]+)', ended.stdout)
    return Ended(
        ended.returncode,
        "sentry_sdk: True" in ended.stdout,
        {(error_class, part): int(float(number)) for error_class, part, number in counted},
        ended.stderr,
    )


def raised(event: dict[str, Any]) -> dict[str, Any]:
    """The exception of an event: the outermost, where there are several."""
    found: dict[str, Any] = event["exception"]["values"][-1]
    return found


def test_what_nobody_foresaw_arrives_once_with_its_way_and_without_secrets() -> None:
    with receiving() as receiver:
        ended = fail("internal", receiver)
    assert ended.code == 0
    assert ended.counted == {("internal", "tests.failing"): 1}
    (event,) = receiver.events
    assert raised(event)["type"] == "RuntimeError"
    assert [frame["function"] for frame in raised(event)["stacktrace"]["frames"]] == ["_internal", "_unforeseen"]
    assert event["tags"] == {"process": "failing", "error_class": "internal", "correlation_id": "request-1"}
    assert event["environment"] == "production"
    assert event["release"].startswith("kommo-streams@")
    assert event["level"] == "error"
    assert event["logger"] == "tests.failing"
    assert event["extra"]["line"] == "it failed"
    assert event["extra"]["number"] == 5
    secrets = (failing.ADDRESS.rpartition("/")[2], failing.TOKEN, failing.JWT, "hunter2")
    for secret in (*secrets, failing.PASSWORD, failing.DETAIL, str(failing.ACCOUNT), failing.LOCAL):
        assert secret not in receiver.raw, secret
    assert "/webhooks/***" in raised(event)["value"]
    assert '"vars"' not in receiver.raw
    assert not event.keys() & {"request", "user", "breadcrumbs", "modules"}
    assert all(secret not in ended.log for secret in secrets)


def test_only_classes_that_sentry_hears_of_arrive_and_all_are_counted() -> None:
    with receiving() as receiver:
        ended = fail("classes", receiver)
    assert [event["tags"]["error_class"] for event in receiver.events] == ["authentication"]
    assert "example.kommo.com" not in receiver.raw
    assert ".kommo.com/api/v4/leads" in receiver.raw
    part = "tests.failing"
    assert ended.counted == {
        ("validation", part): 2,
        ("authentication", part): 1,
        ("authorization", part): 1,
        ("not_found", part): 1,
        ("rate_limit", part): 1,
        ("external_service", part): 2,
    }
    assert "Traceback" not in ended.log
    assert "hunter2" not in ended.log
    assert "failure" not in ended.log


def test_what_has_no_line_of_the_log_is_reported() -> None:
    with receiving() as receiver:
        ended = fail("reported", receiver, SENTRY_ENVIRONMENT="a-test")
    assert ended.counted == {("database", "tests.a"): 1, ("validation", "tests.b"): 1}
    (event,) = receiver.events
    assert event["tags"] == {
        "process": "failing",
        "error_class": "database",
        "correlation_id": "c-1",
        "step": "two",
    }
    assert event["environment"] == "a-test"


@pytest.mark.parametrize(
    ("how", "part", "kind", "code"),
    [
        ("library", "aiokafka.consumer", "KeyError", 0),
        ("task", "asyncio", "RuntimeError", 0),
        ("crash", "runtime.process", "RuntimeError", 1),
    ],
)
def test_what_a_library_logs_and_what_ends_a_process_arrives(how: str, part: str, kind: str, code: int) -> None:
    with receiving() as receiver:
        ended = fail(how, receiver)
    assert ended.code == code
    assert ended.counted == {("internal", part): 1}
    (event,) = receiver.events
    assert (raised(event)["type"], event["logger"]) == (kind, part)
    assert "hunter2" not in ended.log


def test_an_outage_is_no_flood() -> None:
    with receiving() as receiver:
        ended = fail("flood", receiver)
    assert ended.counted == {("internal", "tests.failing"): 500}
    assert len(receiver.events) == 1


def test_a_sample_of_none_sends_none() -> None:
    with receiving() as receiver:
        ended = fail("internal", receiver, SENTRY_SAMPLE_RATE="0")
    assert ended.counted == {("internal", "tests.failing"): 1}
    assert receiver.requests == 0


def test_without_an_error_nothing_is_sent() -> None:
    with receiving() as receiver:
        ended = fail("nothing", receiver)
    assert ended.imported
    assert receiver.requests == 0


def test_without_a_dsn_the_package_is_not_even_imported() -> None:
    ended = fail("internal")
    assert not ended.imported
    assert ended.counted == {("internal", "tests.failing"): 1}
    assert ended.code == 0


def test_a_dsn_without_the_package_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules is how an import is made to fail.
    code = (
        "import sys; sys.modules['sentry_sdk'] = None; sys.argv[1:] = ['nothing'];"
        "import runpy; runpy.run_module('tests.unit.runtime.failing', run_name='__main__')"
    )
    with receiving() as receiver:
        ended = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=_environment(receiver),
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 2
    assert "kommo-streams[worker]" in ended.stderr
    assert f"{PREFIX}SENTRY_DSN" in ended.stderr


@pytest.mark.parametrize("dsn", ["hunter2", "https://sentry.example/7", "https://hunter2@sentry.example/"])
def test_a_dsn_that_is_none_ends_the_start_and_is_not_shown(dsn: str) -> None:
    ended = fail("nothing", SENTRY_DSN=dsn)
    assert ended.code == 2
    assert f"{PREFIX}SENTRY_DSN" in ended.log
    assert "hunter2" not in ended.log


def test_an_error_met_in_several_places_arrives_once_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentry.Throttle, "admit", lambda *_: 0)
    one, other = ValueError("x"), ValueError("x")
    with receiving() as receiver, sentry.reporting(Settings(sentry_dsn=SecretStr(receiver.dsn)), "a-test"):
        logging.getLogger("tests.a").warning("not loud", exc_info=one)
        for error in (one, one, other):
            sentry.report(error, part="tests.a")
            logging.getLogger("tests.a").error("loud", exc_info=error)
    assert len(receiver.events) == 2
    sentry.report(ValueError("after the end"))


def _seconds_to_end(receiver: Receiver | None, **settings: str) -> float:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.runtime.failing", "internal+wait"],
        cwd=ROOT,
        env=_environment(receiver, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "waiting\n"
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert process.returncode == 0
        return time.monotonic() - begun
    finally:
        process.kill()
        process.stdout.close()


def test_a_sentry_that_hangs_or_is_down_holds_no_process_up() -> None:
    with receiving(hangs=True) as receiver:
        assert sentry.FLUSH_SECONDS - 0.5 < _seconds_to_end(receiver) < sentry.FLUSH_SECONDS + 1
        assert receiver.requests == 1
    assert _seconds_to_end(None, SENTRY_DSN="http://abc@127.0.0.1:1/7") < 1.5
    with receiving() as receiver:
        assert _seconds_to_end(receiver) < 1.5
    assert len(receiver.events) == 1


def test_what_was_held_back_is_counted_and_told_with_the_next() -> None:
    now = 0.0
    throttle = sentry.Throttle(lambda: now)
    kind, other = ("ValueError", "internal", "a.py", 1), ("ValueError", "internal", "a.py", 2)
    assert throttle.admit(kind) == 0
    assert [throttle.admit(kind) for _ in range(3)] == [None] * 3
    assert throttle.admit(other) == 0
    now = sentry.REPEAT_SECONDS
    assert throttle.admit(kind) == 3
    assert throttle.admit(kind) is None
    now += sentry.REPEAT_SECONDS
    assert throttle.admit(kind) == 1


def test_no_more_than_so_many_go_in_a_minute_whatever_they_are() -> None:
    now = 0.0
    throttle = sentry.Throttle(lambda: now)
    went = [throttle.admit(("ValueError", "internal", "a.py", line)) for line in range(5000)]
    assert sum(held is not None for held in went) == sentry.MOST_A_MINUTE
    now = 61.0
    assert throttle.admit(("KeyError", "internal", "a.py", 1)) == 0
