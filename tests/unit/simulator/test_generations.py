"""Bodies of other years have the fields, the order and the account block of bodies captured then."""

from __future__ import annotations

from functools import cache
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

import pytest

from schemas.decoder import decode
from schemas.delivery import Delivery
from schemas.event import Event
from schemas.form import parse_form
from simulator.company import SimulatedDelivery, deliveries
from simulator.generations import GENERATIONS
from tests.support import CORPUS

ACCOUNT = 16700680
START = 1_770_000_000


@cache
def some(year: int) -> tuple[SimulatedDelivery, ...]:
    return tuple(islice(deliveries(1, ACCOUNT, START, years=[year]), 2500))


def shape(body: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields of the item, and where the account block is."""
    form = parse_form(body)
    entity = next(key for key in form if key != "account")
    item: dict[str, Any] = next(iter(form[entity].values()))["0"]
    return (*item, *(f"note.{name}" for name in item.get("note", ()))), tuple(
        "account" if key == "account" else "entity" for key in form
    )


CAPTURED = [
    (2016, "001-leads-add"),
    (2016, "003-leads-status"),
    (2016, "005-contacts-add"),
    (2016, "006-contacts-add-company"),
    (2016, "007-contacts-restore"),
    (2016, "008-contacts-delete-company"),
    (2016, "010-leads-add"),
    (2017, "018-leads-add"),
    (2017, "019-leads-update"),
    (2017, "020-leads-delete"),
    (2017, "021-leads-status"),
    (2017, "022-leads-note"),
    (2017, "024-contacts-update"),
    (2017, "025-contacts-delete"),
    (2017, "026-contacts-note"),
    (2017, "030-contacts-note-company"),
    (2023, "034-leads-status"),
    (2026, "031-leads-add"),
    (2026, "033-leads-delete"),
    # The examples of Kommo's page of 2024 leave the account out.
    (2023, "068-message-add"),
    (2026, "041-unsorted-add-forms"),
    (2026, "043-unsorted-delete-accept"),
    (2026, "065-catalogs-add"),
    (2026, "066-catalogs-update"),
    (2026, "067-catalogs-delete"),
    (2026, "069-talk-add"),
    (2026, "070-talk-update-read"),
]


def without_fields_that_come_and_go(found: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in found if name not in ("custom_fields", "tags", "linked_leads_id"))


@pytest.mark.parametrize(("year", "name"), CAPTURED)
def test_a_body_has_the_shape_of_one_captured_then(year: int, name: str) -> None:
    body = (CORPUS / f"{name}.form").read_bytes()
    fields, order = shape(body)
    form = parse_form(body)
    entity = next(key for key in form if key != "account")
    found = {
        (without_fields_that_come_and_go(shape(delivery.body)[0]), shape(delivery.body)[1])
        for delivery in some(year)
        if delivery.entity == entity and delivery.action in form[entity]
    }
    if "account" not in form:
        order = ("account", "entity") if GENERATIONS[year].account_first else ("entity", "account")
    assert (without_fields_that_come_and_go(fields), order) in found


@pytest.mark.parametrize(
    ("year", "account", "agent"),
    [
        (2016, {"subdomain"}, "amoCRM-WebHook-client/1.0"),
        (2017, {"subdomain"}, "amoCRM-WebHook-client/2.0"),
        (2018, {"subdomain"}, "amoCRM-WebHook-client/2.0"),
        (2020, {"subdomain", "id", "_links"}, "amoCRM-WebHook-client/2.0"),
        (2023, {"subdomain", "id", "_links"}, "amoCRM-Webhooks/3.0"),
        (2026, {"subdomain", "id", "_links"}, "amoCRM-Webhooks/3.0"),
    ],
)
def test_the_account_block_and_the_user_agent_are_those_of_the_year(year: int, account: set[str], agent: str) -> None:
    for delivery in some(year):
        stage_hook = delivery.facts[0].type == "kommo.digital_pipeline.triggered"
        assert set(parse_form(delivery.body)["account"]) == ({"id", "subdomain"} if stage_hook else account)
        assert delivery.headers["User-Agent"] == agent


def test_notes_of_2017_have_literal_quotes_around_texts() -> None:
    notes = [parse_qsl(delivery.body.decode()) for delivery in some(2017) if delivery.action == "note"]
    for pairs in notes:
        texts = [value for key, value in pairs if key.endswith(("[text]", "[attachement]", "[date_create]"))]
        assert len(texts) == 3 or ("''" in texts)
        assert all(text[0] == text[-1] == "'" for text in texts)
    assert len(notes) > 100


@cache
def told(year: int) -> list[tuple[str, str, float, Any]]:
    found = []
    for delivery in some(year)[:1000]:
        decoded = decode(Delivery(ACCOUNT, "d", delivery.at * 1_000_000, delivery.body))
        assert decoded.rejections == []
        for encoded in decoded.events:
            event = Event.from_json(encoded.value)
            found.append((event.type, event.subject, event.time.timestamp(), event.data.get("changes")))
    return found


@pytest.mark.parametrize("year", [year for year in GENERATIONS if year != 2026])
def test_what_the_same_company_does_is_the_same_in_every_format(year: int) -> None:
    assert told(year) == told(2026)


def test_a_year_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1999\] is not known: choose of 2016"):
        deliveries(1, ACCOUNT, START, years=[1999])
