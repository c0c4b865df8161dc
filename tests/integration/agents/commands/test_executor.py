"""The executor against the simulated Kommo: no account keeps another waiting, and nothing it began is forgotten."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr
from tenacity import wait_fixed

from agents.commands import executor, handlers, leases, recorder, table
from agents.commands.admitted import Claimed
from agents.kommo import oauth
from agents.kommo.clients import KommoClients
from agents.kommo.credentials import Credentials
from agents.kommo.oauth import OAuth
from schemas.actions import CreateLead
from schemas.command import Command
from simulator.api import ApiMischief, Limits, simulated_kommo
from streams import faust_app
from streams.topics import COMMANDS, ensure_topics
from tests.integration.agents.commands.support import House, own_house
from tests.support.installation import delete_topics
from tests.support.servers import Servers
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
WORKER = False


@pytest_asyncio.fixture(loop_scope="module")
async def home(shared: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """The shared house with a new account; no other has work, no worker runs, and an executor pauses for moments."""
    monkeypatch.setattr(executor, "_SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(executor, "RENEW_SECONDS", 0.3)
    monkeypatch.setattr(executor, "_SETTLE_SECONDS", 0.3)
    yield await shared.with_account()
    await shared.clear()


async def by_oauth(home: House) -> dict[str, Any]:
    """Connect the account by a code, and return the settings a worker needs for it."""
    own = home.kommo.integration
    more = {"integrations": SecretStr(f"{own.client_id}:{own.client_secret}")}
    async with KommoClients(home.settings.model_copy(update=more), home.pool) as clients:
        code = SecretStr(home.kommo.code(home.account))
        pair = await clients.oauth.exchange_code(home.kommo.base_url, own.client_id, own.redirect_uri, code)
        await clients.store.put(
            Credentials(
                home.account, home.kommo.base_url, pair, client_uuid=own.client_id, redirect_uri=own.redirect_uri
            )
        )
    return more


async def token_ran_out(home: House, refreshing_seconds: float = 0.0) -> None:
    """Let the token be too old, and a worker that died have begun to renew it: so long others wait for it."""
    await home.pool.execute(
        "UPDATE kommo_agents.credentials SET expires_at = now() - interval '1 s', refresh_claim = $2,"
        " refresh_claimed_until = now() + make_interval(secs => $3) WHERE account_id = $1",
        home.account,
        uuid.uuid4(),
        refreshing_seconds,
    )


async def test_a_look_after_a_long_wait_for_credentials_still_finds_what_was_done(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "_SKEW_SECONDS", 1)  # the wait is longer than that
    more = {**await by_oauth(home), "retry": "all.base=60, all.jitter=0"}
    home.execute(**more)
    home.trouble(answers_lost=1.0)
    await home.begin(command := home.lead())
    assert (await home.until(command, "waiting", "succeeded", tries=1))["doubt"] is not None
    assert len(home.effects("created")) == 1
    await home.rest()
    await token_ran_out(home, refreshing_seconds=4)
    await home.due_now(command)
    home.execute(**more)
    row = await home.until(command, "succeeded", "failed", "unknown")
    assert (row["state"], len(home.effects("created"))) == ("succeeded", 1)


async def test_what_expired_while_it_waited_for_credentials_is_not_sent(home: House) -> None:
    more = await by_oauth(home)
    await token_ran_out(home, refreshing_seconds=3)
    home.execute(**more)
    expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
    await home.begin(command := Command.make(CreateLead(name="Late"), account_id=home.account, expires=expires))
    row = await home.until(command, "succeeded", "failed", "unknown")
    assert (row["state"], home.effects()) == ("failed", [])
    assert row["claimed_at"] < expires, "it was waited for, not too late from the first"


async def test_an_account_that_is_down_from_the_first_has_a_circuit_too(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    ask = OAuth._ask

    async def counted(self: OAuth, *arguments: Any, **more: Any) -> Any:
        asked.append(arguments)
        return await ask(self, *arguments, **more)

    monkeypatch.setattr(OAuth, "_ask", counted)
    monkeypatch.setattr(oauth, "_BACKOFF", wait_fixed(0.01))
    more = await by_oauth(home)
    await token_ran_out(home)
    home.kommo.mischief(ApiMischief(down=True), account=None)
    asked.clear()
    commands = [home.lead(str(number)) for number in range(30)]
    await home.take_on(*commands)
    home.execute(**more, retry="all.base=0.05, all.cap=0.1, all.attempts=100")

    async def kept_back() -> bool:
        return bool(
            await home.pool.fetchval(
                "SELECT count(*) = $2 FROM kommo_agents.commands WHERE account_id = $1 AND state = 'waiting'"
                " AND next_attempt_at > now() + interval '5 s'",
                home.account,
                len(commands),
            )
        )

    await eventually(kept_back, 30, "all wait for the circuit")
    assert len(asked) < 30


async def test_seven_requests_a_second_are_kept_and_nothing_is_refused(home: House) -> None:
    async with simulated_kommo(limits=Limits()) as strict:
        home = replace(home, kommo=strict)
        await home.connect(home.account)
        home.execute(kommo_rate=7)
        commands = [home.lead(f"Lead {number}") for number in range(15)]
        await home.begin(*commands)
        for command in commands:
            row = await home.until(command, "succeeded")
            assert row["attempts"] == 1
        times = sorted(effect.received_at for effect in home.effects())
        assert len(times) == 15
        assert all(later - earlier >= 0.9 for earlier, later in zip(times, times[7:], strict=False))
        await home.rest()


async def test_a_lead_that_another_command_only_touched_is_found_as_what_this_one_made(home: House) -> None:
    home.execute(retry="create_lead.base=60, create_lead.jitter=0")
    home.trouble(answers_lost=1.0)
    await home.begin(create := home.lead())
    await home.until(create, "waiting", tries=1)
    await home.begin(reaction := home.note(home.effects("created")[-1].id))
    await home.until(reaction, "succeeded")
    await home.due_now(create)
    row = await home.until(create, "succeeded", "failed", "unknown")
    assert row["state"] == "succeeded", row["error"]
    assert [effect.kind for effect in home.effects("created")] == ["lead", "note"]


async def test_a_change_of_another_entity_does_not_explain_this_ones(home: House) -> None:
    home.execute()
    await home.begin(first := home.lead("First"))
    since = (await home.until(first, "succeeded"))["claimed_at"]
    await home.begin(second := home.lead("Second"))
    await home.until(second, "succeeded")
    one, other = [effect.id for effect in home.effects("created")]
    await home.pool.execute(
        "UPDATE kommo_agents.commands SET result = jsonb_set(result, '{updated_at}', to_jsonb($2::bigint))"
        " WHERE id = $1",
        second.id,
        2_000_000_000,
    )
    async with home.pool.acquire() as connection:
        assert await table.last_update(connection, home.account, since, "lead", other) == 2_000_000_000
        assert 0 < await table.last_update(connection, home.account, since, "lead", one) < 2_000_000_000
        assert await table.last_update(connection, home.account, since, "contact", other) == 0


async def test_accounts_without_work_keep_none_with_work_waiting(home: House) -> None:
    homes = [home, *[await home.with_account() for _ in range(4)]]
    home.execute(commands_running=2, commands_per_account=2)
    first = [each.lead("first") for each in homes]
    await home.begin(*first)
    for command in first:
        await home.until(command, "succeeded")
    for each in homes:
        await home.begin(command := each.lead("second"))
        await home.until(command, "succeeded", seconds=20)


async def test_an_account_that_has_not_answered_yet_holds_up_one_place_only(home: House) -> None:
    home.kommo.mischief(ApiMischief(latency=0.5))
    commands = [home.lead(str(number)) for number in range(4)]
    await home.take_on(*commands)
    home.execute(commands_running=4, commands_per_account=4)
    for command in commands:
        await home.until(command, "succeeded")
    first, *others = sorted(effect.received_at for effect in home.effects("created"))
    assert min(others) - first >= 0.45, "the first answer was waited for"


async def test_accounts_with_a_backlog_take_turns(home: House) -> None:
    homes = [home, *[await home.with_account() for _ in range(5)]]
    home.kommo.mischief(ApiMischief(latency=0.02))
    commands = [each.lead(str(number)) for each in homes for number in range(10)]
    await home.take_on(*commands)
    home.execute(commands_running=4, commands_per_account=2)

    async def done() -> bool:
        return (await home.states(commands))["succeeded"] == len(commands)

    await eventually(done, 60)
    rows = await home.pool.fetch("SELECT account_id FROM kommo_agents.commands ORDER BY finished_at")
    half = [row[0] for row in rows[: len(rows) // 2]]
    assert all(half.count(each.account) >= 3 for each in homes), "an even share would be 5 each"


async def test_what_is_cut_off_by_sigterm_is_looked_for(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = (await home.with_account()).lead("Slow to end")
    attempt = executor.Executor._attempt

    async def lingering(self: executor.Executor, claimed: Claimed, began: float) -> Any:
        if claimed.command.id != slow.id:
            return await attempt(self, claimed, began)
        try:
            return await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.7)  # as a connection that takes long to close: leases are renewed meanwhile

    monkeypatch.setattr(executor.Executor, "_attempt", lingering)
    monkeypatch.setattr(executor, "_DRAIN_SECONDS", 0.3)
    monkeypatch.setattr(executor, "_GATHER_SECONDS", 0.0)
    monkeypatch.setattr(executor, "RENEW_SECONDS", 0.1)  # so that something is given back meanwhile
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(leases, "MARGIN_SECONDS", 0.4)
    home.execute(kommo_timeout_seconds=30.0)
    home.trouble(hung_after=1.0, hang_seconds=20)
    await home.begin(cut := home.lead("Cut off"), slow)
    await eventually(lambda: home.effects("created"))
    await home.until(slow, "claimed")
    await home.rest()
    row = await home.row(cut)
    assert row["state"] == "claimed" or row["doubt"] is not None
    monkeypatch.setattr(executor.Executor, "_attempt", attempt)
    home.execute()
    await home.until(cut, "succeeded")
    assert [effect.item["name"] for effect in home.effects("created")] == ["Cut off"]


@pytest.mark.parametrize("what", ["its event", "its row"])
async def test_an_ending_that_can_in_no_way_be_written_is_not_sent_again(
    home: House, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    odd = home.lead("Odd")
    tell, finish = recorder.tell, recorder.finish

    def untold(claimed: Claimed, *more: Any) -> Any:
        if claimed.command.id == odd.id:
            raise RuntimeError("a fault of ours")
        return tell(claimed, *more)

    async def unwritten(connection: Any, rows: Any) -> Any:
        if what == "its row" and any(row.claimed.command.id == odd.id for row in rows):
            raise RuntimeError("a fault of ours")
        return await finish(connection, rows)

    monkeypatch.setattr(recorder, "tell", untold)
    monkeypatch.setattr(recorder, "finish", unwritten)
    home.execute()
    await home.begin(odd, even := home.lead("Even"))
    await home.until(even, "succeeded")
    if what == "its event":
        await home.until(odd, "unknown")
    else:

        async def given_back() -> bool:
            row = await home.row(odd)
            return row["doubt"] is not None and row["attempts"] >= 2  # looked for, and found

        await eventually(given_back, 30)
    assert [effect.item["name"] for effect in home.effects("created")].count("Odd") == 1


async def test_a_topic_that_was_not_known_for_a_moment_is_read_again(
    shared_servers: Servers, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart of Kafka, whose broker answers before it knows its topics."""
    assert faust_app.METADATA_MS <= 5_000
    monkeypatch.setattr(faust_app, "METADATA_MS", 500)
    async with own_house(shared_servers) as home:
        home.work()
        await home.ask(before := home.lead("before"))
        await home.until(before, "succeeded")
        await delete_topics(home.settings, COMMANDS)
        await eventually(lambda: "Ignoring missing topic" in caplog.text, 60)
        await ensure_topics(home.settings)
        await home.ask(after := home.lead("after"))
        await home.until(after, "succeeded", seconds=60)
