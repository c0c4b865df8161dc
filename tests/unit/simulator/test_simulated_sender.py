from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import httpx
import pytest

from simulator.company import SimulatedDelivery, deliveries
from simulator.counts import Counts
from simulator.fleet import Fleet
from simulator.mischief import Mischief
from simulator.poster import Poster
from simulator.sender import _DRAIN_SECONDS, MOST_IN_FLIGHT, Manner, Sender
from simulator.truth import Truth
from tests.support.waiting import eventually
from tests.unit.simulator.door import ACCOUNT, TOKEN, Door, standing

START = 1_770_000_000
FAST = 100_000  # 95 minutes of attempts in a twentieth of a second


def manner(**settings: Any) -> Manner:
    """A manner that waits for an answer as long as a busy machine needs; Kommo's two seconds are one test's."""
    return Manner(**{"timeout": 60.0, **settings})


def some(count: int | None) -> Iterator[SimulatedDelivery]:
    return islice(deliveries(1, ACCOUNT, START), count)


async def test_bodies_and_headers_arrive_as_they_are() -> None:
    door = Door()
    async with standing(door) as url:
        counts = await Sender({ACCOUNT: url}, manner(rate=1000, in_flight=1)).run(some(50), asyncio.Event())
    assert counts.sent == counts.accepted == counts.ended == 50
    assert door.bodies == [delivery.body for delivery in some(50)]
    for got, delivery in zip(door.headers, some(50), strict=True):
        assert got[b"user-agent"] == b"amoCRM-Webhooks/3.0"
        assert got[b"content-type"] == b"application/x-www-form-urlencoded"
        assert got[b"x-amocrm-requestid"].decode() == delivery.headers["X-Amocrm-Requestid"]


async def test_answers_are_counted_by_status() -> None:
    door = Door(status=lambda number: {1: 503, 2: 413}.get(number % 5, 200))
    async with standing(door) as url:
        counts = await Sender({ACCOUNT: url}, manner(rate=500, speed=FAST, in_flight=1)).run(some(50), asyncio.Event())
    assert set(counts.answers) == {200, 413, 503}
    assert counts.accepted + counts.given_up == 50
    assert counts.accepted == counts.answers[200] > 40
    assert counts.ended == counts.sent == len(door.bodies) == 50 + counts.attempts_again
    assert counts.attempts_again == counts.answers[413] + counts.answers[503] - counts.given_up
    assert not counts.wrong_address


async def test_a_refused_delivery_is_sent_again_by_kommos_rules() -> None:
    bodies = [delivery.body for delivery in some(4)]
    statuses = {bodies[0]: 200, bodies[1]: 404, bodies[2]: 503, bodies[3]: 204}
    door = Door(by_body=statuses.__getitem__)
    clock = asyncio.get_running_loop().time
    async with standing(door) as url:
        began = clock()
        counts = await Sender({ACCOUNT: url}, manner(rate=500, speed=20_000)).run(some(4), asyncio.Event())
        took = clock() - began
    assert Counter(door.bodies) == dict(zip(bodies, (1, 3, 5, 1), strict=True))
    assert (counts.given_up, counts.attempts_again, counts.waiting) == (2, 6, 0)
    assert (counts.new, counts.repeats) == (4, 0)
    assert 5700 / 20_000 <= took < 10  # Kommo's 95 minutes


async def test_where_nothing_is_taken_it_does_not_wait_for_second_attempts() -> None:
    door = Door(status=lambda _: 503)
    async with standing(door) as url:
        counts = await Sender({ACCOUNT: url}, manner(rate=500)).run(some(3), asyncio.Event())
    assert (counts.sent, counts.waiting) == (3, 3)


async def test_what_is_all_late_is_waited_for() -> None:
    async with standing(Door()) as url:
        how = manner(rate=1000, speed=FAST, mischief=Mischief(delays=1.0))
        counts = await Sender({ACCOUNT: url}, how).run(some(20), asyncio.Event())
    assert (counts.accepted, counts.waiting) == (20, 0)


