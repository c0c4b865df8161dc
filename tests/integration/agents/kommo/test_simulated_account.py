"""The client against the project's own Kommo: connect by a code, renew, write, read pages, keep the rate, survive."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from click.testing import CliRunner
from pydantic import SecretStr

from agents.kommo.client import Kommo, batches, embedded
from agents.kommo.clients import KommoClients
from agents.kommo.commands import account as account_command
from agents.kommo.credentials import Credentials, Pair
from agents.kommo.oauth import claims_of
from agents.kommo.problems import KommoError
from runtime.settings import Settings
from schemas.errors import ErrorClass
from simulator.api.catalogue import FIRST_USER
from simulator.api.limits import Limits
from simulator.api.mischief import NO_MISCHIEF, ApiMischief, read_mischief
from simulator.api.running import Running, simulated_kommo
from tests.integration.agents.kommo.conftest import NO_TLS
from tests.support.credentials import ACCOUNT, KEY

pytestmark = pytest.mark.asyncio(loop_scope="module")


_accounts = itertools.count(ACCOUNT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kommo() -> AsyncIterator[Running]:
    async with simulated_kommo(limits=Limits(rate=None)) as running:
        yield running


@pytest.fixture
def account() -> int:
    """An account that no other test uses."""
    return next(_accounts)


@pytest_asyncio.fixture(loop_scope="module")
async def mine(kommo: Running, account: int, kommo_settings: Settings, pool: Any) -> AsyncIterator[KommoClients]:
    """Clients, and the account connected by a code."""
    own = kommo.integration
    settings = kommo_settings.model_copy(update={"integrations": SecretStr(f"{own.client_id}:{own.client_secret}")})
    async with KommoClients(settings, pool, tls=NO_TLS) as clients:
        code = SecretStr(kommo.code(account))
        pair = await clients.oauth.exchange_code(kommo.base_url, own.client_id, own.redirect_uri, code)
        await clients.store.put(
            Credentials(
                account,
                kommo.base_url,
                pair,
                user_id=claims_of(pair.access).user_id,
                client_uuid=own.client_id,
                redirect_uri=own.redirect_uri,
            )
        )
        yield clients


async def lead(client: Kommo, name: str = "Boiler") -> int:
    answer = await client.request("POST", "/leads", json=[{"name": name, "price": 100}])
    return int(embedded(answer.body, "leads")[0]["id"])


async def test_an_account_is_connected_from_the_command_line_by_a_code_once(
    kommo: Running, account: int, kommo_settings: Settings, pool: Any
) -> None:
    own = kommo.integration
    secret = f"{own.client_id}:{own.client_secret}"
    env = {
        "KOMMO_STREAMS_DATABASE_URL": kommo_settings.database_url.get_secret_value(),
        "KOMMO_STREAMS_INTEGRATIONS": secret,
        "KOMMO_STREAMS_OAUTH_REDIRECT_URI": own.redirect_uri,
        "KOMMO_STREAMS_TOKEN_KEYS": KEY,
    }
    arguments = ["connect", "--url", kommo.base_url, "--code", kommo.code(account)]
    made = await asyncio.to_thread(CliRunner().invoke, account_command, arguments, env=env)
    assert made.exit_code == 0, made.output
    again = await asyncio.to_thread(CliRunner().invoke, account_command, arguments, env=env)
    assert again.exit_code == 1, "a code works once"
    settings = kommo_settings.model_copy(update={"integrations": SecretStr(secret)})
    async with KommoClients(settings, pool, tls=NO_TLS) as clients:
        client = await clients.of(account)
        await lead(client)
        effects = [(effect.kind, effect.verb, effect.user) for effect in kommo.ledger.of(account)]
        assert effects == [("lead", "created", (await client.credentials()).user_id)]


async def test_a_lead_a_note_and_a_task_take_effect_once(kommo: Running, account: int, mine: KommoClients) -> None:
    client = await mine.of(account)
    made = await lead(client)
    note = {"entity_id": made, "note_type": "common", "params": {"text": "hello"}}
    await client.request("POST", "/leads/notes", json=[note])
    task = {"text": "call", "complete_till": int(time.time()) + 3600, "entity_id": made, "entity_type": "leads"}
    await client.request("POST", "/tasks", json=[task])
    await client.request("PATCH", f"/leads/{made}", json={"price": 200})
    effects = [(effect.kind, effect.verb, effect.user) for effect in kommo.ledger.of(account)]
    user = (await client.credentials()).user_id
    assert effects == [
        ("lead", "created", user),
        ("note", "created", user),
        ("task", "created", user),
        ("lead", "updated", user),
    ]
    assert (await client.request("GET", f"/leads/{made}", must_exist=True)).body["price"] == 200
    with pytest.raises(KommoError) as caught:
        await client.request("GET", "/leads/999999999", must_exist=True)
    assert caught.value.error_class is ErrorClass.NOT_FOUND
    assert client.offset is not None
    assert abs(client.offset.total_seconds()) < 3


async def test_what_kommo_finds_wrong_is_named(account: int, mine: KommoClients) -> None:
    client = await mine.of(account)
    field = {"field_id": 1, "values": [{"value": "x"}]}
    with pytest.raises(KommoError) as caught:
        await client.request("POST", "/leads", json=[{"name": "x", "custom_fields_values": [field]}])
    assert (caught.value.error_class, caught.value.left) == (ErrorClass.VALIDATION, False)
    assert caught.value.validation[0].code == "NotSupportedChoice"
    assert "NotSupportedChoice" in str(caught.value)


async def test_pages_of_what_was_written_in_batches(account: int, mine: KommoClients) -> None:
    client = await mine.of(account)
    for batch in batches([{"name": f"lead {number}"} for number in range(130)]):
        await client.request("POST", "/leads", json=list(batch))
    pages = [embedded(page, "leads") async for page in client.pages("/leads", limit=50)]
    names = [item["name"] for page in pages for item in page if item["name"].startswith("lead ")]
    assert sorted(names) == sorted(f"lead {number}" for number in range(130))
    assert len(pages) >= 3


async def test_tokens_are_renewed_by_whoever_is_first(
    kommo: Running, account: int, mine: KommoClients, pool: Any
) -> None:
    await pool.execute("UPDATE kommo_agents.credentials SET expires_at = now() + interval '1 min'")
    clients = [mine.client(account) for _ in range(4)]
    await asyncio.gather(*(lead(client) for client in clients))
    assert len(kommo.ledger.of(account)) == 4
    assert await pool.fetchval("SELECT generation FROM kommo_agents.credentials") == 2


@pytest.mark.parametrize("lost", ["answers_lost", "resets_mid_answer", "malformed", "gateway_timeouts_after"])
async def test_a_lost_answer_to_a_refresh_costs_nothing(
    kommo: Running, account: int, mine: KommoClients, pool: Any, lost: str
) -> None:
    for round_ in range(3):
        await pool.execute("UPDATE kommo_agents.credentials SET expires_at = now()")
        kommo.mischief(read_mischief({lost: 1.0, "oauth": True, "most": 1}), account)
        client = mine.client(account)
        await lead(client, f"{round_}")
    assert len(kommo.ledger.of(account)) == 3


async def test_revoked_tokens_need_a_person(kommo: Running, account: int, mine: KommoClients, pool: Any) -> None:
    client = await mine.of(account)
    await lead(client)
    kommo.kommo.oauth.revoke(account)
    with pytest.raises(KommoError) as caught:
        await lead(client)
    assert (caught.value.error_class, caught.value.left) == (ErrorClass.AUTHENTICATION, False)
    assert await pool.fetchval("SELECT state FROM kommo_agents.credentials") == "needs_person"


HAPPENED = ["answers_lost", "resets_mid_answer", "malformed", "server_errors_after", "gateway_timeouts_after"]
NOT_HAPPENED = ["resets_before", "server_errors", "gateway_timeouts", "unavailable"]


@pytest.mark.parametrize("strike", HAPPENED + NOT_HAPPENED)
async def test_a_write_whose_outcome_is_not_known_is_sent_once(
    kommo: Running, account: int, mine: KommoClients, strike: str
) -> None:
    client = await mine.of(account)
    kommo.mischief(read_mischief({strike: 1.0, "methods": ["POST"]}), account)
    with pytest.raises(KommoError) as caught:
        await lead(client)
    assert (caught.value.error_class, caught.value.left) == (ErrorClass.EXTERNAL_SERVICE, True)
    assert len(kommo.ledger.of(account)) == (strike in HAPPENED)
    kommo.mischief(NO_MISCHIEF, account)
    await lead(client)
    assert len(kommo.ledger.of(account)) == (strike in HAPPENED) + 1


async def test_reads_get_through_a_bad_time(kommo: Running, account: int, mine: KommoClients) -> None:
    client = await mine.of(account)
    made = await lead(client)
    kommo.mischief(ApiMischief(server_errors=0.5, resets_before=0.5, most=2), account)
    assert (await client.request("GET", f"/leads/{made}")).status == 200


@pytest.mark.parametrize(
    ("rate", "json_429"), [(7, True), (14, True), (14, False)], ids=["Kommo's own", "twice of it", "told by a page"]
)
async def test_kommos_own_limit_is_kept(
    kommo_settings: Settings, pool: Any, account: int, rate: int, json_429: bool
) -> None:
    """At Kommo's rate no request is refused; with twice of it 429s are obeyed until all are done."""
    settings = kommo_settings.model_copy(update={"kommo_rate": rate})
    async with (
        simulated_kommo(limits=Limits(json_429=json_429)) as running,
        KommoClients(settings, pool, tls=NO_TLS) as clients,
    ):
        await clients.store.put(
            Credentials(account, running.base_url, Pair(SecretStr(running.token(account)), None), user_id=FIRST_USER)
        )
        client = await clients.of(account)
        await asyncio.gather(*(lead(client, str(number)) for number in range(14)))
        assert len(running.ledger.of(account)) == 14
        assert (running.kommo.answers["429"] > 0) == (rate > 7)
