from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import httpx
import orjson
import pytest

from simulator.api import NO_MISCHIEF, ApiMischief, MischiefError, Running, simulated_kommo
from simulator.api.mischief import SHARES, Troublemaker, read_mischief
from tests.support.waiting import eventually
from tests.unit.simulator.api.support import ACCOUNT, OTHER, UNLIMITED, client, kommo_and_client

LEAD = [{"name": "A"}]
DAMAGES = (httpx.ReadError, httpx.RemoteProtocolError)


async def post(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post("/leads", json=LEAD)


@pytest.mark.parametrize(
    ("mischief", "status", "is_json"),
    [
        ({"server_errors": 1.0}, 500, True),
        ({"unavailable": 1.0}, 503, False),
        ({"gateway_timeouts": 1.0}, 504, False),
        ({"unauthorized": 1.0}, 401, True),
        ({"unpaid": 1.0}, 402, True),
        ({"forbidden": 1.0}, 403, True),
        ({"too_many": 1.0}, 429, True),
        ({"too_many": 1.0, "too_many_json": False}, 429, False),
        ({"down": True}, 503, False),
        ({"blocked": True}, 403, False),
    ],
)
async def test_an_answer_instead_of_the_change(mischief: dict[str, Any], status: int, is_json: bool) -> None:
    async with kommo_and_client(mischief=ApiMischief(**mischief)) as (kommo, http):
        answer = await post(http)
        assert answer.status_code == status
        assert ("json" in answer.headers["content-type"]) is is_json
        if status == 500:
            assert set(answer.json()) == {"title", "trace_id"}
        if mischief.get("blocked"):
            assert answer.text == "403 Forbidden"
        assert not kommo.ledger.effects
        kommo.mischief(NO_MISCHIEF)
        assert (await post(http)).status_code == 200


@pytest.mark.parametrize(("name", "status"), [("server_errors_after", 500), ("gateway_timeouts_after", 504)])
async def test_an_error_after_the_change_was_made(name: str, status: int) -> None:
    async with kommo_and_client(mischief=ApiMischief(**{name: 1.0})) as (kommo, http):
        assert (await post(http)).status_code == status
        (effect,) = kommo.ledger.effects
    assert (effect.status, effect.delivered) == (status, True)


async def test_a_connection_is_reset_before_anything_is_done() -> None:
    async with kommo_and_client(mischief=ApiMischief(resets_before=1.0)) as (kommo, http):
        with pytest.raises(DAMAGES):
            await post(http)
        assert not kommo.ledger.effects
        assert kommo.kommo.answers == Counter({"reset": 1})


@pytest.mark.parametrize(("name", "status"), [("answers_lost", None), ("resets_mid_answer", 200)])
async def test_a_connection_is_reset_after_the_change_was_made(name: str, status: int | None) -> None:
    async with kommo_and_client(mischief=ApiMischief(**{name: 1.0})) as (kommo, http):
        with pytest.raises(DAMAGES):
            await post(http)
        (effect,) = kommo.ledger.effects
        assert (effect.status, effect.delivered) == (status, False)
        kommo.mischief(NO_MISCHIEF)
        assert [lead["id"] for lead in (await http.get("/leads")).json()["_embedded"]["leads"]] == [effect.id]


@pytest.mark.parametrize(("name", "effects"), [("hung_before", 0), ("hung_after", 1)])
async def test_a_request_hangs_longer_than_its_client_waits(name: str, effects: int) -> None:
    async with simulated_kommo(limits=UNLIMITED, mischief=ApiMischief(**{name: 1.0})) as kommo:
        async with client(kommo, read_seconds=0.5) as http:
            with pytest.raises(httpx.ReadTimeout):
                await post(http)
        assert [(effect.status, effect.delivered) for effect in kommo.ledger.effects] in (
            [],
            [(None, None)],
            [(None, False)],
        )
        assert len(kommo.ledger.effects) == effects


async def test_a_hanging_request_ends_by_a_reset_and_holds_up_no_end() -> None:
    async with kommo_and_client(mischief=ApiMischief(hung_after=1.0, hang_seconds=0.2)) as (kommo, http):
        began = time.monotonic()
        with pytest.raises(DAMAGES):
            await post(http)
        assert time.monotonic() - began >= 0.2
        assert kommo.ledger.effects[0].delivered is False
        kommo.mischief(ApiMischief(hung_before=1.0, hang_seconds=3600))
        waiting = asyncio.create_task(post(http))
        await eventually(lambda: kommo.kommo.trouble._strikes.get(ACCOUNT), what="it hangs")
        began = time.monotonic()
    assert time.monotonic() - began < 2.5
    with pytest.raises(httpx.HTTPError):
        await waiting


@pytest.mark.parametrize(("name", "body"), [("malformed", None), ("thin", {})])
async def test_an_answer_that_says_too_little(name: str, body: Any) -> None:
    async with kommo_and_client(mischief=ApiMischief(**{name: 1.0})) as (kommo, http):
        answer = await post(http)
        assert answer.status_code == 200
        if body is None:
            with pytest.raises(orjson.JSONDecodeError):
                orjson.loads(answer.content)
        else:
            assert answer.json() == body
        assert len(kommo.ledger.effects) == 1


async def test_answers_take_their_time() -> None:
    async with kommo_and_client(mischief=ApiMischief(latency=0.2, latency_spread=0.1)) as (_, http):
        took = []
        for _ in range(6):
            began = time.monotonic()
            assert (await http.get("/account")).status_code == 200
            took.append(time.monotonic() - began)
    assert min(took) >= 0.1
    assert max(took) - min(took) > 0.005


async def test_an_account_is_struck_and_others_are_not() -> None:
    async with kommo_and_client() as (kommo, http), client(kommo, OTHER) as other:
        kommo.mischief(ApiMischief(down=True), ACCOUNT)
        assert (await http.get("/account")).status_code == 503
        assert (await other.get("/account")).status_code == 200
        kommo.mischief(ApiMischief(unpaid=1.0))
        assert (await http.get("/account")).status_code == (await other.get("/account")).status_code == 402


async def test_only_some_methods_and_only_so_often() -> None:
    mischief = ApiMischief(server_errors=1.0, methods=("POST",), most=2)
    async with kommo_and_client(mischief=mischief) as (_, http):
        assert (await http.get("/account")).status_code == 200
        assert [(await post(http)).status_code for _ in range(4)] == [500, 500, 200, 200]


async def test_the_token_endpoint_is_struck_where_that_is_asked_for() -> None:
    async def exchange(kommo: Running) -> httpx.Response:
        own = kommo.integration
        body = {"client_id": own.client_id, "client_secret": own.client_secret, "redirect_uri": own.redirect_uri}
        body |= {"grant_type": "authorization_code", "code": kommo.code(ACCOUNT)}
        async with httpx.AsyncClient(verify=False) as http:
            return await http.post(f"{kommo.base_url}/oauth2/access_token", json=body)

    async with simulated_kommo(mischief=ApiMischief(answers_lost=1.0)) as kommo:
        assert (await exchange(kommo)).status_code == 200
        kommo.mischief(ApiMischief(answers_lost=1.0, oauth=True))
        with pytest.raises(DAMAGES):
            await exchange(kommo)
        kommo.mischief(ApiMischief(down=True))
        assert (await exchange(kommo)).status_code == 503


async def test_it_is_set_over_http() -> None:
    async with kommo_and_client() as (kommo, http):
        door = f"{kommo.base_url}/_simulator/mischief"
        told = (await http.put(door, params={"account": ACCOUNT}, json={"unavailable": 1})).json()
        assert told["accounts"][str(ACCOUNT)]["unavailable"] == 1
        assert (await http.get("/account")).status_code == 503
        wrong = await http.put(door, json={"unavailabel": 1})
        assert wrong.status_code == 400
        assert "unavailabel" in wrong.json()["detail"]
        assert (await http.put(door, json={})).status_code == 200
        assert (await http.get("/account")).status_code == 200
        counts = (await http.get(f"{kommo.base_url}/_simulator/counts")).json()
    assert counts["requests"] == {"503": 1, "200": 1}


def test_shares_come_true_and_the_seed_decides_by_account() -> None:
    def strikes(seed: int, account: int) -> list[str | None]:
        trouble = Troublemaker(seed)
        trouble.set(ApiMischief(server_errors=0.2, answers_lost=0.1))
        other = account + 1
        found = []
        for number in range(4000):
            found.append(trouble.strike(account, "POST"))
            if number % 3 == 0:
                trouble.strike(other, "POST")
        return found

    counts = Counter(strikes(1, ACCOUNT))
    assert counts["server_errors"] == pytest.approx(800, abs=100)
    assert counts["answers_lost"] == pytest.approx(400, abs=80)
    assert strikes(1, ACCOUNT) == strikes(1, ACCOUNT)
    assert strikes(1, ACCOUNT) != strikes(2, ACCOUNT)
    assert strikes(1, ACCOUNT) != strikes(1, OTHER)


@pytest.mark.parametrize(
    "told",
    [
        {"server_errors": 1.5},
        {"server_errors": -0.1},
        {"server_errors": 0.6, "answers_lost": 0.6},
        {"server_errors": "0.1"},
        {"server_errors": True},
        {"down": 1},
        {"latency": -1},
        {"methods": "POST"},
        {"most": -1},
        {"nonsense": 1},
        [],
    ],
)
def test_what_cannot_be_is_said(told: Any) -> None:
    with pytest.raises(MischiefError):
        read_mischief(told)


def test_every_kind_can_be_set() -> None:
    for name in SHARES:
        assert getattr(read_mischief({name: 0.5}), name) == 0.5
    assert read_mischief({"methods": ["post"], "most": None}) == ApiMischief(methods=("POST",))
