"""The commands agent on real Kafka and PostgreSQL, against the simulated Kommo: each command's effect exactly once."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from agents.commands import executor, handlers
from agents.commands.deciding import Decision, DecisionError
from agents.commands.table import let_go, retry_now
from schemas.actions import AddNote, CreateContact, CreateLead, CreateMeetingNote, CreateTask, NewContact, UpdateLead
from schemas.command import Command
from simulator.api import ApiMischief
from streams.producer import Record
from streams.topics import COMMANDS, DEADLETTERS
from tests.integration.agents.commands.support import FAST, House
from tests.support.topics import everything
from tests.support.waiting import eventually

WRITES = ("POST", "PATCH")

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = "create_contact"
AGED = "create_meeting_note"
HOUSE = {
    "kommo_timeout_seconds": 1.0,
    # A test of a long wait, of an age or of the moment of an attempt has an action that no other test has.
    "retry": f"{FAST}, {LONG}.base=60, {LONG}.cap=60, {AGED}.age=1, create_task.base=1, create_task.cap=1,"
    " create_task.jitter=0",
}


async def made_lead(home: House) -> int:
    """Have a lead made, and return its id."""
    command = home.lead("The first")
    await home.ask(command)
    await home.until(command, "succeeded")
    return int(home.effects(verb="created")[-1].id)


async def test_a_command_is_carried_out_once_and_tells_its_story(home: House) -> None:
    command = home.lead(price=900, contact=NewContact(name="Anna"))
    await home.ask(command, command)
    row = await home.until(command, "succeeded")
    await home.ask(command)  # and again, when it is done
    other = home.lead("Another")
    await home.ask(other)
    await home.until(other, "succeeded")
    made = home.effects(verb="created")
    assert sorted((effect.kind, effect.item.get("name")) for effect in made) == [
        ("contact", "Anna"),
        ("lead", "Another"),
        ("lead", "Kitchen"),
    ]
    assert (row["attempts"], row["doubt"], row["error"]) == (1, None, None)
    admitted, succeeded = await home.told(command)
    assert [event["type"] for event in (admitted, succeeded)] == [
        "kommo.command.admitted",
        "kommo.command.succeeded",
    ]
    assert admitted["data"]["command"]["data"] == {"name": "Kitchen", "price": 900, "contact": {"name": "Anna"}}
    told = succeeded["data"]["command"]
    ids = {effect.kind: effect.id for effect in made if effect.item.get("name") in ("Kitchen", "Anna")}
    assert told["entities"] == ids
    assert told["attempts"] == 1
    assert 0 <= told["duration_ms"] <= told["total_ms"] < 30_000
    for event in (admitted, succeeded):
        assert (event["correlationid"], event["causationid"]) == (command.id, command.id)


@pytest.mark.parametrize(
    "trouble",
    [
        {"answers_lost": 1.0},
        {"server_errors_after": 1.0},
        {"resets_mid_answer": 1.0},
        {"malformed": 1.0},
        {"thin": 1.0},
        {"gateway_timeouts_after": 1.0},
        {"hung_after": 1.0, "hang_seconds": 30},
    ],
    ids=lambda trouble: next(iter(trouble)),
)
async def test_what_was_done_though_its_answer_never_came_is_found_and_not_repeated(
    home: House, trouble: dict[str, Any]
) -> None:
    home.trouble(**trouble)
    command = home.lead(price=1)
    await home.ask(command)
    row = await home.until(command, "succeeded", "failed", "unknown")
    assert row["state"] == "succeeded", row["error"]
    assert len(home.effects(verb="created")) == 1
    assert row["attempts"] == 2
    told = [event["type"].rpartition(".")[2] for event in await home.told(command)]
    assert told == ["admitted", "retried", "succeeded"]


@pytest.mark.parametrize(
    "trouble",
    [
        {"server_errors": 1.0},
        {"resets_before": 1.0},
        {"unavailable": 1.0},
        {"gateway_timeouts": 1.0},
        {"too_many": 1.0},
        {"hung_before": 1.0, "hang_seconds": 30},
    ],
    ids=lambda trouble: next(iter(trouble)),
)
async def test_what_was_not_done_is_looked_for_and_then_done(home: House, trouble: dict[str, Any]) -> None:
    home.trouble(**trouble)
    command = home.lead(price=1)
    await home.ask(command)
    row = await home.until(command, "succeeded", "failed", "unknown")
    assert row["state"] == "succeeded", row["error"]
    assert len(home.effects(verb="created")) == 1


async def test_what_kommo_refuses_is_a_dead_letter_that_says_why(home: House) -> None:
    command = home.lead(status_id=999_999_999)
    await home.ask(command)
    row = await home.until(command, "failed", "succeeded")
    assert (row["state"], row["error_class"], row["attempts"]) == ("failed", "validation", 1)
    assert "status_id" in row["error"]
    assert home.effects() == []
    letters = await home.pool.fetch(
        "SELECT * FROM test_outbox WHERE topic = 'kommo.deadletters' AND key = $1", command.key
    )
    assert [letter["key"] for letter in letters] == [command.key]
    assert letters[0]["value"] == command.to_json()
    assert (await home.told(command))[-1]["type"] == "kommo.command.failed"


async def test_commands_of_one_entity_keep_their_order_while_one_of_them_waits(home: House) -> None:
    lead_id = await made_lead(home)
    home.trouble(server_errors=1.0)
    notes = [home.note(lead_id, f"note {number}") for number in range(6)]
    await home.ask(*notes)
    for command in notes:
        await home.until(command, "succeeded")
    texts = [effect.item["params"]["text"] for effect in home.effects() if effect.kind == "note"]
    assert texts == [f"note {number}" for number in range(6)]


async def test_a_command_that_waits_for_another_uses_its_result(home: House) -> None:
    first = home.lead(contact=NewContact(name="Anna"))
    then = home.note("after", after=first.id)
    change = Command.make(UpdateLead(lead_id="after", price=77), account_id=home.account, after=then.id)
    await home.ask(change, then, first)  # arrived in the wrong order, too
    for command in (first, then, change):
        await home.until(command, "succeeded")
    kinds = [(effect.kind, effect.verb) for effect in home.effects()]
    assert kinds.index(("lead", "created")) < kinds.index(("note", "created")) < kinds.index(("lead", "updated"))
    (changed,) = [effect for effect in home.effects() if effect.verb == "updated"]
    assert changed.id == next(e.id for e in home.effects() if (e.kind, e.verb) == ("lead", "created"))


async def test_what_waits_for_a_command_that_dies_dies_with_it(home: House) -> None:
    first = home.lead(status_id=999_999_999)
    then = home.note("after", after=first.id)
    last = home.note("after", "and then", after=then.id)
    await home.ask(first, then, last)
    for command in (then, last):
        row = await home.until(command, "failed")
        assert row["error"].startswith("dependency_failed")
    assert home.effects() == []


def meeting(home: House, after: str) -> Command:
    """A command of which the worker says soon that it is too old."""
    at = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    action = CreateMeetingNote(entity_type="lead", entity_id="after", text="Office", at=at)
    return Command.make(action, account_id=home.account, after=after)


async def test_what_waits_for_a_command_that_never_comes_dies_at_its_age(home: House) -> None:
    await home.ask(command := meeting(home, "0e5f4f8a-6a57-5c43-9a9e-2c8d5d0f7a11"))
    row = await home.until(command, "failed")
    assert "never came" in row["error"]


async def test_an_unknown_outcome_holds_its_entity_until_a_person_decides(home: House) -> None:
    decisions: tuple[Decision, ...] = ("done", "repeat", "drop")
    await asyncio.gather(*[_decided(await home.with_account(), decision) for decision in decisions])


async def _decided(home: House, decision: Decision) -> None:
    lead_id = await made_lead(home)
    made_at = home.effects("created")[-1].received_at
    assert await eventually(lambda: time.time() > made_at + 1.1)  # else Kommo's clock cannot tell the changes apart
    home.trouble(hung_after=1.0, hang_seconds=30)
    change = Command.make(UpdateLead(lead_id=lead_id, price=5), account_id=home.account)
    behind = home.note(lead_id, "behind")
    await home.ask(change, behind)
    assert await eventually(lambda: home.effects("updated"))
    # Done, but not answered; and before anyone looks, somebody else changes the lead.
    async with httpx.AsyncClient(
        base_url=home.kommo.base_url, transport=httpx.AsyncHTTPTransport(verify=False)
    ) as http:
        token = home.kommo.token(home.account)
        headers = {"Authorization": f"Bearer {token}"}
        answer = await http.patch(f"/api/v4/leads/{lead_id}", json={"price": 6}, headers=headers)
        assert answer.status_code == 200
    row = await home.until(change, "unknown", "succeeded", "failed")
    assert row["state"] == "unknown", decision
    async with home.pool.acquire() as connection:  # what a worker does now and then lets it go no more
        holder = "SELECT holder::text FROM kommo_agents.leases WHERE account_id = $1"
        await let_go(connection, await connection.fetchval(holder, home.account))
    held = await home.row(behind)
    assert (held["state"], held["behind"]) == ("waiting", True), decision
    assert not [effect for effect in home.effects() if effect.kind == "note"], decision
    await home.decide(change, decision)
    await home.until(behind, "succeeded")
    row = await home.until(change, "succeeded", "failed")
    assert row["state"] == ("failed" if decision == "drop" else "succeeded"), decision
    prices = [effect.item["price"] for effect in home.effects("updated")]
    assert prices == ([5, 6, 5] if decision == "repeat" else [5, 6]), decision
    told = [event["type"].rpartition(".")[2] for event in await home.told(change)]
    assert told[:3] == ["admitted", "retried", "unknown"]
    assert told[3:] == {"done": ["succeeded"], "repeat": ["retried", "succeeded"], "drop": ["failed"]}[decision]
    with pytest.raises(DecisionError, match="only what is unknown"):
        await home.decide(change, decision)


async def test_an_account_that_is_not_connected_waits_and_goes_on_when_it_is(home: House) -> None:
    stranger = replace(home, account=home.account + 1_000_000)
    command = stranger.lead("Anna's")
    await home.ask(command)

    async def refused() -> bool:
        row = await home.row(command)
        return row is not None and row["error_class"] == "authentication"

    assert await eventually(refused)
    assert stranger.effects() == []
    await home.connect(stranger.account)
    async with home.pool.acquire() as connection, connection.transaction():
        await retry_now(connection, stranger.account)  # as `account connect` does
    await home.until(command, "succeeded")
    assert len(stranger.effects()) == 1


async def test_nothing_is_sent_before_its_time(home: House) -> None:
    home.trouble(server_errors=1.0)
    command = Command.make(
        CreateTask(text="Call", complete_till=dt.datetime(2027, 1, 1, tzinfo=dt.UTC)), account_id=home.account
    )
    await home.ask(command)
    await home.until(command, "succeeded")
    (effect,) = home.effects()
    retried = next(e for e in await home.told(command) if e["type"] == "kommo.command.retried")
    due = dt.datetime.fromisoformat(retried["data"]["command"]["next_attempt_at"]).timestamp()
    assert effect.received_at >= due - 0.002


async def test_what_is_past_its_expiry_is_not_begun(home: House) -> None:
    command = Command.make(
        CreateLead(name="Late"),
        account_id=home.account,
        expires=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1),
    )
    await home.ask(command)
    row = await home.until(command, "failed")
    assert (row["error"], row["error_class"]) == ("its `expires` had passed before it could be begun", "validation")
    assert home.effects() == []


async def test_what_is_no_command_is_set_aside_and_what_follows_goes_on(home: House) -> None:
    values = [b"nothing", b"{}", b'{"id":"0e5f4f8a-6a57-5c43-9a9e-2c8d5d0f7a11","accountid":"5"}']
    good = home.lead()
    bad = [Record(good.key, value, [("traceparent", b"00-1")]) for value in values]
    await home.producer.send_all(COMMANDS, bad)
    await home.ask(good)
    await home.until(good, "succeeded")
    letters = [item for item in await everything(home.settings, DEADLETTERS) if item.key == good.key]
    assert [letter.value for letter in letters] == values


async def test_an_id_that_another_account_has_is_set_aside(home: House) -> None:
    other = await home.with_account()
    await home.ask(mine := home.lead("Mine"))
    await home.until(mine, "succeeded")
    theirs = Command.make(CreateLead(name="Theirs"), account_id=other.account, command_id=mine.id)
    await home.ask(theirs, last := other.lead("Last"))
    await home.until(last, "succeeded")
    letters = [letter for letter in await everything(home.settings, DEADLETTERS) if letter.key == theirs.key]
    assert [letter.value for letter in letters] == [theirs.to_json()]
    assert dict(letters[0].headers)["dead_letter_error_class"] == b"authorization"
    assert [effect.item["name"] for effect in other.effects("created")] == ["Last"]


async def test_an_account_whose_kommo_is_down_costs_a_probe_and_does_not_hold_up_another(home: House) -> None:
    down = await home.with_account()
    home.kommo.mischief(ApiMischief(down=True), account=down.account)
    hopeless = [down.lead(f"x {number}") for number in range(40)]
    commands = [home.lead(f"Lead {number}") for number in range(40)]
    await home.ask(*hopeless, *commands)
    for command in commands:
        await home.until(command, "succeeded")

    async def left_alone() -> bool:
        waiting = await home.pool.fetchval(
            "SELECT count(*) FROM kommo_agents.commands WHERE account_id = $1 AND state = 'waiting'", down.account
        )
        return bool(waiting == 40)

    assert await eventually(left_alone)
    attempts = await home.pool.fetchval(
        "SELECT sum(attempts) FROM kommo_agents.commands WHERE account_id = $1", down.account
    )
    assert 1 <= attempts <= 10  # five failures in a row open the circuit
    assert down.effects() == []


async def test_half_an_answer_to_a_look_does_not_pass_for_nothing_done(home: House) -> None:
    homes = [await home.with_account() for _ in range(4)]
    kinds = itertools.product(("a change", "a new lead"), ("thin", "malformed"))
    await asyncio.gather(*(_looked_for(each, *kind) for each, kind in zip(homes, kinds, strict=True)))


async def _looked_for(home: House, what: str, kind: str) -> None:
    command = home.lead("Looked for", price=3)
    if what == "a change":
        lead_id = await made_lead(home)
        made_at = home.effects("created")[-1].received_at
        assert await eventually(lambda: time.time() > made_at + 1.1)
        command = Command.make(UpdateLead(lead_id=lead_id, price=5), account_id=home.account)
    before = len(home.effects())
    home.trouble(hung_after=1.0, hang_seconds=30)
    await home.ask(command)
    assert await eventually(lambda: len(home.effects()) == before + 1)
    home.trouble(methods=("GET",), most=2, **{kind: 1.0})
    row = await home.until(command, "succeeded", "failed", "unknown")
    assert (row["state"], len(home.effects())) == ("succeeded", before + 1), (what, kind)


async def test_what_another_command_only_touched_is_still_found_as_what_this_one_made(home: House) -> None:
    home.trouble(answers_lost=1.0)
    create = Command.make(CreateContact(name="Anna"), account_id=home.account)
    await home.ask(create)
    await home.until(create, "waiting", tries=1)
    contact = home.effects("created")[-1].id
    touch = AddNote(entity_type="contact", entity_id=contact, text="as a program does that hears of the contact")
    await home.ask(reaction := Command.make(touch, account_id=home.account))
    await home.until(reaction, "succeeded")
    assert (await home.row(create))["state"] == "waiting"
    await home.due_now(create)
    row = await home.until(create, "succeeded", "failed", "unknown")
    assert row["state"] == "succeeded", row["error"]
    assert [effect.kind for effect in home.effects("created")] == ["contact", "note"]


async def test_what_another_account_did_cannot_be_waited_for(home: House) -> None:
    other = await home.with_account()
    first = other.lead("Theirs")
    await home.ask(first)
    await home.until(first, "succeeded")
    await home.ask(spying := meeting(home, first.id))
    row = await home.until(spying, "failed", "succeeded", "unknown")
    assert (row["state"], "never came" in row["error"]) == ("failed", True)
    assert home.effects() == []


async def test_a_claim_whose_answer_was_lost_is_given_back_and_carried_out_once(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "RENEW_SECONDS", 0.3)
    home.trouble(unavailable=1.0)
    command = Command.make(CreateContact(name="Claimed unheard"), account_id=home.account)
    await home.ask(command)
    await home.until(command, "waiting", tries=1)
    await home.pool.execute(
        "UPDATE kommo_agents.commands AS c SET state = 'claimed', attempts = 2, claimed_at = now(), "
        "claimed_epoch = l.epoch FROM kommo_agents.leases AS l WHERE l.account_id = c.account_id AND c.id = $1",
        command.id,
    )
    row = await home.until(command, "succeeded")
    assert row["attempts"] == 2
    assert len(home.effects("created")) == 1


async def test_an_ending_that_cannot_be_written_is_unknown_and_holds_up_no_other(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = handlers._CreateLead.send

    async def odd(self: Any, attempt: handlers.Attempt) -> Any:
        ending = await sent(self, attempt)
        return replace(ending, updated_at="\0") if attempt.claimed.command.data()["name"] == "Odd" else ending

    monkeypatch.setattr(handlers._CreateLead, "send", odd)
    commands = [home.lead(name) for name in ("Even", "Odd", "Even too")]
    await home.ask(*commands)
    for command, state in zip(commands, ("succeeded", "unknown", "succeeded"), strict=True):
        row = await home.until(command, "succeeded", "unknown", "failed")
        assert row["state"] == state
