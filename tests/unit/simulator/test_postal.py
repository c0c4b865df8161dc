"""Kommo's rules of delivery, as its page "Webhooks: general" has them."""

from __future__ import annotations

import pytest

from simulator.postal import NO_ANSWER, Standing, wait_before_next


@pytest.mark.parametrize("status", [100, 200, 204, 299])
def test_what_is_accepted_is_not_sent_again(status: int) -> None:
    assert [wait_before_next(attempt, status) for attempt in range(1, 6)] == [None] * 5


@pytest.mark.parametrize("status", [NO_ANSWER, 99, 300, 302, 404, 429, 498])
def test_after_most_failures_there_are_three_attempts(status: int) -> None:
    assert [wait_before_next(attempt, status) for attempt in range(1, 6)] == [300, 900, None, None, None]


@pytest.mark.parametrize("status", [499, 500, 503, 599])
def test_after_an_error_of_the_server_there_are_five(status: int) -> None:
    assert [wait_before_next(attempt, status) for attempt in range(1, 6)] == [300, 900, 900, 3600, None]


def test_after_more_than_100_failures_in_two_hours_a_webhook_is_disabled() -> None:
    standing = Standing()
    for second in range(100):
        standing.answered(503, second)
    assert not standing.disabled
    standing.answered(200, 100)
    assert not standing.disabled
    standing.answered(404, 101)
    assert standing.disabled
    standing.answered(200, 102)
    assert standing.disabled  # until somebody saves it again


def test_failures_of_more_than_two_hours_ago_do_not_count() -> None:
    standing = Standing()
    for second in range(100):
        standing.answered(503, second)
    standing.answered(503, 7200)  # that of the second 0 is two hours old
    assert not standing.disabled
    standing.answered(503, 7200)
    assert standing.disabled