async def test_after_a_hundred_failures_an_account_is_sent_nothing_more() -> None:
    other = ACCOUNT + 1
    first = next(some(1)).body
    door = Door(by_body=lambda body: 200 if body == first or b"%d" % other in body else 500)
    streams = {ACCOUNT: deliveries(1, ACCOUNT, START), other: deliveries(2, other, START)}
    fleet, truth, disabled = Fleet(streams, 1), Truth(), list[int]()

    def disable(account: int) -> None:
        disabled.append(account)
        fleet.leave(account)

    async with standing(door) as url:
        sender = Sender({ACCOUNT: url, other: url}, manner(rate=5000), truth=truth, on_disabled=disable)
        counts = await sender.run(islice(fleet, 400), asyncio.Event())
    assert disabled == [ACCOUNT]
    assert 101 <= counts.answers[500] <= 101 + MOST_IN_FLIGHT
    assert counts.waiting == 0
    told = truth.to_json()["accounts"]
    assert (told[str(ACCOUNT)]["disabled"], told[str(other)]["disabled"]) == (True, False)
    assert told[str(other)]["deliveries"]["webhook"] == counts.accepted - 1
    assert sum(told[account]["deliveries"]["webhook"] for account in told) == 400
    # The account itself stops too: nothing that it did afterwards is told.
    assert told[str(ACCOUNT)]["deliveries"]["webhook"] == counts.answers[500] + 1


async def test_what_goes_wrong_on_request_is_sent_so() -> None:
    door = Door()
    mischief = Mischief(repeats=0.2, reorderings=0.2, delays=0.1, losses=0.1, garbage=0.1)
    how = manner(rate=2000, speed=FAST, mischief=mischief, in_flight=1)
    async with standing(door) as url:
        counts = await Sender({ACCOUNT: url}, how).run(some(300), asyncio.Event())
    true_bodies = [delivery.body for delivery in some(300)]
    known = Counter(body for body in door.bodies if body in set(true_bodies))
    assert counts.accepted == counts.sent == len(door.bodies)
    assert counts.lost > 10
    assert counts.new + counts.lost == 300
    # Two hooks of the digital pipeline may have one body.
    assert counts.new == pytest.approx(len(known), abs=3)
    junk = len(door.bodies) - known.total()
    assert 15 < counts.garbage <= junk
    assert counts.repeats == len(door.bodies) - counts.new - counts.garbage > 25
    assert counts.attempts_again == 0
    order = [true_bodies.index(body) for body in known]
    assert order != sorted(order)


def events(truth: Truth) -> list[dict[str, Any]]:
    log = truth.to_json()["accounts"][str(ACCOUNT)]["activity_log"]
    return [*log["events"], *log["nameless"]]


async def test_the_truth_knows_what_arrived_and_what_may_have() -> None:
    taken, refused = Truth(), Truth()
    async with standing(Door()) as url:
        await Sender({ACCOUNT: url}, manner(rate=500), truth=taken).run(some(40), asyncio.Event())
    assert not any(event["open"] for event in events(taken))
    async with standing(Door(status=lambda _: 503)) as url:
        await Sender({ACCOUNT: url}, manner(rate=500), truth=refused).run(some(40), asyncio.Event())
    assert all(event["open"] for event in events(refused))  # a 503 may have been stored all the same
    assert len(events(taken)) == len(events(refused)) > 30


class Refusing(Poster):
    """The second connection is refused."""

    posted = 0

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        self.posted += 1
        if self.posted == 2:
            raise httpx.ConnectError("refused")
        return 200


async def test_what_never_left_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.sender.Poster", Refusing)
    hook, truth = stage_hook(), Truth()
    how = manner(rate=500, speed=FAST, in_flight=1)
    counts = await Sender({ACCOUNT: ""}, how, truth=truth).run([next(some(1)), hook], asyncio.Event())
    assert (counts.failed, counts.accepted) == ({"ConnectError": 1}, 2)
    (line,) = (event for event in events(truth) if "count" in event)
    assert (line["count"], line["open"]) == (1, False)


def stage_hook() -> SimulatedDelivery:
    return next(delivery for delivery in some(400) if delivery.facts[0].type == "kommo.digital_pipeline.triggered")


@pytest.mark.parametrize(("answers", "undecided"), [((200, 200), False), ((200, 503, 200), True)])
async def test_a_hook_whose_first_attempt_may_have_been_stored_is_open(
    answers: tuple[int, ...], undecided: bool
) -> None:
    hook = stage_hook()
    door, truth = Door(status=lambda number: answers[number - 1]), Truth()
    async with standing(door) as url:
        how = manner(rate=500, speed=FAST, in_flight=1)
        await Sender({ACCOUNT: url}, how, truth=truth).run([next(some(1)), hook], asyncio.Event())
    (line,) = (event for event in events(truth) if "count" in event)
    assert (line["count"], line["open"]) == (1, undecided)


