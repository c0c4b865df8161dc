"""Errors are counted once; those of a class that Sentry hears of arrive there once, and tell no secret."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from runtime import sentry
from runtime.errors import StartError
from runtime.metrics import ERRORS
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


@dataclass(frozen=True, slots=True)
class Whole(Ended):
    """The same of a process with a Sentry that failed in every way, and what arrived there."""

    events: list[dict[str, Any]]
    raw: str

    def events_of(self, part: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["logger"] == part]

    def counted_of(self, part: str) -> dict[str, int]:
        return {error_class: count for (error_class, name), count in self.counted.items() if name == part}

    def log_of(self, part: str) -> str:
        return "\n".join(line for line in self.log.splitlines() if json.loads(line)["logger"] == part)


def _environment(dsn: str, **more: str) -> dict[str, str]:
    settings = {"DATABASE_URL": f"postgresql://kommo:{failing.PASSWORD}@127.0.0.1/kommo"}
    settings |= {"SENTRY_DSN": dsn} if dsn else {}
    return {**os.environ, "NO_PROXY": "127.0.0.1", **{PREFIX + name: value for name, value in settings.items()}, **more}


def fail(*ways: str, dsn: str = "", **environment: str) -> Ended:
    """Run a process that fails in these ways, to its end."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.unit.runtime.failing", *ways],
        cwd=ROOT,
        env=_environment(dsn, **environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    counted = re.findall(r'\{error_class="(\w+)",part="([\w.]+)"\} ([0-9.]+)', ended.stdout)
    return Ended(
        ended.returncode,
        "sentry_sdk: True" in ended.stdout,
        {(error_class, part): int(float(number)) for error_class, part, number in counted},
        ended.stderr,
    )


@pytest.fixture(scope="module")
def whole() -> Whole:
    """One process fails in every way; the last ends it."""
    with receiving() as receiver:
        ways = ("internal", "library", "task", "classes", "reported", "flood", "crash")
        ended = fail(*ways, dsn=receiver.dsn, **{failing.LONGEST: "30"})  # all arrives, on a busy machine too
    return Whole(ended.code, ended.imported, ended.counted, ended.log, receiver.events, receiver.raw)


def raised(event: dict[str, Any]) -> dict[str, Any]:
    """The exception of an event: the outermost, where there are several."""
    found: dict[str, Any] = event["exception"]["values"][-1]
    return found


def test_what_nobody_foresaw_arrives_once_with_its_way_and_without_secrets(whole: Whole) -> None:
    assert whole.counted_of("tests.internal") == {"internal": 1}
    (event,) = whole.events_of("tests.internal")
    assert raised(event)["type"] == "RuntimeError"
    assert [frame["function"] for frame in raised(event)["stacktrace"]["frames"]] == ["_internal", "_unforeseen"]
    assert event["tags"] == {"process": "failing", "error_class": "internal", "correlation_id": "request-1"}
    assert event["environment"] == "production"
    assert event["release"].startswith("kommo-streams@")
    assert event["level"] == "error"
    assert event["extra"]["line"] == "it failed"
    assert event["extra"]["number"] == 5
    secrets = (failing.ADDRESS.rpartition("/")[2], failing.TOKEN, failing.JWT, "hunter2")
    for secret in (*secrets, failing.PASSWORD, failing.DETAIL, str(failing.ACCOUNT), failing.LOCAL):
        assert secret not in whole.raw, secret
    assert "/webhooks/***" in raised(event)["value"]
    assert '"vars"' not in whole.raw
    assert not event.keys() & {"request", "user", "breadcrumbs", "modules"}
    assert whole.log_of("tests.internal")
    assert all(secret not in whole.log for secret in secrets)


def test_only_classes_that_sentry_hears_of_arrive_and_all_are_counted(whole: Whole) -> None:
    assert [event["tags"]["error_class"] for event in whole.events_of("tests.classes")] == ["authentication"]
    assert "example.kommo.com" not in whole.raw
    assert ".kommo.com/api/v4/leads" in whole.raw
    assert whole.counted_of("tests.classes") == {
        "validation": 2,
        "authentication": 1,
        "authorization": 1,
        "not_found": 1,
        "rate_limit": 1,
        "external_service": 2,
    }
    log = whole.log_of("tests.classes")
    assert log.count("\n") == 7
    assert "Traceback" not in log
    assert "failure" not in log


def test_what_has_no_line_of_the_log_is_reported(whole: Whole) -> None:
    assert whole.counted_of("tests.a") == {"database": 1}
    assert whole.counted_of("tests.b") == {"validation": 1}
    assert whole.counted_of("tests.c") == {}
    (event,) = whole.events_of("tests.a")
    assert event["tags"] == {
        "process": "failing",
        "error_class": "database",
        "correlation_id": "c-1",
        "step": "two",
    }
    assert not whole.events_of("tests.b") + whole.events_of("tests.c")


@pytest.mark.parametrize(
    ("part", "kind"),
    [("aiokafka.consumer", "KeyError"), ("asyncio", "RuntimeError"), ("runtime.process", "RuntimeError")],
)
def test_what_a_library_logs_and_what_ends_a_process_arrives(part: str, kind: str, whole: Whole) -> None:
    assert whole.code == 1  # the last ended it
    assert whole.counted_of(part) == {"internal": 1}
    (event,) = whole.events_of(part)
    assert raised(event)["type"] == kind


def test_an_outage_is_no_flood(whole: Whole) -> None:
    assert whole.counted_of("tests.flood") == {"internal": 500}
    assert len(whole.events_of("tests.flood")) == 1


def test_without_a_dsn_the_package_is_not_even_imported(whole: Whole) -> None:
    ended = fail("internal")
    assert (ended.imported, whole.imported) == (False, True)
    assert ended.counted == {("internal", "tests.internal"): 1}
    assert ended.code == 0


def _reporting(receiver: Receiver, **settings: Any) -> contextlib.AbstractContextManager[None]:
    """A process's reporting, in this one."""
    return sentry.reporting(Settings(sentry_dsn=SecretStr(receiver.dsn), **settings), "a-test")


def test_a_sample_of_none_sends_none_and_it_is_counted() -> None:
    before = ERRORS.labels("internal", "tests.sampled")._value.get()
    with receiving() as receiver, _reporting(receiver, sentry_sample_rate=0):
        sentry.report(ValueError("x"), part="tests.sampled")
    assert receiver.requests == 0
    assert ERRORS.labels("internal", "tests.sampled")._value.get() == before + 1


def test_without_an_error_nothing_is_sent() -> None:
    with receiving() as receiver, _reporting(receiver):
        pass
    assert receiver.requests == 0


def test_a_dsn_without_the_package_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)  # so its import fails
    with receiving() as receiver, pytest.raises(StartError) as caught, _reporting(receiver):
        pass
    assert "kommo-streams[worker]" in str(caught.value)
    assert f"{PREFIX}SENTRY_DSN" in str(caught.value)


