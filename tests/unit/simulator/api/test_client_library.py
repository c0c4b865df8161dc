"""A client that others wrote for the real Kommo works against the simulated one: aioamocrm, from PyPI."""

from __future__ import annotations

import asyncio
import time

import aioamocrm
import httpx
import pytest

from simulator.api import ApiMischief, Limits, Running, simulated_kommo
from tests.unit.simulator.api.support import ACCOUNT, UNLIMITED


def library(kommo: Running, auth: aioamocrm.Auth | None = None, **settings: object) -> aioamocrm.AmoCRMClient:
    return aioamocrm.AmoCRMClient(
        base_url=kommo.base_url,
        auth=auth or aioamocrm.LongLivedToken(kommo.token(ACCOUNT)),
        **{"rate_limit": None, "retry": aioamocrm.RetryPolicy(backoff_base=0.01), **settings},  # type: ignore[arg-type]
    )


def oauth(kommo: Running) -> aioamocrm.OAuth2:
    own = kommo.integration
    return aioamocrm.OAuth2(own.client_id, own.client_secret, own.redirect_uri, clock=kommo.kommo.clock.now)


async def test_its_oauth_exchanges_refreshes_and_is_refused() -> None:
    async with simulated_kommo(limits=UNLIMITED) as kommo, library(kommo, oauth(kommo)) as amo:
        first = await amo.exchange_code(kommo.code(ACCOUNT))
        assert (await amo.account.get()).id == ACCOUNT
        kommo.kommo.clock.advance(86_401)  # it refreshes by itself
        assert (await amo.account.get()).id == ACCOUNT
        assert isinstance(amo.auth, aioamocrm.OAuth2)
        second = await amo.auth.storage.load()
        assert second is not None
        assert second.access_token != first.access_token
        kommo.kommo.oauth.revoke(ACCOUNT)
        with pytest.raises(aioamocrm.AuthError, match="revoked"):
            await amo.account.get()
        with pytest.raises(aioamocrm.AuthError):
            await amo.exchange_code("none")


async def test_it_writes_and_reads_every_entity() -> None:
    async with simulated_kommo(limits=UNLIMITED) as kommo, library(kommo) as amo:
        contact = aioamocrm.Contact(name="Ada")
        contact.set_field("PHONE", "+12025550101", enum_code="WORK")
        lead = aioamocrm.Lead(name="Deal", price=100, embedded=aioamocrm.Embedded(contacts=[contact]))
        (made,) = await amo.leads.create_complex([lead])
        assert made.id is not None
        assert made.contact_id is not None
        found = await amo.leads.get(made.id, with_=["contacts"])
        assert (found.name, found.price, found.embedded.contacts[0].id) == ("Deal", 100, made.contact_id)
        ada = await amo.contacts.get(made.contact_id)
        assert ada.field_value("PHONE", enum_code="WORK") == "+12025550101"
        await amo.leads.update([aioamocrm.Lead(id=made.id, status_id=142)])
        assert (await amo.leads.get(made.id)).status_id == 142
        (company,) = await amo.companies.create([aioamocrm.Company(name="Apex")])
        assert company.id is not None
        await amo.leads.link(made.id, "companies", company.id)
        assert {link.to_entity_type for link in await amo.leads.links(made.id)} == {"contacts", "companies"}
        await amo.leads.unlink(made.id, "companies", company.id)
        assert len(await amo.leads.links(made.id)) == 1

        till = int(time.time()) + 3600
        task = aioamocrm.Task(text="Call", complete_till=till, entity_id=made.id, entity_type="leads")
        (ref,) = await amo.tasks.create([task])
        assert ref.id is not None
        await amo.tasks.complete(ref.id, result="Done")
        done = await amo.tasks.get(ref.id)
        assert done.is_completed
        assert done.result is not None
        assert done.result.text == "Done"

        (note,) = await amo.leads.notes.create([aioamocrm.Note.common(made.id, "Hello")])
        assert note.id is not None
        assert (await amo.leads.notes.get(note.id, entity_id=made.id)).text == "Hello"
        assert [one.text async for one in amo.leads.notes.iterate(entity_id=made.id)] == ["Hello"]
        kinds = [effect.kind for effect in kommo.ledger.of(verb="created")]
        assert kinds == ["contact", "lead", "company", "task", "note"]


async def test_it_pages_to_the_end_and_reads_the_set_up() -> None:
    async with simulated_kommo(limits=UNLIMITED) as kommo, library(kommo) as amo:
        refs = await amo.leads.create([aioamocrm.Lead(name=f"{number}") for number in range(120)])
        assert len(refs) == 120
        found = [lead.id async for lead in amo.leads.iterate(limit=50, filter={"created_by": [2852878]})]
        assert found == [ref.id for ref in refs]
        assert [lead async for lead in amo.leads.iterate(filter={"id": [1]})] == []
        page = await amo.leads.get_page(3, limit=50)
        assert (len(page), page.has_next) == (20, False)
        assert [status.id for status in (await amo.pipelines.list())[0].statuses][-2:] == [142, 143]
        assert len([user async for user in amo.users.iterate()]) == 5
        fields = [field async for field in amo.contacts.custom_fields.iterate()]
        assert next(field for field in fields if field.code == "PHONE").enum_id("MOB") == 552480


async def test_it_understands_the_errors() -> None:
    async with simulated_kommo(limits=UNLIMITED) as kommo, library(kommo) as amo:
        with pytest.raises(aioamocrm.ValidationError) as wrong:
            await amo.leads.create([{"custom_fields_values": [{"field_id": 1, "values": [{"value": "x"}]}]}])
        (issue,) = wrong.value.errors
        assert (issue.request_id, issue.code) == ("0", "NotSupportedChoice")
        assert issue.path == "custom_fields_values.0.field_id"
        with pytest.raises(aioamocrm.NotFoundError):
            await amo.leads.get(5)
        for mischief, expected in (
            (ApiMischief(unpaid=1.0), aioamocrm.PaymentRequiredError),
            (ApiMischief(blocked=True), aioamocrm.ForbiddenError),
            (ApiMischief(unauthorized=1.0), aioamocrm.AuthError),
            (ApiMischief(gateway_timeouts=1.0), aioamocrm.ServerError),
            (ApiMischief(answers_lost=1.0), aioamocrm.NetworkError),
        ):
            kommo.mischief(mischief)
            with pytest.raises(expected):
                await amo.leads.create([aioamocrm.Lead(name="A")])
        kommo.mischief(ApiMischief(server_errors=1.0, most=2))
        assert (await amo.account.get()).id == ACCOUNT  # reads it tries again
        assert len(kommo.ledger.effects) == 1  # of the lost answer


async def test_its_own_limiter_keeps_within_the_limit_and_without_it_meets_429() -> None:
    async with simulated_kommo() as kommo:
        async with library(kommo, rate_limit=5.0) as amo:
            await asyncio.gather(*(amo.account.get() for _ in range(12)))
        assert kommo.kommo.answers == {"200": 12}
    async with simulated_kommo(limits=Limits(rate=0.1)) as kommo, library(kommo) as amo:
        await amo.leads.create([aioamocrm.Lead(name="A")])
        with pytest.raises(aioamocrm.RateLimitError):
            await amo.leads.create([aioamocrm.Lead(name="B")])


async def test_a_path_that_is_not_there_is_a_problem_too() -> None:
    async with simulated_kommo() as kommo, httpx.AsyncClient() as http:
        answer = await http.get(f"{kommo.base_url}/")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
