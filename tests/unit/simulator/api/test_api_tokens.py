from __future__ import annotations

from base64 import urlsafe_b64decode
from typing import Any

import httpx
import orjson
import pytest

from simulator.api import Running, simulated_kommo
from tests.unit.simulator.api.support import ACCOUNT, OTHER, UNLIMITED, client, kommo_and_client

DAY = 86_400


async def ask(kommo: Running, **body: Any) -> httpx.Response:
    own = kommo.integration
    known = {"client_id": own.client_id, "client_secret": own.client_secret, "redirect_uri": own.redirect_uri}
    async with httpx.AsyncClient(verify=False) as http:
        return await http.post(f"{kommo.base_url}/oauth2/access_token", json=known | body)


async def first(kommo: Running, account: int = ACCOUNT) -> dict[str, Any]:
    answer = await ask(kommo, grant_type="authorization_code", code=kommo.code(account))
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def refresh(kommo: Running, token: str) -> httpx.Response:
    return await ask(kommo, grant_type="refresh_token", refresh_token=token)


async def status(kommo: Running, token: str) -> int:
    async with client(kommo, token=token) as http:
        return (await http.get("/account")).status_code


def claims(token: str) -> dict[str, Any]:
    told = token.split(".")[1]
    found: dict[str, Any] = orjson.loads(urlsafe_b64decode(told + "=" * (-len(told) % 4)))
    return found


async def test_a_code_gives_a_pair_that_names_the_account() -> None:
    async with simulated_kommo() as kommo:
        pair = await first(kommo)
        assert (pair["token_type"], pair["expires_in"]) == ("Bearer", DAY)
        told = claims(pair["access_token"])
        assert (told["account_id"], told["sub"], told["exp"] - told["iat"]) == (ACCOUNT, "2852878", DAY)
        async with client(kommo, token=pair["access_token"]) as http:
            account = (await http.get("/account")).json()
        assert (account["id"], account["current_user_id"]) == (ACCOUNT, 2852878)


async def test_a_code_serves_once_and_for_twenty_minutes() -> None:
    async with simulated_kommo() as kommo:
        code, late = kommo.code(ACCOUNT), kommo.code(ACCOUNT)
        assert (await ask(kommo, grant_type="authorization_code", code=code)).status_code == 200
        again = await ask(kommo, grant_type="authorization_code", code=code)
        assert (again.status_code, again.json()["hint"]) == (400, "Authorization code has been revoked")
        kommo.kommo.clock.advance(20 * 60)
        expired = await ask(kommo, grant_type="authorization_code", code=late)
        assert (expired.status_code, expired.json()["hint"]) == (400, "Authorization code has expired")


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": "another"},
        {"client_secret": "another"},
        {"redirect_uri": "https://integration.example/other"},
        {"redirect_uri": None},
        {"grant_type": "password"},
        {"code": "no code"},
        {"code": None},
    ],
)
async def test_wrong_data_is_answered_400(wrong: dict[str, Any]) -> None:
    async with simulated_kommo() as kommo:
        known = {"grant_type": "authorization_code", "code": kommo.code(ACCOUNT)}
        answer = await ask(kommo, **{**known, **wrong})
        assert (answer.status_code, answer.json()["status"]) == (400, 400)
        assert (await ask(kommo, **known)).status_code == 200  # it was not spent


async def test_a_redirect_uri_must_match_on_a_refresh_too() -> None:
    async with simulated_kommo() as kommo:
        token = (await first(kommo))["refresh_token"]
        answer = await ask(kommo, grant_type="refresh_token", refresh_token=token, redirect_uri="https://x.example")
        assert answer.status_code == 400


async def test_an_access_token_ends_after_a_day_and_a_refresh_token_after_three_months() -> None:
    async with simulated_kommo() as kommo:
        pair = await first(kommo)
        kommo.kommo.clock.advance(DAY - 60)
        assert await status(kommo, pair["access_token"]) == 200
        kommo.kommo.clock.advance(61)
        assert await status(kommo, pair["access_token"]) == 401
        pair = (await refresh(kommo, pair["refresh_token"])).json()
        assert await status(kommo, pair["access_token"]) == 200
        kommo.kommo.clock.advance(90 * DAY)
        assert (await refresh(kommo, pair["refresh_token"])).status_code == 401


