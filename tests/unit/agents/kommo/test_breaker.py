"""The circuit breaker, against a model of what was promised, over any course of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.kommo.breaker import PROBE_SECONDS, Breaker, Rule
from agents.kommo.circuits import Circuits, kind_of
from agents.kommo.problems import KommoError
from schemas.errors import ErrorClass


def opened(breaker: Breaker | None = None, now: float = 0.0, failures: int = 5) -> Breaker:
    breaker = breaker or Breaker()
    for _ in range(failures):
        breaker = breaker.admitted(now)
        breaker = breaker.failed(breaker.era, now, 0.999999)
    return breaker


def test_it_opens_at_the_fifth_failure_in_a_row_and_not_before() -> None:
    assert opened(failures=4).state(0) == "closed"
    interrupted = opened(opened(failures=4).succeeded(0), failures=4)
    assert interrupted.state(0) == "closed"
    breaker = opened()
    assert breaker.state(0) == "open"
    assert 22.5 <= breaker.wait(0) <= 30


def test_one_probe_goes_then_it_is_closed_or_open_for_twice_as_long() -> None:
    breaker = opened()
    now = 30.0
    assert (breaker.state(now), breaker.wait(now)) == ("half_open", 0)
    probing = breaker.admitted(now)
    assert probing.wait(now) == PROBE_SECONDS
    with pytest.raises(ValueError, match="open"):
        probing.admitted(now)
    assert probing.succeeded(probing.era).state(now) == "closed"
    again = probing.failed(probing.era, now, 0.999999)
    assert again.state(now) == "open"
    assert 59 < again.wait(now) <= 60
    assert probing.abandoned(probing.era).wait(now) == 0, "a probe that told nothing leaves its place to the next"


def test_what_was_sent_before_it_opened_is_not_heard_any_more() -> None:
    early = Breaker()
    breaker = opened()
    assert breaker.failed(early.era, 1, 0) is breaker
    assert breaker.succeeded(early.era) is breaker
    probing = breaker.admitted(31)
    assert probing.failed(early.era, 31, 0) is probing
    assert probing.abandoned(early.era) is probing


def test_the_cool_down_grows_to_its_cap_and_starts_anew_after_success() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(80):
        waits.append(breaker.wait(now))
        now += breaker.wait(now)
        breaker = breaker.admitted(now)
        breaker = breaker.failed(breaker.era, now, 0.999999)
    assert [round(wait) for wait in waits[:6]] == [30, 60, 120, 240, 300, 300]
    assert max(waits) <= 300
    breaker = breaker.admitted(now + 300)
    assert round(opened(breaker.succeeded(breaker.era), now).wait(now)) == 30


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["send", "ok", "fail", "abandon", "time"]),
        st.floats(0, 400),
        st.integers(0, 7),
        st.floats(0, 1, exclude_max=True),
    ),
    max_size=80,
)


@given(EVENTS, st.integers(1, 6))
def test_whatever_happens_it_keeps_its_promises(events: list[tuple[str, float, int, float]], threshold: int) -> None:
    """While open nothing goes; half open one request at a time; only `threshold` failures in a row open it."""
    rule = Rule(threshold, 30.0, 300.0)
    breaker, now = Breaker(rule), 0.0
    under_way: list[int] = []
    in_a_row = 0
    for what, seconds, which, chance in events:
        before = breaker
        if what == "time":
            now += seconds
        elif what == "send":
            if breaker.wait(now) > 0:
                with pytest.raises(ValueError, match="open"):
                    breaker.admitted(now)
                continue
            half = breaker.state(now) == "half_open"
            breaker = breaker.admitted(now)
            if half:
                assert breaker.era not in under_way, "one probe, and nobody speaks in its name"
                assert breaker.wait(now) > 0
            under_way.append(breaker.era)
        elif under_way:
            era = under_way.pop(which % len(under_way))
            if what == "ok":
                breaker = breaker.succeeded(era)
            elif what == "fail":
                breaker = breaker.failed(era, now, chance)
            else:
                breaker = breaker.abandoned(era)
            if era != before.era:
                assert breaker == before
            elif before.until is None:
                in_a_row = in_a_row + 1 if what == "fail" else 0 if what == "ok" else in_a_row
                assert (breaker.until is not None) == (in_a_row == threshold)
            if breaker.until is not None and before.until is None:
                assert 22.499 < breaker.wait(now) < 30.001
                in_a_row = 0
            if breaker.until is None:
                in_a_row = breaker.failures
        assert breaker.wait(now) < 300.001
        assert breaker.state(now) != "closed" or breaker.wait(now) == 0
        assert breaker.era >= before.era


def test_kinds_of_endpoints() -> None:
    assert kind_of("/leads") == kind_of("/leads/12") == kind_of("/leads/complex") == "leads"
    assert kind_of("/leads/notes") == kind_of("/contacts/5/notes") == kind_of("/leads/notes/3/pin") == "notes"
    assert [kind_of(f"/{kind}") for kind in ("contacts", "companies", "tasks", "calls", "account")] == [
        "contacts",
        "companies",
        "tasks",
        "calls",
        "account",
    ]
    assert kind_of("/leadsomething") == kind_of("/users") == kind_of("/bots/1/run") == "other"


class _Now:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_circuits_are_of_a_kind_and_hear_only_what_tells_of_it() -> None:
    clock = _Now()
    circuits = Circuits(1, clock=clock, chance=lambda: 0.999999)

    def go(kind: str, error: BaseException | None) -> None:
        with circuits.through(kind):  # type: ignore[arg-type]
            if error is not None:
                raise error

    def failing(error: BaseException, times: int = 6) -> None:
        for _ in range(times):
            with pytest.raises(type(error)):
                go("leads", error)

    failing(KommoError(ErrorClass.VALIDATION, "x", status=400))
    failing(KommoError(ErrorClass.RATE_LIMIT, "x", status=403, blocked=True))
    failing(KeyError())
    assert circuits.states() == {"leads": "closed"}
    failing(KommoError(ErrorClass.EXTERNAL_SERVICE, "x"), 5)
    assert circuits.states() == {"leads": "open"}
    with pytest.raises(KommoError) as caught:
        go("leads", None)
    assert (caught.value.left, caught.value.error_class) == (False, ErrorClass.EXTERNAL_SERVICE)
    assert caught.value.retry_after == pytest.approx(30, abs=0.1)
    go("notes", None)
    clock.now = 31
    failing(KeyError(), 1)
    assert circuits.wait("leads") == 0, "what told nothing leaves the probe to the next"
    failing(KommoError(ErrorClass.NOT_FOUND, "x", status=404), 1)
    assert circuits.states() == {"leads": "closed", "notes": "closed"}
