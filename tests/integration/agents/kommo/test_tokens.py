"""Tokens are renewed ahead of their end and at a 401, by one worker only, and stored before they are used."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from agents.kommo import tokens
from agents.kommo.clients import KommoClients
from agents.kommo.credentials import CredentialStore, rotate
from agents.kommo.problems import KommoError
from agents.kommo.vault import Vault
from runtime.postgres import open_pool
from runtime.settings import Settings
from schemas.errors import ErrorClass
from tests.integration.agents.kommo.conftest import NO_TLS, Connect
from tests.support.credentials import ACCOUNT, CLIENT, KEY, REDIRECT, SECRET, TOKEN, credentials
from tests.support.raw_server import Server, answer, hang, held, jwt, reset, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

OAUTH = "/oauth2/access_token"
SOON = dt.timedelta(minutes=4)
OVER = dt.timedelta(minutes=-1)


def pair(number: int, **other: Any) -> dict[str, Any]:
    access = jwt(account_id=ACCOUNT, sub="77", jti=number)
    return {"token_type": "Bearer", "expires_in": 86400, "access_token": access, "refresh_token": f"r{number}"} | other


async def row(pool: Any, account: int = ACCOUNT) -> dict[str, Any]:
    return dict(await pool.fetchrow("SELECT * FROM kommo_agents.credentials WHERE account_id = $1", account))


async def stored(clients: KommoClients) -> tuple[str, str | None]:
    found = await clients.store.get(ACCOUNT)
    assert found is not None
    refresh = found.pair.refresh
    return found.pair.access.get_secret_value(), None if refresh is None else refresh.get_secret_value()


@pytest.mark.parametrize("lives", [SOON, OVER])
async def test_a_token_near_its_end_is_renewed_and_stored_before_it_is_used(
    clients: KommoClients, connected: Connect, pool: Any, lives: dt.timedelta
) -> None:
    seen: list[tuple[str, str | None]] = []

    async def api(server: Server, writer: Any) -> None:
        seen.append(await stored(clients))
        await answer(200, {})(server, writer)

    async with serving(otherwise=api) as server:
        server.by_path[OAUTH] = [answer(200, pair(1))]
        kommo = await connected(server.base_url, refresh="r0", lives=lives)
        await kommo.request("GET", "/account")
        await kommo.request("GET", "/account")
    asked = server.of(OAUTH)
    assert len(asked) == 1
    assert json.loads(asked[0].body) == {
        "client_id": CLIENT,
        "client_secret": SECRET,
        "redirect_uri": REDIRECT,
        "grant_type": "refresh_token",
        "refresh_token": "r0",
    }
    fresh = pair(1)["access_token"]
    assert seen[0] == (fresh, "r1")
    assert [got.token for got in server.of("/api/v4/account")] == [fresh, fresh]
    kept = await row(pool)
    assert (kept["state"], kept["refresh_claim"], kept["generation"]) == ("connected", None, 2)
    assert kept["expires_at"] > dt.datetime.now(dt.UTC) + dt.timedelta(hours=23)


async def test_nothing_of_a_token_is_readable_in_the_database(clients: KommoClients, pool: Any) -> None:
    await clients.store.put(credentials("http://127.0.0.1:1", refresh="def502-refresh"))
    text = str(await row(pool))
    assert TOKEN not in text
    assert "def502-refresh" not in text
    assert TOKEN.split(".")[1] not in text


async def test_a_fresh_token_is_not_renewed(connected: Connect) -> None:
    async with serving(otherwise=answer(200, {})) as server:
        kommo = await connected(server.base_url, refresh="r0", lives=dt.timedelta(minutes=6))
        await kommo.request("GET", "/account")
        assert server.of(OAUTH) == []


async def test_two_workers_at_once_renew_once(
    kommo_settings: Settings, pool: Any, clients: KommoClients, connected: Connect
) -> None:
    """The second waits for the first one's pair, and so do many requests of one worker."""
    async with KommoClients(kommo_settings, pool, tls=NO_TLS) as others, serving(otherwise=answer(200, {})) as server:
        server.by_path[OAUTH] = [answer(200, pair(1), delay=0.3)]
        one = await connected(server.base_url, refresh="r0", lives=OVER)
        two = others.client(ACCOUNT)
        await asyncio.gather(*(kommo.request("GET", "/account") for kommo in (one, two) for _ in range(4)))
    assert len(server.of(OAUTH)) == 1
    assert {got.token for got in server.of("/api/v4/account")} == {pair(1)["access_token"]}