async def test_a_refresh_token_is_replaced_by_its_use() -> None:
    async with simulated_kommo() as kommo:
        old = await first(kommo)
        new = (await refresh(kommo, old["refresh_token"])).json()
        assert new["refresh_token"] != old["refresh_token"]
        assert await status(kommo, new["access_token"]) == 200  # the new pair is in use
        refused = await refresh(kommo, old["refresh_token"])
        assert (refused.status_code, refused.json()["hint"]) == (401, "Token has been revoked")
        assert (await refresh(kommo, new["refresh_token"])).status_code == 200


async def test_after_a_lost_answer_the_old_refresh_token_still_works() -> None:
    async with simulated_kommo() as kommo:
        old = await first(kommo)
        assert await status(kommo, old["access_token"]) == 200
        await refresh(kommo, old["refresh_token"])  # its answer is lost
        second = await refresh(kommo, old["refresh_token"])
        assert second.status_code == 200
        assert (await refresh(kommo, second.json()["refresh_token"])).status_code == 200
        assert (await refresh(kommo, old["refresh_token"])).status_code == 401


async def test_what_is_no_token_of_this_kommo_is_401() -> None:
    async with kommo_and_client() as (kommo, http):
        good = kommo.token(ACCOUNT)
        head, body, signature = good.split(".")
        stolen = ".".join((head, kommo.token(OTHER).split(".")[1], signature))
        for token in (stolen, f"{head}.{body}", "x", kommo.code(ACCOUNT)):
            async with client(kommo, token=token) as wrong:
                answer = await wrong.get("/account")
            assert answer.status_code == 401
            assert answer.json()["detail"] == "Invalid user name or password"
        bare = await http.get("/account", headers={"Authorization": ""})
        assert bare.status_code == 401


async def test_tokens_are_revoked_by_account() -> None:
    async with simulated_kommo() as kommo:
        pair, other = await first(kommo), kommo.token(OTHER)
        long_lived = kommo.token(ACCOUNT)
        kommo.kommo.oauth.revoke(ACCOUNT)
        assert await status(kommo, long_lived) == await status(kommo, pair["access_token"]) == 401
        assert (await refresh(kommo, pair["refresh_token"])).status_code == 401
        assert await status(kommo, other) == await status(kommo, kommo.token(ACCOUNT)) == 200


async def test_a_long_lived_token_ends_when_it_says() -> None:
    async with simulated_kommo() as kommo:
        token = kommo.token(ACCOUNT, seconds=3 * DAY)
        kommo.kommo.clock.advance(3 * DAY - 60)
        assert await status(kommo, token) == 200
        kommo.kommo.clock.advance(61)
        assert await status(kommo, token) == 401


async def test_tokens_outlive_a_restart_with_the_ledger(tmp_path: Any) -> None:
    file = tmp_path / "ledger"
    async with simulated_kommo(ledger=file, limits=UNLIMITED) as kommo:
        code = kommo.code(ACCOUNT)
        old = (await ask(kommo, grant_type="authorization_code", code=code)).json()
        new = (await refresh(kommo, old["refresh_token"])).json()
        assert await status(kommo, new["access_token"]) == 200
    async with simulated_kommo(ledger=file, limits=UNLIMITED) as kommo:
        assert (await ask(kommo, grant_type="authorization_code", code=code)).status_code == 400
        assert (await refresh(kommo, old["refresh_token"])).status_code == 401
        assert await status(kommo, new["access_token"]) == 200
        assert (await refresh(kommo, new["refresh_token"])).status_code == 200


async def test_the_simulators_own_door_gives_codes_and_tokens() -> None:
    async with simulated_kommo() as kommo, httpx.AsyncClient(base_url=f"{kommo.base_url}/_simulator") as http:
        token = (await http.post("/token", params={"account": OTHER})).json()["token"]
        assert claims(token)["account_id"] == OTHER
        assert await status(kommo, token) == 200
        told = (await http.post("/code", params={"account": OTHER})).json()
        assert (await ask(kommo, grant_type="authorization_code", **told)).status_code == 200
        await http.post("/revoke", params={"account": OTHER})
        assert await status(kommo, token) == 401
        assert (await http.post("/token")).status_code == 400
        before = kommo.kommo.clock.now()
        now = (await http.put("/clock", json={"advance": DAY})).json()["now"]
        assert now >= before + DAY
