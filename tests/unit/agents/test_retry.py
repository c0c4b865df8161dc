"""Retry decisions, over the whole table: never before their time, never past their age, and a reason for the end."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.retry import DEFAULTS, Again, Decision, GiveUp, Policies, RetryError, RetryPolicy
from schemas.actions import ACTIONS
from schemas.errors import FACTS, ErrorClass

T0 = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)

POLICIES = st.builds(
    lambda attempts, base, times, jitter, age: RetryPolicy(attempts, base, base * times, jitter, age),
    attempts=st.integers(1, 100),
    base=st.floats(0.01, 1000),
    times=st.floats(1, 1000),
    jitter=st.floats(0, 0.99),
    age=st.floats(1, 10**7),
)
CASES: dict[str, Any] = {
    "policy": POLICIES,
    "error_class": st.sampled_from(ErrorClass),
    "attempts": st.integers(1, 120),
    "elapsed": st.floats(0, 2 * 10**7),
    "chance": st.floats(0, 1, exclude_max=True),
    "retry_after": st.none() | st.floats(0, 10**5),
}


def decide(
    policy: RetryPolicy,
    error_class: ErrorClass,
    attempts: int,
    elapsed: float,
    chance: float,
    retry_after: float | None,
) -> tuple[Decision, dt.datetime]:
    now = T0 + dt.timedelta(seconds=elapsed)
    decision = policy.decide(error_class, attempts=attempts, began=T0, now=now, chance=chance, retry_after=retry_after)
    return decision, now


@given(**CASES)
def test_the_whole_decision_table(
    policy: RetryPolicy,
    error_class: ErrorClass,
    attempts: int,
    elapsed: float,
    chance: float,
    retry_after: float | None,
) -> None:
    decision, now = decide(policy, error_class, attempts, elapsed, chance, retry_after)
    end = T0 + dt.timedelta(seconds=policy.age)
    if isinstance(decision, GiveUp):
        assert decision.why.startswith(str(error_class))
        late = now + dt.timedelta(seconds=policy.wait(attempts, chance, retry_after)) >= end
        assert FACTS[error_class].retried == "never" or attempts >= policy.attempts or late
        return
    assert FACTS[error_class].retried == "later"
    assert attempts < policy.attempts
    assert now < decision.at < end
    waited = (decision.at - now).total_seconds()
    microsecond = 1e-6
    assert waited >= (retry_after or 0) - microsecond
    if retry_after is None:
        assert policy.base * (1 - policy.jitter) - microsecond <= waited <= policy.cap + microsecond


@given(policy=POLICIES, attempts=st.integers(1, 119), chance=st.floats(0, 1, exclude_max=True))
def test_the_wait_doubles_up_to_its_cap_and_chance_only_shortens_it(
    policy: RetryPolicy, attempts: int, chance: float
) -> None:
    longest = policy.wait(attempts, 0.0)
    assert policy.wait(attempts, chance) <= longest <= policy.cap
    assert policy.wait(attempts, chance) >= longest * (1 - policy.jitter) * 0.999999
    following = policy.wait(attempts + 1, 0.0)
    assert following == pytest.approx(min(2 * longest, policy.cap))


def test_waits_of_the_default_policy() -> None:
    assert [RetryPolicy().wait(n, 0.0) for n in (1, 2, 3, 9, 10, 99)] == [2, 4, 8, 512, 900, 900]
    assert RetryPolicy().wait(1, 0.5) == 1.5
    assert RetryPolicy().wait(1, 0.0, retry_after=300) == 300


def test_attempts_and_age_end_it() -> None:
    policy = RetryPolicy(attempts=3, base=1, cap=1, jitter=0, age=10)
    assert isinstance(decide(policy, ErrorClass.EXTERNAL_SERVICE, 2, 8.9, 0, None)[0], Again)
    assert isinstance(decide(policy, ErrorClass.EXTERNAL_SERVICE, 3, 1, 0, None)[0], GiveUp)
    assert isinstance(decide(policy, ErrorClass.EXTERNAL_SERVICE, 2, 9, 0, None)[0], GiveUp)
    assert isinstance(decide(policy, ErrorClass.RATE_LIMIT, 1, 0, 0, 9.5)[0], Again)
    assert isinstance(decide(policy, ErrorClass.RATE_LIMIT, 1, 0, 0, 10)[0], GiveUp)


@pytest.mark.parametrize(
    ("field", "value"), [("attempts", 0), ("base", 0), ("cap", 1), ("jitter", 1), ("jitter", -0.1), ("age", 0)]
)
def test_a_policy_that_makes_no_sense_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        RetryPolicy(**{field: value})  # type: ignore[arg-type]


def test_settings_go_from_all_to_class_to_action() -> None:
    policies = Policies("all.attempts=5, external_service.base=7, add_note.base=9,add_note.age=60", actions=ACTIONS)
    assert policies.of("create_lead", ErrorClass.DATABASE) == RetryPolicy(attempts=5)
    assert policies.of("create_lead", ErrorClass.EXTERNAL_SERVICE) == RetryPolicy(attempts=5, base=7)
    assert policies.of("add_note", ErrorClass.EXTERNAL_SERVICE) == RetryPolicy(attempts=5, base=9, age=60)
    default = DEFAULTS[ErrorClass.RATE_LIMIT]
    assert Policies().of("add_note", ErrorClass.RATE_LIMIT) == default
    assert policies.of("create_lead", ErrorClass.RATE_LIMIT).cap == default.cap
    assert (policies.age("add_note"), policies.age("create_lead")) == (60, RetryPolicy().age)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("add_note.age", "NAME.FIELD=VALUE"),
        ("nothing.age=5", "nothing.age=5"),
        ("add_note.speed=5", "attempts, base, cap, jitter, age"),
        ("add_note.age=-5", "add_note.age=-5"),
        ("add_note.jitter=2", "jitter"),
        ("external_service.cap=1", "cap"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(RetryError, match=told.replace(".", r"\.")):
        Policies(text, actions=ACTIONS)