async def test_ahead_of_its_end_the_others_go_on_with_the_old_token(
    kommo_settings: Settings, pool: Any, connected: Connect
) -> None:
    async with KommoClients(kommo_settings, pool, tls=NO_TLS) as others, serving(otherwise=answer(200, {})) as server:
        gate = asyncio.Event()
        server.by_path[OAUTH] = [held(gate, answer(200, pair(1)))]
        one = await connected(server.base_url, refresh="r0", lives=SOON)
        slow = asyncio.create_task(one.request("GET", "/account"))
        while not server.of(OAUTH):
            await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            await others.client(ACCOUNT).request("GET", "/account")
        assert [got.token for got in server.of("/api/v4/account")] == [TOKEN]
        gate.set()
        await slow


async def test_while_one_task_renews_ahead_the_others_do_not_wait(connected: Connect) -> None:
    async with serving(otherwise=answer(200, {})) as server:
        gate = asyncio.Event()
        server.by_path[OAUTH] = [held(gate, answer(200, pair(1)))]
        kommo = await connected(server.base_url, refresh="r0", lives=SOON)
        slow = asyncio.create_task(kommo.request("GET", "/account"))
        while not server.of(OAUTH):
            await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            await kommo.request("GET", "/account")
        assert not slow.done()
        gate.set()
        await slow
        assert [got.token for got in server.of("/api/v4/account")] == [TOKEN, pair(1)["access_token"]]


async def test_a_token_that_cannot_be_renewed_yet_is_used_to_its_end(connected: Connect, pool: Any) -> None:
    async with serving(otherwise=answer(200, {})) as server:
        server.by_path[OAUTH] = [answer(503)] * 99
        kommo = await connected(server.base_url, refresh="r0", lives=SOON)
        for _ in range(8):
            await kommo.request("GET", "/account")
        assert len(server.of(OAUTH)) == 15, "a circuit opens, so that it costs no time"
        server.by_path[OAUTH] = [answer(400)]
        kommo = await connected(server.base_url, refresh="r0", lives=SOON)
        with pytest.raises(KommoError):  # what is refused is over
            await kommo.request("GET", "/account")


async def test_a_claim_of_a_worker_that_is_gone_ends(clients: KommoClients, connected: Connect, pool: Any) -> None:
    async with serving(otherwise=answer(200, {})) as server:
        server.by_path[OAUTH] = [answer(200, pair(1))]
        kommo = await connected(server.base_url, refresh="r0", lives=OVER)
        found = await clients.store.get(ACCOUNT)
        assert found is not None
        assert await clients.store.claim(found) is not None
        assert await clients.store.claim(found) is None
        waiting = asyncio.create_task(kommo.request("GET", "/account"))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert (done, server.got) == (set(), [])
        await pool.execute("UPDATE kommo_agents.credentials SET refresh_claimed_until = now() - interval '1 ms'")
        assert (await waiting).status == 200


async def test_a_pair_that_comes_after_its_claim_was_taken_over_is_void(clients: KommoClients) -> None:
    await clients.store.put(credentials("http://127.0.0.1:1", refresh="r0"))
    found = await clients.store.get(ACCOUNT)
    assert found is not None
    claim = await clients.store.claim(found)
    assert claim is not None
    await clients.store.put(credentials("http://127.0.0.1:1", refresh="by a person"))
    assert not await clients.store.renew(found, claim, found.pair)
    assert (await stored(clients))[1] == "by a person"


@pytest.mark.parametrize("patience", [0.25])
@pytest.mark.parametrize("lost", [reset, hang, answer(502, "<html>"), answer(200, '{"access_token": "')])
async def test_a_lost_answer_is_asked_for_again_with_the_old_token(
    clients: KommoClients, connected: Connect, lost: Any
) -> None:
    async with serving(otherwise=answer(200, {})) as server:
        server.by_path[OAUTH] = [lost, answer(200, pair(2))]
        kommo = await connected(server.base_url, refresh="r0", lives=OVER)
        await kommo.request("POST", "/leads", json=[])
    assert [json.loads(got.body)["refresh_token"] for got in server.of(OAUTH)] == ["r0", "r0"]
    assert (await stored(clients))[1] == "r2"