NO_DSN = ["hunter2", "https://sentry.example/7", "https://hunter2@sentry.example/"]


@pytest.mark.parametrize("dsn", NO_DSN)
def test_a_dsn_that_is_none_is_said_and_not_shown(dsn: str) -> None:
    with pytest.raises(StartError) as caught, sentry.reporting(Settings(sentry_dsn=SecretStr(dsn)), "a-test"):
        pass
    assert f"{PREFIX}SENTRY_DSN" in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_dsn_that_is_none_ends_the_start_of_a_process() -> None:
    ended = fail("internal", dsn=NO_DSN[-1])
    assert ended.code == 2
    assert f"{PREFIX}SENTRY_DSN" in ended.log
    assert "hunter2" not in ended.log
    assert not ended.counted


def test_an_error_met_in_several_places_arrives_once_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentry.Throttle, "admit", lambda *_: 0)
    monkeypatch.setattr(sentry, "FLUSH_SECONDS", 30.0)
    build = sentry._Sentry._build

    def slowly(*arguments: Any) -> None:
        time.sleep(0.1)
        build(*arguments)

    monkeypatch.setattr(sentry._Sentry, "_build", slowly)
    one, other = ValueError("x"), ValueError("x")
    with receiving() as receiver, _reporting(receiver, sentry_environment="a-stage"):
        logging.getLogger("tests.a").warning("not loud", exc_info=one)
        for error in (one, one, other):
            sentry.report(error, part="tests.a")
            logging.getLogger("tests.a").error("loud", exc_info=error)
    assert [event["environment"] for event in receiver.events] == ["a-stage"] * 2
    sentry.report(ValueError("after the end"))


def test_a_sentry_that_hangs_holds_a_process_up_no_longer_than_it_may() -> None:
    with receiving(hangs=True) as receiver:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.runtime.failing", "internal", "wait"],
            cwd=ROOT,
            env=_environment(receiver.dsn),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "waiting\n"
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            took = time.monotonic() - begun
        finally:
            process.kill()
            process.stdout.close()
    assert receiver.requests == 1
    assert sentry.FLUSH_SECONDS - 0.5 < took < sentry.FLUSH_SECONDS + 3  # it would hang for ever


def test_a_sentry_that_is_there_or_is_down_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentry, "FLUSH_SECONDS", 60.0)
    with receiving() as there, receiving() as down:
        down.server.server_close()
        for receiver in (there, down):
            with _reporting(receiver):
                sentry.report(ValueError("x"), part="tests.a")
                begun = time.monotonic()
            assert time.monotonic() - begun < 20
    assert (len(there.events), down.requests) == (1, 0)


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