async def test_a_redirect_is_an_answer_that_is_not_followed() -> None:
    door = Door(status=lambda _: 302)
    async with standing(door) as url:
        counts = await Sender({ACCOUNT: url}, manner(rate=500)).run(some(3), asyncio.Event())
    assert counts.answers == {302: 3}
    assert counts.accepted == 0
    assert len(door.bodies) == 3


async def test_an_answer_after_the_time_is_none_and_the_time_is_two_seconds() -> None:
    assert Manner(rate=1).timeout == 2.0
    door = Door(held=True)
    began = time.monotonic()
    async with standing(door) as url:
        counts = await Sender({ACCOUNT: url}, manner(rate=100, timeout=0.3)).run(some(3), asyncio.Event())
        door.release()
    assert (counts.timed_out, counts.answers) == (3, {})
    assert time.monotonic() - began >= 0.3


async def test_a_closed_door_is_counted_by_name() -> None:
    async with standing(Door()) as url:
        pass
    counts = await Sender({ACCOUNT: url}, manner(rate=100)).run(some(3), asyncio.Event())
    assert counts.failed == {"ConnectError": 3}
    assert counts.ended == 3


async def test_the_rate_is_kept() -> None:
    """Never exceeded; and reached, the first time that the machine lets it."""
    async with standing(Door()) as url:
        for _ in range(10):
            began = time.monotonic()
            await Sender({ACCOUNT: url}, manner(rate=100)).run(some(31), asyncio.Event())
            took = time.monotonic() - began
            assert took >= 0.28
            if took < 0.5:
                break
        else:
            raise AssertionError(f"31 took {took} s at 100 a second")


async def test_no_more_than_allowed_are_under_way() -> None:
    door = Door(seconds=0.05)
    async with standing(door) as url:
        counts = await Sender({ACCOUNT: url}, manner(rate=5000, in_flight=4)).run(some(40), asyncio.Event())
    assert counts.accepted == 40
    assert door.most_at_once == 4


@pytest.mark.parametrize("held", [False, True])
async def test_it_stops_within_a_second_whether_it_rests_or_waits_for_answers(held: bool) -> None:
    """It rests for twenty seconds, or waits for answers that do not come for a minute."""
    assert _DRAIN_SECONDS < 1
    door, stop = Door(held=held), asyncio.Event()
    async with standing(door) as url:
        how = manner(rate=500 if held else 0.05, in_flight=8)
        running = asyncio.create_task(Sender({ACCOUNT: url}, how).run(some(None), stop))
        await eventually(lambda: len(door.bodies) == (8 if held else 1))
        began = time.monotonic()
        stop.set()
        counts = await running
        assert time.monotonic() - began < 5.0  # a second, and what a busy machine takes
        door.release()
    assert (counts.sent, counts.ended, counts.abandoned) == ((8, 8, 8) if held else (1, 1, 0))


async def test_the_address_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with standing(Door()) as url:
            await Sender({ACCOUNT: url}, manner(rate=500)).run(some(3), asyncio.Event())
    assert TOKEN not in caplog.text


async def test_an_attempt_after_a_refusal_is_none_of_the_repeats_on_request() -> None:
    door = Door(status=lambda number: 503 if number <= 10 else 200)
    how = manner(rate=2000, speed=FAST, mischief=Mischief(repeats=1.0, garbage=1.0), in_flight=1)
    async with standing(door) as url:
        counts = await Sender({ACCOUNT: url}, how).run(some(5), asyncio.Event())
    assert counts.sent == len(door.bodies)
    # Each of the five webhooks, and the garbage beside it, is sent five times.
    assert (counts.new, counts.garbage, counts.repeats) == (5, 5, 40)
    assert counts.attempts_again == counts.answers[503] == 10


def test_the_summary_tells_new_from_repeated_retried_garbage_and_lost() -> None:
    counts = Counts(sent=80, repeats=12, attempts_again=5, garbage=3, timed_out=1, lost=2, waiting=4)
    counts.answers.update({200: 74, 503: 5})
    assert counts.summary(4.0) == (
        "sent 80 in 4.0 s (20.0/s): 60 new, 12 repeated, 5 retried, 3 garbage; "
        "74 accepted, 5 answered 503, 1 timed out; 2 lost on request, 4 still to be sent"
    )
    plain = Counts(sent=20)
    plain.answers[200] = 20
    assert plain.summary(10.0) == "sent 20 in 10.0 s (2.0/s): 20 new; 20 accepted"