async def test_a_refresh_that_fails_has_not_sent_the_request_it_was_for(
    clients: KommoClients, connected: Connect, pool: Any
) -> None:
    async with serving(otherwise=answer(200, {})) as server:
        server.by_path[OAUTH] = [answer(500, {})] * 9
        kommo = await connected(server.base_url, refresh="r0", lives=OVER)
        with pytest.raises(KommoError) as caught:
            await kommo.request("POST", "/leads", json=[])
        assert (caught.value.error_class, caught.value.left) == (ErrorClass.EXTERNAL_SERVICE, False)
        assert server.of("/api/v4/leads") == []
    kept = await row(pool)
    assert (kept["state"], kept["refresh_claim"]) == ("connected", None), "it may be tried again"


@pytest.mark.parametrize("status", [400, 401])
async def test_a_refused_refresh_needs_a_person_and_is_tried_seldom(
    clients: KommoClients, connected: Connect, pool: Any, status: int
) -> None:
    async with serving(otherwise=answer(200, {})) as server:
        server.by_path[OAUTH] = [answer(status, {"hint": "Token has been revoked"}), answer(200, pair(1))]
        kommo = await connected(server.base_url, refresh="r0", lives=OVER)
        for _ in range(3):
            with pytest.raises(KommoError) as caught:
                await kommo.request("POST", "/leads", json=[])
            assert (caught.value.error_class, caught.value.left) == (ErrorClass.AUTHENTICATION, False)
            assert caught.value.retry_after is not None
            assert 3500 < caught.value.retry_after <= 3600
        assert len(server.got) == 1, "after it was refused nobody asks"
        kept = await row(pool)
        assert (kept["state"], kept["why"]) == ("needs_person", tokens.REFUSED)
        await pool.execute("UPDATE kommo_agents.credentials SET refused_at = now() - interval '61 min'")
        assert (await kommo.request("GET", "/account")).status == 200
        assert (await row(pool))["state"] == "connected"


async def test_a_401_renews_once_and_sends_again(connected: Connect) -> None:
    async with serving() as server:
        server.by_path |= {
            "/api/v4/leads": [answer(401, {"detail": "Invalid user name or password"}), answer(200, {})],
            OAUTH: [answer(200, pair(1))],
        }
        kommo = await connected(server.base_url, refresh="r0")
        sent: list[int] = []

        async def before_send() -> None:
            sent.append(1)

        await kommo.request("POST", "/leads", json=[], before_send=before_send)
        assert [got.token for got in server.of("/api/v4/leads")] == [TOKEN, pair(1)["access_token"]]
        assert len(sent) == 2


async def test_a_401_after_another_worker_renewed_reads_its_pair(
    kommo_settings: Settings, pool: Any, connected: Connect
) -> None:
    async with KommoClients(kommo_settings, pool, tls=NO_TLS) as others, serving() as server:
        server.by_path["/api/v4/leads"] = [answer(200, {}), answer(401), answer(200, {})]
        kommo = await connected(server.base_url, refresh="r0")
        await kommo.request("POST", "/leads", json=[])
        await others.store.put(credentials(server.base_url, refresh="r1", access=pair(1)["access_token"]))
        await kommo.request("POST", "/leads", json=[])
        assert server.of(OAUTH) == []
        assert server.got[-1].token == pair(1)["access_token"]


async def test_a_fresh_token_that_is_refused_needs_a_person(connected: Connect, pool: Any) -> None:
    async with serving() as server:
        server.by_path |= {"/api/v4/leads": [answer(401), answer(401)], OAUTH: [answer(200, pair(1))]}
        kommo = await connected(server.base_url, refresh="r0")
        with pytest.raises(KommoError) as caught:
            await kommo.request("POST", "/leads", json=[])
        assert (caught.value.error_class, caught.value.status) == (ErrorClass.AUTHENTICATION, 401)
        assert (await row(pool))["state"] == "needs_person"
        with pytest.raises(KommoError):
            await kommo.request("POST", "/leads", json=[])
        assert len(server.got) == 3


