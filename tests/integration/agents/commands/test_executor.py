"""The executor against the simulated Kommo: no account keeps another waiting, and nothing it began is forgotten."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from typing import Any

import pytest
from pydantic import SecretStr

from agents.commands import executor, recorder
from agents.commands.admitted import Claimed
from agents.kommo.clients import KommoClients
from agents.kommo.credentials import Credentials
from agents.kommo.oauth import OAuth
from schemas.actions import CreateLead
from schemas.command import Command
from simulator.api import ApiMischief
from streams.topics import COMMANDS, DEADLETTERS, ensure_topics
from tests.integration.agents.commands.support import House, own_house
from tests.integration.agents.test_ingest import everything
from tests.support.installation import delete_topics
from tests.support.servers import Servers
from tests.support.waiting import eventually


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


async def test_a_look_after_a_long_wait_for_credentials_still_finds_what_was_done(servers: Servers) -> None:
    async with own_house(servers, retry="all.base=3, all.jitter=0") as home:
        more = await by_oauth(home)
        home.work(**more)
        home.trouble(answers_lost=1.0)
        await home.ask(command := home.lead())
        assert await eventually(lambda: home.effects("created"))

        async def waits() -> bool:
            row = await home.row(command)
            return row["state"] == "waiting" and row["doubt"] is not None

        await eventually(waits)
        await home.rest()
        await token_ran_out(home, refreshing_seconds=12)
        home.work(**more)
        row = await home.until(command, "succeeded", "failed", "unknown", seconds=60)
        assert (row["state"], len(home.effects("created"))) == ("succeeded", 1)


async def test_what_expired_while_it_waited_for_credentials_is_not_sent(servers: Servers) -> None:
    async with own_house(servers) as home:
        more = await by_oauth(home)
        await token_ran_out(home, refreshing_seconds=8)
        home.work(**more)
        expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=4)
        await home.ask(command := Command.make(CreateLead(name="Late"), account_id=home.account, expires=expires))
        row = await home.until(command, "succeeded", "failed", "unknown", seconds=60)
        assert (row["state"], home.effects()) == ("failed", [])


async def test_an_account_that_is_down_from_the_first_has_a_circuit_too(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    ask = OAuth._ask

    async def counted(self: OAuth, *arguments: Any, **more: Any) -> Any:
        asked.append(arguments)
        return await ask(self, *arguments, **more)

    monkeypatch.setattr(OAuth, "_ask", counted)
    async with own_house(servers, retry="all.base=0.05, all.cap=0.1, all.attempts=100") as home:
        more = await by_oauth(home)
        await token_ran_out(home)
        home.kommo.mischief(ApiMischief(down=True), account=None)
        asked.clear()
        commands = [home.lead(str(number)) for number in range(30)]
        await home.take_on(*commands)
        home.work(**more)

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


async def test_accounts_without_work_keep_none_with_work_waiting(servers: Servers) -> None:
    async with own_house(servers, commands_running=2, commands_per_account=2) as home:
        homes = [home, *[await home.with_account() for _ in range(4)]]
        home.work()
        first = [each.lead("first") for each in homes]
        await home.ask(*first)
        for command in first:
            await home.until(command, "succeeded")
        for each in homes:
            await home.ask(command := each.lead("second"))
            await home.until(command, "succeeded", seconds=20)


async def test_accounts_with_a_backlog_take_turns(servers: Servers) -> None:
    async with own_house(servers, commands_running=4, commands_per_account=2) as home:
        homes = [home, *[await home.with_account() for _ in range(5)]]
        home.kommo.mischief(ApiMischief(latency=0.05))
        commands = [each.lead(str(number)) for each in homes for number in range(20)]
        await home.take_on(*commands)
        home.work()

        async def done() -> bool:
            return (await home.states(commands))["succeeded"] == len(commands)

        await eventually(done, 60)
        rows = await home.pool.fetch("SELECT account_id FROM kommo_agents.commands ORDER BY finished_at")
        half = [row[0] for row in rows[: len(rows) // 2]]
        assert all(half.count(each.account) >= 5 for each in homes), "an even share would be 10 each"


async def test_what_is_cut_off_by_sigterm_is_looked_for(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    async with own_house(servers, kommo_timeout_seconds=30.0) as home:
        slow = (await home.with_account()).lead("Slow to end")
        attempt = executor.Executor._attempt

        async def lingering(self: executor.Executor, claimed: Claimed, began: float) -> Any:
            if claimed.command.id != slow.id:
                return await attempt(self, claimed, began)
            try:
                return await asyncio.sleep(100)
            finally:
                await asyncio.sleep(0.9)  # as a connection that takes long to close

        monkeypatch.setattr(executor.Executor, "_attempt", lingering)
        monkeypatch.setattr(executor, "RENEW_SECONDS", 0.2)  # so that something is given back meanwhile
        home.work()
        home.trouble(hung_after=1.0, hang_seconds=20)
        await home.ask(cut := home.lead("Cut off"), slow)
        await eventually(lambda: home.effects("created"))
        await home.until(slow, "claimed")
        await home.rest()
        row = await home.row(cut)
        assert row["state"] == "claimed" or row["doubt"] is not None
        monkeypatch.setattr(executor.Executor, "_attempt", attempt)
        home.work()
        await home.until(cut, "succeeded", seconds=60)
        assert [effect.item["name"] for effect in home.effects("created")] == ["Cut off"]


@pytest.mark.parametrize("what", ["its event", "its row"])
async def test_an_ending_that_can_in_no_way_be_written_is_not_sent_again(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async with own_house(servers) as home:
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
        home.work()
        await home.ask(odd, even := home.lead("Even"))
        await home.until(even, "succeeded")
        if what == "its event":
            await home.until(odd, "unknown")
        else:

            async def given_back() -> bool:
                row = await home.row(odd)
                return row["doubt"] is not None and row["attempts"] >= 2  # looked for, and found

            await eventually(given_back, 30)
        assert [effect.item["name"] for effect in home.effects("created")].count("Odd") == 1


async def test_an_id_that_another_account_has_is_set_aside(servers: Servers) -> None:
    async with own_house(servers) as home:
        other = await home.with_account()
        home.work()
        await home.ask(mine := home.lead("Mine"))
        await home.until(mine, "succeeded")
        theirs = Command.make(CreateLead(name="Theirs"), account_id=other.account, command_id=mine.id)
        await home.ask(theirs, last := other.lead("Last"))
        await home.until(last, "succeeded")
        letters = await everything(home.settings, DEADLETTERS)
        assert [(letter.key, letter.value) for letter in letters] == [(theirs.key, theirs.to_json())]
        assert dict(letters[0].headers)["dead_letter_error_class"] == b"authorization"
        assert [effect.item["name"] for effect in other.effects("created")] == ["Last"]


async def test_a_topic_that_was_not_known_for_a_moment_is_read_again(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a restart of Kafka, whose broker answers before it knows its topics."""
    async with own_house(servers) as home:
        home.work()
        await home.ask(before := home.lead("before"))
        await home.until(before, "succeeded")
        await delete_topics(home.settings, COMMANDS)
        await eventually(lambda: "Ignoring missing topic" in caplog.text, 60)
        await ensure_topics(home.settings)
        await home.ask(after := home.lead("after"))
        await home.until(after, "succeeded", seconds=60)