async def test_a_long_lived_token_is_never_renewed(connected: Connect, pool: Any) -> None:
    async with serving() as server:
        server.by_path["/api/v4/leads"] = [answer(200, {}), answer(401), answer(200, {})]
        kommo = await connected(server.base_url, lives=OVER)  # what it says of its end may be wrong
        await kommo.request("POST", "/leads", json=[])
        with pytest.raises(KommoError) as caught:
            await kommo.request("POST", "/leads", json=[])
        assert caught.value.error_class is ErrorClass.AUTHENTICATION
        assert (await row(pool))["why"] == tokens.REFUSED_LONG_LIVED
        for _ in range(3):
            with pytest.raises(KommoError):
                await kommo.request("POST", "/leads", json=[])
        assert len(server.got) == 2
        await pool.execute("UPDATE kommo_agents.credentials SET refused_at = now() - interval '61 min'")
        await kommo.request("POST", "/leads", json=[])
        assert (await row(pool))["state"] == "connected"
        assert server.of(OAUTH) == []


async def test_what_another_worker_found_refused_is_not_tried_by_this_one(
    clients: KommoClients, connected: Connect
) -> None:
    async with serving(answer(200, {}), otherwise=answer(401)) as server:
        kommo = await connected(server.base_url, refresh="r0")
        await kommo.request("GET", "/account")
        found = await clients.store.get(ACCOUNT)
        assert found is not None
        await clients.store.refused(found, "gone")
        for _ in range(3):
            with pytest.raises(KommoError, match="gone"):
                await kommo.request("GET", "/account")
        assert len(server.got) == 2


async def test_an_account_that_is_disconnected_stops(
    connected: Connect, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(otherwise=answer(200, {})) as server:
        kommo = await connected(server.base_url)
        await kommo.request("GET", "/account")
        await pool.execute("DELETE FROM kommo_agents.credentials")
        await kommo.request("GET", "/account")  # what was read is believed for a minute
        monkeypatch.setattr(tokens, "KNOWN_SECONDS", 0.0)
        with pytest.raises(KommoError, match="not connected") as caught:
            await kommo.request("GET", "/account")
        assert caught.value.error_class is ErrorClass.AUTHENTICATION


async def test_an_integration_whose_secret_is_not_in_the_settings(
    kommo_settings: Settings, pool: Any, connected: Connect
) -> None:
    bare = kommo_settings.model_copy(update={"integrations": None})
    async with KommoClients(bare, pool, tls=NO_TLS) as clients, serving(otherwise=answer(200, {})) as server:
        await connected(server.base_url, refresh="r0", lives=OVER)
        with pytest.raises(KommoError, match="KOMMO_STREAMS_INTEGRATIONS") as caught:
            await clients.of(ACCOUNT)
        assert (caught.value.error_class, server.got) == (ErrorClass.AUTHENTICATION, [])
        assert (await row(pool))["state"] == "connected", "that is the settings' fault, not Kommo's refusal"


async def test_refreshes_that_fail_open_a_circuit(connected: Connect) -> None:
    async with serving(otherwise=answer(500)) as server:
        kommo = await connected(server.base_url, refresh="r0", lives=OVER)
        for _ in range(3):
            with pytest.raises(KommoError):
                await kommo.request("GET", "/account")
        assert kommo.circuits.states() == {"oauth": "open"}
        assert len(server.got) == 5 * 3


async def test_keys_are_rotated_for_all_or_none(clients: KommoClients, pool: Any, kommo_settings: Settings) -> None:
    new = "bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleS0="
    for account in (1, 2):
        await clients.store.put(credentials("http://127.0.0.1:1", account, refresh="r0" if account == 1 else None))
    both = Vault.from_settings(kommo_settings.model_copy(update={"token_keys": SecretStr(f"{new},{KEY}")}))
    only_new = Vault.from_settings(kommo_settings.model_copy(update={"token_keys": SecretStr(new)}))
    async with pool.acquire() as connection:
        assert await rotate(connection, both) == 2
        for account in (1, 2):
            found = await CredentialStore(connection, only_new).get(account)
            assert found is not None
            assert found.pair.access.get_secret_value() == TOKEN
        before = await row(pool, 1)
        await connection.execute("UPDATE kommo_agents.credentials SET access_token = 'x' WHERE account_id = 2")
        with pytest.raises(KommoError):
            await rotate(connection, both)
        assert (await row(pool, 1))["access_token"] == before["access_token"]


async def test_postgresql_that_is_away_is_its_own_error(kommo_settings: Settings, connected: Connect) -> None:
    await connected("http://127.0.0.1:1")
    pool = await open_pool(kommo_settings, application="tests")
    await pool.close()
    async with KommoClients(kommo_settings, pool, tls=NO_TLS) as clients:
        with pytest.raises(asyncpg.InterfaceError):
            await clients.client(ACCOUNT).request("GET", "/account")
