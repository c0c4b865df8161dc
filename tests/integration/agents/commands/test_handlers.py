"""Each action against a Kommo that answers over HTTP: what is sent has its effect once, and a look finds it, or not."""

from __future__ import annotations

import datetime as dt
import itertools
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from tenacity import wait_fixed

from agents.commands.admitted import Claimed, Dependency
from agents.commands.carrying import carry_out
from agents.commands.handlers import HANDLERS, Attempt, DependencyFailed, Open
from agents.commands.leases import LeaseLost
from agents.commands.outcomes import Failed, Retried, Succeeded, Unknown
from agents.kommo import client
from agents.kommo.client import Kommo
from agents.kommo.clients import KommoClients
from agents.kommo.credentials import Credentials, Pair
from agents.kommo.problems import KommoError
from agents.mail import MailError
from agents.retry import Policies
from runtime.postgres import open_pool
from runtime.settings import Settings
from schemas.actions import (
    Action,
    AddNote,
    CreateCallNote,
    CreateContact,
    CreateLead,
    CreateMeetingNote,
    CreateTask,
    CustomField,
    FieldValue,
    MailAddress,
    NewContact,
    PhoneNumber,
    SendEmail,
    UpdateContact,
    UpdateLead,
)
from schemas.command import Command
from schemas.errors import ErrorClass
from simulator.api import ApiMischief, Effect, Limits, Running, simulated_kommo
from simulator.api.catalogue import FIRST_USER, STAGES
from simulator.world import USER_NAMES
from tests.support.actions import CREATES, MAIL, NOON, NOON_UNIX, UPDATES, Make
from tests.support.databases import new_database
from tests.support.installation import TOKEN_KEYS
from tests.support.servers import Servers

SECOND_USER = list(USER_NAMES)[1]
MAIN, SECOND = STAGES
HOUR = 3600

Json = dict[str, Any]

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Outbox:
    """A mailer that keeps what it is given, or fails."""

    def __init__(self) -> None:
        self.sent: list[tuple[SendEmail, str]] = []
        self.fails: Exception | None = None

    async def send(self, mail: SendEmail, *, message_id: str, before_send: Callable[[], Awaitable[None]]) -> None:
        await before_send()
        if self.fails is not None:
            raise self.fails
        self.sent.append((mail, message_id))


@dataclass
class World:
    """A simulated Kommo, our client of one account of it, and the raw client of another user there.

    `hasty` is a client of the same account that does not wait long for an answer.
    """

    running: Running
    account: int
    api: Kommo
    hasty: Kommo
    http: httpx.AsyncClient
    lead: int = 0
    contact: int = 0
    company: int = 0
    saved: list[Json] = field(default_factory=list)
    mailer: Outbox = field(default_factory=Outbox)

    def attempt(
        self,
        action: Action,
        *,
        command_id: str | None = None,
        doubt: dt.datetime | None = None,
        others: set[int] | None = None,
        last_update: int = 0,
        progress: Json | None = None,
        after: dict[str, int] | None = None,
        after_state: str = "succeeded",
        certain: Callable[[], None] = lambda: None,
        hasty: bool = False,
    ) -> Attempt:
        now = dt.datetime.now(dt.UTC)
        other = str(uuid.uuid4())
        command = Command.make(
            action, account_id=self.account, command_id=command_id, after=None if after is None else other
        )
        claimed = Claimed(
            command=command,
            epoch=1,
            attempts=1,
            progress=progress or {},
            doubt=doubt,
            admitted_at=now,
            claimed_at=now,
            expires_at=now + dt.timedelta(days=1),
            partition=0,
            offset=0,
            last_error_class=None,
            dependency=None if after is None else Dependency(other, after_state, after),
        )

        async def told(_kind: str) -> set[int]:
            return others or set()

        async def moved(_kind: str, _entity_id: int) -> int:
            return last_update

        async def save(progress: Json) -> None:
            self.saved.append(progress)

        return Attempt(claimed, self.hasty if hasty else self.api, self.mailer, certain, told, moved, save)

    async def send(self, action: Action, **told: Any) -> Succeeded:
        attempt = self.attempt(action, **told)
        return await HANDLERS[attempt.claimed.command.name].send(attempt)

    async def look(self, action: Action, **told: Any) -> Succeeded | Open | None:
        attempt = self.attempt(action, **{"doubt": dt.datetime.now(dt.UTC), **told})
        return await HANDLERS[attempt.claimed.command.name].look(attempt)

    def made(self, kind: str | None = None, verb: Literal["created", "updated"] | None = None) -> list[Effect]:
        """The effects of our own user."""
        return [effect for effect in self.running.ledger.of(self.account, kind, verb) if effect.user == FIRST_USER]

    def state(self, kind: str, identifier: int) -> Json:
        return self.running.kommo.accounts.of(self.account).entities[kind][identifier]

    async def post(self, path: str, *items: Json, user: int = SECOND_USER) -> list[int]:
        """Make something as some user, not by a command."""
        token = self.running.token(self.account, user)
        answer = await self.http.post(path, json=list(items), headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        found = told if isinstance(told, list) else next(iter(told["_embedded"].values()))
        return [item["id"] for item in found]

    async def patch(self, path: str, body: Json) -> None:
        token = self.running.token(self.account, SECOND_USER)
        answer = await self.http.patch(path, json=body, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200, answer.text

    def trouble(self, mischief: ApiMischief) -> None:
        self.running.mischief(mischief, self.account)

    def age(self, kind: str, identifier: int, seconds: int = HOUR) -> None:
        """Let it be as if an entity had not been touched for so long."""
        self.state(kind, identifier)["updated_at"] -= seconds


@dataclass
class Town:
    """A simulated Kommo and our clients of it, for all tests of this file."""

    running: Running
    clients: KommoClients
    hasty: KommoClients
    http: httpx.AsyncClient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(shared_servers: Servers) -> AsyncIterator[Town]:
    async with new_database(shared_servers, "agents") as url:
        settings = Settings(database_url=SecretStr(url), token_keys=SecretStr(TOKEN_KEYS), kommo_rate=10_000)
        pool = await open_pool(settings, application="tests")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # all speak plain HTTP: no certificates are loaded
        impatient = settings.model_copy(update={"kommo_timeout_seconds": 0.25})
        try:
            async with (
                simulated_kommo(limits=Limits(rate=None)) as running,
                KommoClients(settings, pool, tls=tls) as clients,
                KommoClients(impatient, pool, tls=tls) as hasty,
                httpx.AsyncClient(
                    base_url=f"{running.base_url}/api/v4", transport=httpx.AsyncHTTPTransport(verify=False)
                ) as http,
            ):
                yield Town(running, clients, hasty, http)
        finally:
            await pool.close()


_ACCOUNTS = itertools.count(16700680)


@pytest_asyncio.fixture(loop_scope="module")
async def world(town: Town, monkeypatch: pytest.MonkeyPatch) -> World:
    """An account that no other test uses."""
    monkeypatch.setattr(client, "_BACKOFF", wait_fixed(0.01))
    account = next(_ACCOUNTS)
    pair = Pair(SecretStr(town.running.token(account)), dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
    await town.clients.store.put(Credentials(account, town.running.base_url, pair, user_id=FIRST_USER))
    made = World(town.running, account, town.clients.client(account), town.hasty.client(account), town.http)
    [made.contact] = await made.post("/contacts", {"name": "Old contact"})
    [made.company] = await made.post("/companies", {"name": "Old company"})
    [made.lead] = await made.post("/leads", {"name": "Old lead"})
    for kind, identifier in (("leads", made.lead), ("contacts", made.contact)):
        made.age(kind, identifier)
        made.state(kind, identifier)["created_at"] -= 2 * HOUR
    return made


KINDS = {"lead": "leads", "contact": "contacts", "task": "tasks", "note": "notes"}


# The effect


async def test_a_lead_is_made_as_it_was_asked_for(world: World) -> None:
    action = CreateLead(
        name="Kitchen",
        price=1500,
        status_id=STAGES[SECOND][1],
        pipeline_id=SECOND,
        responsible_user_id=SECOND_USER,
        tags=["web", "new"],
        contact_id=world.contact,
        custom_fields=[
            CustomField(field_id=467289, values=[FieldValue(enum_id=917603)]),
            CustomField(field_id=1246495, values=[FieldValue(value="Support 24/7"), FieldValue(enum_id=908107)]),
            CustomField(field_code="UTM_SOURCE", values=[FieldValue(value="google")]),
            CustomField(field_id=1246491, values=[FieldValue(value=NOON_UNIX)]),
            CustomField(field_id=1246485, values=[FieldValue(value=12.5)]),
            CustomField(field_id=1246487, values=[FieldValue(value=True)]),
        ],
    )
    ended = await world.send(action)
    [effect] = world.made()
    assert (effect.method, effect.path, effect.kind, effect.verb) == ("POST", "/api/v4/leads", "lead", "created")
    lead = world.state("leads", effect.id)
    assert ended == Succeeded({"lead": effect.id, "contact": world.contact}, lead["updated_at"])
    assert (lead["name"], lead["price"], lead["pipeline_id"]) == ("Kitchen", 1500, SECOND)
    assert (lead["status_id"], lead["responsible_user_id"]) == (STAGES[SECOND][1], SECOND_USER)
    assert [tag["name"] for tag in lead["_tags"]] == ["web", "new"]
    assert lead["_contacts"] == [{"id": world.contact, "is_main": True}]
    fields = {one["field_id"]: [value["value"] for value in one["values"]] for one in lead["custom_fields_values"]}
    assert fields == {
        467289: ["Google Ads"],
        1246495: ["Support 24/7", "Basic"],
        771910: ["google"],
        1246491: [NOON_UNIX],
        1246485: ["12.5"],
        1246487: [True],
    }


async def test_a_lead_and_its_contact_are_one_request(world: World) -> None:
    action = CreateLead(
        name="Kitchen",
        tags=["web"],
        contact=NewContact(
            first_name="Ana",
            last_name="Ruiz",
            phones=[PhoneNumber(value="+34600000000", kind="MOB"), PhoneNumber(value="600")],
            emails=[MailAddress(value="ana@example.com")],
            custom_fields=[CustomField(field_code="POSITION", values=[FieldValue(value="CEO")])],
            tags=["vip"],
        ),
    )
    ended = await world.send(action)
    contact_made, lead_made = world.made()
    assert {effect.path for effect in world.made()} == {"/api/v4/leads/complex"}
    assert contact_made.request == lead_made.request
    assert (contact_made.kind, lead_made.kind) == ("contact", "lead")
    assert ended.entities == {"lead": lead_made.id, "contact": contact_made.id}
    lead, contact = world.state("leads", lead_made.id), world.state("contacts", contact_made.id)
    assert lead["_contacts"] == [{"id": contact["id"], "is_main": True}]
    assert [tag["name"] for tag in (*lead["_tags"], *contact["_tags"])] == ["web", "vip"]
    assert (contact["name"], contact["first_name"], contact["last_name"]) == ("Ana Ruiz", "Ana", "Ruiz")
    fields = {one["field_code"]: one["values"] for one in contact["custom_fields_values"]}
    assert [(value["value"], value["enum_code"]) for value in fields["PHONE"]] == [
        ("+34600000000", "MOB"),
        ("600", "WORK"),
    ]
    assert [(value["value"], value["enum_code"]) for value in fields["EMAIL"]] == [("ana@example.com", "WORK")]
    assert [value["value"] for value in fields["POSITION"]] == ["CEO"]


async def test_a_lead_is_changed_in_what_was_named_only(world: World) -> None:
    fields = [
        {"field_id": 1246499, "values": [{"value": "old"}]},
        {"field_id": 1246483, "values": [{"value": "stays"}]},
        {"field_code": "UTM_TERM", "values": [{"value": "goes"}]},
    ]
    await world.patch(f"/leads/{world.lead}", {"price": 5, "custom_fields_values": fields})
    ended = await world.send(
        UpdateLead(
            lead_id=world.lead,
            name="New",
            status_id=142,
            loss_reason_id=7,
            tags_to_add=["won"],
            tags_to_delete=["web"],
            custom_fields=[
                CustomField(field_id=1246499, values=[FieldValue(value="new")]),
                CustomField(field_code="UTM_TERM", values=[]),
            ],
        )
    )
    [effect] = world.made()
    assert (effect.method, effect.path, effect.verb) == ("PATCH", f"/api/v4/leads/{world.lead}", "updated")
    lead = world.state("leads", world.lead)
    assert ended == Succeeded({"lead": world.lead}, lead["updated_at"])
    assert (lead["name"], lead["price"], lead["status_id"], lead["pipeline_id"]) == ("New", 5, 142, MAIN)
    kept = {one["field_id"]: one["values"][0]["value"] for one in lead["custom_fields_values"]}
    assert kept == {1246499: "new", 1246483: "stays"}
    assert effect.item["tags_to_add"] == [{"name": "won"}]
    assert effect.item["tags_to_delete"] == [{"name": "web"}]
    assert effect.item["loss_reason_id"] == 7


async def test_a_contact_is_made_and_changed(world: World) -> None:
    ended = await world.send(
        CreateContact(
            name="Ana Ruiz",
            phones=[PhoneNumber(value="600", kind="HOME")],
            emails=[MailAddress(value="ana@example.com", kind="PRIV")],
            tags=["vip", "old"],
        )
    )
    identifier = ended.entities["contact"]
    contact = world.state("contacts", identifier)
    fields = {one["field_code"]: one["values"][0] for one in contact["custom_fields_values"]}
    assert (fields["PHONE"]["value"], fields["PHONE"]["enum_code"]) == ("600", "HOME")
    assert (fields["EMAIL"]["value"], fields["EMAIL"]["enum_code"]) == ("ana@example.com", "PRIV")

    await world.send(UpdateContact(contact_id=identifier, phones=[PhoneNumber(value="601")], tags=["new"]))
    contact = world.state("contacts", identifier)
    fields = {one["field_code"]: [value["value"] for value in one["values"]] for one in contact["custom_fields_values"]}
    assert fields == {"PHONE": ["601"], "EMAIL": ["ana@example.com"]}
    assert ([tag["name"] for tag in contact["_tags"]], contact["name"]) == (["new"], "Ana Ruiz")

    await world.send(UpdateContact(contact_id=identifier, phones=[], emails=[], tags=[], first_name="Eva"))
    contact = world.state("contacts", identifier)
    assert (contact["custom_fields_values"], contact["_tags"], contact["first_name"]) == (None, [], "Eva")
    assert [effect.verb for effect in world.made("contact")] == ["created", "updated", "updated"]


async def test_a_task_has_its_deadline_in_seconds(world: World) -> None:
    action = CreateTask(
        text="Call back",
        complete_till=NOON,
        entity_type="contact",
        entity_id=world.contact,
        responsible_user_id=SECOND_USER,
        duration_seconds=1800,
    )
    ended = await world.send(action)
    [effect] = world.made()
    task = world.state("tasks", effect.id)
    assert ended == Succeeded({"task": effect.id}, task["updated_at"])
    assert (task["text"], task["complete_till"], task["task_type_id"]) == ("Call back", NOON_UNIX, 1)
    assert (task["entity_type"], task["entity_id"], task["duration"]) == ("contacts", world.contact, 1800)
    assert (task["responsible_user_id"], task["is_completed"]) == (SECOND_USER, False)
    alone = await world.send(CreateTask(text="Think", complete_till=NOON))
    assert world.state("tasks", alone.entities["task"])["entity_id"] is None


async def test_a_meeting_that_was_is_done_with_its_result_in_one_request(world: World) -> None:
    action = CreateMeetingNote(
        entity_type="lead",
        entity_id=world.lead,
        text="Office",
        at=NOON,
        duration_seconds=60,
        done=True,
        result="signed",
    )
    ended = await world.send(action)
    [effect] = world.made()
    task = world.state("tasks", effect.id)
    assert ended.entities == {"task": effect.id}
    assert (task["task_type_id"], task["is_completed"], task["result"]) == (2, True, {"text": "signed"})
    assert (task["complete_till"], task["duration"], task["entity_type"]) == (NOON_UNIX, 60, "leads")
    coming = await world.send(CreateMeetingNote(entity_type="lead", entity_id=world.lead, text="Office", at=NOON))
    assert world.state("tasks", coming.entities["task"])["is_completed"] is False


@pytest.mark.parametrize("kind", ["lead", "contact", "company"])
async def test_a_note_is_put_on_what_it_is_of(world: World, kind: Literal["lead", "contact", "company"]) -> None:
    identifier = getattr(world, kind)
    ended = await world.send(AddNote(entity_type=kind, entity_id=identifier, text="Ждёт «ответ» 😀\nsoon"))
    [effect] = world.made()
    note = world.state("notes", effect.id)
    assert ended == Succeeded({kind: identifier, "note": effect.id}, note["updated_at"])
    assert (note["entity_id"], note["note_type"]) == (identifier, "common")
    assert note["params"] == {"text": "Ждёт «ответ» 😀\nsoon"}


async def test_a_call_has_what_kommo_needs_to_show_it(world: World) -> None:
    action = CreateCallNote(
        entity_type="contact",
        entity_id=world.contact,
        direction="in",
        phone="+34600000000",
        duration_seconds=61,
        link="https://example.com/1.mp3",
        result="wants it",
        status="conversation",
        responsible_user_id=SECOND_USER,
    )
    command_id = str(uuid.uuid4())
    ended = await world.send(action, command_id=command_id)
    note = world.state("notes", ended.entities["note"])
    assert (note["note_type"], note["responsible_user_id"]) == ("call_in", SECOND_USER)
    assert note["params"] == {
        "uniq": command_id,
        "duration": 61,
        "source": "kommo-streams",
        "phone": "+34600000000",
        "link": "https://example.com/1.mp3",
        "call_result": "wants it",
        "call_status": 4,
    }
    out = await world.send(action.model_copy(update={"direction": "out", "uniq": "call-7"}))
    note = world.state("notes", out.entities["note"])
    assert (note["note_type"], note["params"]["uniq"]) == ("call_out", "call-7")


async def test_a_mail_is_sent_and_noted(world: World) -> None:
    action, command_id = MAIL["send_email"](world), str(uuid.uuid4())
    ended = await world.send(action, command_id=command_id)
    assert world.mailer.sent == [(action, f"<{command_id}@kommo-streams>")]
    assert world.saved == [{"mailed": True}]
    note = world.state("notes", ended.entities["note"])
    assert note["params"]["text"] == "Mail to ana@example.com, b@example.com: Offer\n\nHi"
    # What is done is not done again.
    await world.send(action, progress={"mailed": True})
    assert len(world.mailer.sent) == 1
    assert len(world.made("note")) == 2


async def test_an_id_can_be_that_of_what_another_command_made(world: World) -> None:
    lead = await world.send(CreateLead(name="X", contact_id="after"), after={"contact": world.contact})
    assert lead.entities["contact"] == world.contact
    made = lead.entities["lead"]
    await world.send(UpdateLead(lead_id="after", price=5), after={"lead": made})
    assert world.state("leads", made)["price"] == 5
    note = await world.send(AddNote(entity_type="lead", entity_id="after", text="x"), after={"lead": made})
    assert world.state("notes", note.entities["note"])["entity_id"] == made
    task = CreateTask(text="x", complete_till=NOON, entity_type="contact", entity_id="after")
    done = await world.send(task, after={"contact": world.contact})
    assert world.state("tasks", done.entities["task"])["entity_id"] == world.contact
    before = len(world.made())
    for action in (UpdateLead(lead_id="after", price=5), AddNote(entity_type="company", entity_id="after", text="x")):
        with pytest.raises(DependencyFailed):
            await world.send(action, after={"contact": world.contact})
        ended = await carry_out(world.attempt(action, after={"contact": world.contact}), Policies())
        assert isinstance(ended, Failed)
        assert ended.error_class is ErrorClass.NOT_FOUND
    assert len(world.made()) == before


@pytest.mark.parametrize(
    ("make", "error_class"),
    [
        (lambda _: CreateLead(custom_fields=[CustomField(field_id=1, values=[FieldValue(value="x")])]), "validation"),
        (lambda _: CreateLead(contact_id=5), "validation"),
        (lambda _: UpdateLead(lead_id=5, price=1), "not_found"),
        (lambda _: AddNote(entity_type="lead", entity_id=5, text="x"), "validation"),
    ],
)
async def test_what_kommo_refuses_has_certainly_not_happened(world: World, make: Make, error_class: str) -> None:
    attempt = world.attempt(make(world))
    with pytest.raises(KommoError) as caught:
        await HANDLERS[attempt.claimed.command.name].send(attempt)
    assert (caught.value.error_class, caught.value.left) == (error_class, False)
    ended = await carry_out(world.attempt(make(world)), Policies())
    assert ended == Failed(ErrorClass(error_class), f"KommoError: {caught.value}")
    assert world.made() == []


@pytest.mark.parametrize("name", [*CREATES, *UPDATES, *MAIL])
async def test_without_the_right_to_send_nothing_leaves(world: World, name: str) -> None:
    def lost() -> None:
        raise LeaseLost("another has it")

    attempt = world.attempt((CREATES | UPDATES | MAIL)[name](world), certain=lost)
    with pytest.raises(LeaseLost):
        await HANDLERS[attempt.claimed.command.name].send(attempt)
    assert not attempt.written
    assert (world.made(), world.mailer.sent) == ([], [])


# The answer is lost

HAPPENED = {
    "answers_lost": ApiMischief(answers_lost=1, methods=("POST", "PATCH"), most=1),
    "server_errors_after": ApiMischief(server_errors_after=1, methods=("POST", "PATCH"), most=1),
    "gateway_timeouts_after": ApiMischief(gateway_timeouts_after=1, methods=("POST", "PATCH"), most=1),
    "resets_mid_answer": ApiMischief(resets_mid_answer=1, methods=("POST", "PATCH"), most=1),
    "hung_after": ApiMischief(hung_after=1, methods=("POST", "PATCH"), most=1),
    "malformed": ApiMischief(malformed=1, methods=("POST", "PATCH"), most=1),
    "thin": ApiMischief(thin=1, methods=("POST", "PATCH"), most=1),
}
NOT_HAPPENED = {
    "server_errors": ApiMischief(server_errors=1, methods=("POST", "PATCH"), most=1),
    "resets_before": ApiMischief(resets_before=1, methods=("POST", "PATCH"), most=1),
    "hung_before": ApiMischief(hung_before=1, methods=("POST", "PATCH"), most=1),
}


def each_once(*lists: Iterable[str]) -> list[tuple[str, ...]]:
    """Each of every list at least once, with one of the others: the shorter ones begin again."""
    kept = [list(each) for each in lists]
    return [tuple(each[turn % len(each)] for each in kept) for turn in range(max(map(len, kept)))]


@pytest.mark.parametrize(("name", "mischief"), [*each_once([*CREATES, *UPDATES], HAPPENED), ("update_lead", "thin")])
async def test_what_happened_unheard_is_found_and_not_done_again(world: World, name: str, mischief: str) -> None:
    action, command_id = (CREATES | UPDATES)[name](world), str(uuid.uuid4())
    began = dt.datetime.now(dt.UTC)
    world.trouble(HAPPENED[mischief])
    hasty = mischief.startswith("hung")
    ended = await carry_out(world.attempt(action, command_id=command_id, hasty=hasty), Policies())
    if mischief == "thin" and name in UPDATES:
        assert isinstance(ended, Succeeded)  # the answer to a PATCH tells nothing that is needed
        return
    assert isinstance(ended, Retried)
    assert (ended.doubt, ended.error_class) == (True, ErrorClass.EXTERNAL_SERVICE)
    effects = world.made()
    assert {effect.request for effect in effects} == {effects[0].request}

    found = await carry_out(world.attempt(action, command_id=command_id, doubt=began), Policies())
    assert isinstance(found, Succeeded)
    assert found.found
    made = {effect.kind: effect.id for effect in effects}
    assert made.items() <= found.entities.items()
    assert found.updated_at == world.state(KINDS[effects[-1].kind], effects[-1].id)["updated_at"]
    assert world.made() == effects


@pytest.mark.parametrize(("name", "mischief"), each_once([*CREATES, *UPDATES], NOT_HAPPENED))
async def test_what_did_not_happen_is_not_found_and_done_once(world: World, name: str, mischief: str) -> None:
    action, command_id = (CREATES | UPDATES)[name](world), str(uuid.uuid4())
    began = dt.datetime.now(dt.UTC)
    world.trouble(NOT_HAPPENED[mischief])
    hasty = mischief.startswith("hung")
    ended = await carry_out(world.attempt(action, command_id=command_id, hasty=hasty), Policies())
    assert isinstance(ended, Retried)
    assert ended.doubt
    assert world.made() == []
    assert await world.look(action, command_id=command_id, doubt=began) is None
    done = await carry_out(world.attempt(action, command_id=command_id, doubt=began), Policies())
    assert isinstance(done, Succeeded)
    assert not done.found
    assert len({effect.request for effect in world.made()}) == 1


async def test_a_refusal_is_no_doubt(world: World) -> None:
    world.trouble(ApiMischief(forbidden=1, methods=("POST",), most=1))
    ended = await carry_out(world.attempt(CREATES["add_note"](world)), Policies())
    assert isinstance(ended, Failed)
    assert ended.error_class is ErrorClass.AUTHORIZATION
    assert world.made() == []


async def test_the_note_of_a_sent_mail_is_looked_for_and_the_mail_is_not_sent_again(world: World) -> None:
    action, command_id = MAIL["send_email"](world), str(uuid.uuid4())
    began = dt.datetime.now(dt.UTC)
    world.trouble(HAPPENED["answers_lost"])
    ended = await carry_out(world.attempt(action, command_id=command_id), Policies())
    assert isinstance(ended, Retried)
    assert ended.doubt
    again = world.attempt(action, command_id=command_id, doubt=began, progress=world.saved[0])
    found = await carry_out(again, Policies())
    assert isinstance(found, Succeeded)
    assert found.found
    assert (len(world.mailer.sent), len(world.made("note"))) == (1, 1)


@pytest.mark.parametrize(
    ("left", "ended"), [(True, Retried), (False, Failed)], ids=["the server may have it", "the server refused it"]
)
async def test_a_mail_that_may_have_left_waits_for_a_person(world: World, left: bool, ended: type) -> None:
    action = MAIL["send_email"](world)
    error_class = ErrorClass.EXTERNAL_SERVICE if left else ErrorClass.VALIDATION
    world.mailer.fails = MailError(error_class, "mail: no", left=left)
    first = await carry_out(world.attempt(action), Policies())
    assert isinstance(first, ended)
    assert getattr(first, "doubt", False) is left
    world.mailer.fails = None
    again = await carry_out(world.attempt(action, doubt=dt.datetime.now(dt.UTC)), Policies())
    assert isinstance(again, Unknown)
    assert (world.mailer.sent, world.made()) == ([], [])


async def test_without_a_mail_server_it_is_said_and_nothing_is_noted(world: World) -> None:
    attempt = world.attempt(MAIL["send_email"](world))
    attempt.mailer = None
    ended = await carry_out(attempt, Policies())
    assert isinstance(ended, Failed)
    assert "KOMMO_STREAMS_SMTP_URL" in ended.error
    assert world.made() == []


# Which of them it is


async def _twin(world: World, action: Action, command_id: str) -> tuple[str, Json, set[int]]:
    """Carry an action out, and return the path and the item of the request, and the ids of what it made."""
    await world.send(action, command_id=command_id)
    effects = world.made()
    return effects[-1].path.removeprefix("/api/v4"), effects[-1].item, {effect.id for effect in effects}


@pytest.mark.parametrize("name", CREATES)
async def test_only_what_we_made_since_then_is_taken_for_it(world: World, name: str) -> None:
    action, command_id = CREATES[name](world), str(uuid.uuid4())
    path, item, made = await _twin(world, action, command_id)
    kind = world.made()[-1].kind
    assert isinstance(await world.look(action, command_id=command_id), Succeeded)
    # Another command is known to have made it.
    assert await world.look(action, command_id=command_id, others=made) is None
    # Another user made the same, and we did long ago.
    await world.post(path, item)
    [old] = await world.post(path, {**item, "created_at": int(time.time()) - HOUR}, user=FIRST_USER)
    assert world.state(KINDS[kind], old)["created_by"] == FIRST_USER
    assert await world.look(action, command_id=command_id, others=made) is None
    # And not what was made before there was any doubt.
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)
    assert await world.look(action, command_id=command_id, doubt=later) is None


@pytest.mark.parametrize("name", CREATES)
async def test_of_two_that_may_be_it_a_person_chooses(world: World, name: str) -> None:
    action, command_id = CREATES[name](world), str(uuid.uuid4())
    path, item, _ = await _twin(world, action, command_id)
    first = world.made()[-1].id
    [second] = await world.post(path, item, user=FIRST_USER)
    found = await world.look(action, command_id=command_id)
    assert isinstance(found, Open)
    assert str(first) in found.why
    assert str(second) in found.why
    ended = await carry_out(world.attempt(action, command_id=command_id, doubt=dt.datetime.now(dt.UTC)), Policies())
    assert ended == Unknown(ErrorClass.EXTERNAL_SERVICE, found.why)
    # Of two, one of which another command made, it is the other.
    only = await world.look(action, command_id=command_id, others={second})
    assert isinstance(only, Succeeded)
    assert first in only.entities.values()


@pytest.mark.parametrize(
    ("made", "asked"),
    [
        (CreateLead(name="Kitchen"), CreateLead(name="Kitchen 2")),
        (CreateLead(name="Kitchen"), CreateLead()),
        (CreateLead(), CreateLead(name="Kitchen")),
        (CreateLead(name="Kitchen", price=5), CreateLead(name="Kitchen", price=6)),
        (CreateLead(name="Kitchen"), CreateLead(name="Kitchen", tags=["web"])),
        (CreateLead(name="Kitchen"), CreateLead(name="Kitchen", contact=NewContact(name="Ana"))),
        (
            CreateLead(name="Kitchen", contact=NewContact(name="Eva")),
            CreateLead(name="Kitchen", contact=NewContact(name="Ana")),
        ),
        (CreateContact(name="Ana"), CreateContact(phones=[PhoneNumber(value="600")])),
        (
            CreateContact(name="Ana", phones=[PhoneNumber(value="600")]),
            CreateContact(name="Ana", phones=[PhoneNumber(value="601")]),
        ),
        (CreateContact(name="Ana"), CreateContact(name="Ana", emails=[MailAddress(value="a@example.com")])),
        (CreateTask(text="A", complete_till=NOON), CreateTask(text="B", complete_till=NOON)),
        (
            CreateTask(text="A", complete_till=NOON),
            CreateTask(text="A", complete_till=NOON + dt.timedelta(seconds=1)),
        ),
    ],
)
async def test_what_is_not_the_same_is_not_taken_for_it(world: World, made: Action, asked: Action) -> None:
    await world.send(made)
    assert isinstance(await world.look(made), Succeeded)
    found = await world.look(asked)
    named = [getattr(action, "name", None) or getattr(action, "text", None) for action in (made, asked)]
    if named[0] == named[1]:  # an automation may have changed it at once: a person must look
        assert isinstance(found, Open)
        assert str(world.made()[-1].id) in found.why or str(world.made()[0].id) in found.why
    else:
        assert found is None


async def test_notes_tasks_and_calls_of_another_entity_are_not_taken_for_it(world: World) -> None:
    [other] = await world.post("/leads", {"name": "Another"})
    for made in (
        AddNote(entity_type="lead", entity_id=other, text="x"),
        CreateTask(text="x", complete_till=NOON, entity_type="lead", entity_id=other),
        CreateMeetingNote(entity_type="lead", entity_id=other, text="x", at=NOON),
        CreateCallNote(entity_type="lead", entity_id=other, direction="in", phone="600", duration_seconds=1, uniq="u"),
    ):
        await world.send(made)
        assert await world.look(made.model_copy(update={"entity_id": world.lead})) is None
        assert isinstance(await world.look(made), Succeeded)


async def test_a_call_is_known_by_its_name(world: World) -> None:
    call = CreateCallNote(entity_type="lead", entity_id=world.lead, direction="in", phone="600", duration_seconds=1)
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    await world.send(call, command_id=one)
    assert await world.look(call, command_id=other) is None
    second = await world.send(call, command_id=other)
    found = await world.look(call, command_id=other)
    assert isinstance(found, Succeeded)
    assert found.entities == second.entities


@pytest.mark.parametrize("name", ["create_lead", "create_lead with its contact", "create_contact"])
async def test_what_automations_add_at_once_does_not_hide_it(world: World, name: str) -> None:
    action = CREATES[name](world)
    ended = await world.send(action)
    fields = {
        "leads": [{"field_code": "UTM_TERM", "values": [{"value": "auto"}]}],
        "contacts": [{"field_code": "POSITION", "values": [{"value": "auto"}]}],
    }
    for kind in ("lead", "contact"):
        if identifier := ended.entities.get(kind):
            plural = KINDS[kind]
            tags = [*(tag["name"] for tag in world.state(plural, identifier)["_tags"]), "auto"]
            body = {"custom_fields_values": fields[plural], "_embedded": {"tags": [{"name": tag} for tag in tags]}}
            await world.patch(f"/{plural}/{identifier}", body)
    found = await world.look(action)
    assert isinstance(found, Succeeded)
    assert found.entities == ended.entities


@pytest.mark.parametrize("name", ["create_lead", "create_contact", "create_task", "add_note"])
async def test_it_is_looked_for_on_every_page(world: World, name: str) -> None:
    action = CREATES[name](world)
    noise = {
        "create_lead": ("/leads", {"name": "Noise"}),
        "create_contact": ("/contacts", {"name": "Noise"}),
        "create_task": (
            "/tasks",
            {"text": "Noise", "complete_till": NOON_UNIX, "entity_type": "leads", "entity_id": world.lead},
        ),
        "add_note": ("/contacts/notes", {"entity_id": world.contact, "note_type": "common", "params": {"text": "-"}}),
    }
    path, item = noise[name]
    for _ in range(2):
        await world.post(path, *([item] * 250), user=FIRST_USER)
    assert await world.look(action) is None
    ended = await world.send(action)
    found = await world.look(action)
    assert isinstance(found, Succeeded)
    assert found.entities == ended.entities


async def test_kommos_clock_counts_not_ours(world: World) -> None:
    # Doubt is told in our time; what Kommo's clock says is known from its answers.
    action = AddNote(entity_type="lead", entity_id=world.lead, text="x")
    ended = await world.send(action)
    note = world.state("notes", ended.entities["note"])
    note["created_at"] += 2 * HOUR
    note["updated_at"] += 2 * HOUR
    world.api.offset = dt.timedelta(hours=2)
    attempt = world.attempt(action, doubt=dt.datetime.now(dt.UTC))
    assert await attempt.since() - time.time() == pytest.approx(2 * HOUR - 5, abs=2)
    world.api.offset = None
    assert abs(await attempt.since() - time.time()) < 10
    assert world.api.offset is not None


# A change


@pytest.mark.parametrize("name", UPDATES)
async def test_an_entity_that_has_not_moved_was_not_changed(world: World, name: str) -> None:
    action = UPDATES[name](world)
    assert await world.look(action) is None
    # Even if it has all that is asked for: to send it again does no harm, and says so.
    await world.send(action)
    kind, identifier = ("leads", world.lead) if name == "update_lead" else ("contacts", world.contact)
    world.age(kind, identifier)
    assert await world.look(action) is None


@pytest.mark.parametrize("name", UPDATES)
async def test_an_entity_that_moved_and_has_it_all_was_changed(world: World, name: str) -> None:
    action = UPDATES[name](world)
    ended = await world.send(action)
    found = await world.look(action)
    assert found == Succeeded(ended.entities, ended.updated_at, found=True)


@pytest.mark.parametrize("name", UPDATES)
async def test_an_entity_that_moved_and_has_not_all_is_open(world: World, name: str) -> None:
    action = UPDATES[name](world)
    path = f"/leads/{world.lead}" if name == "update_lead" else f"/contacts/{world.contact}"
    await world.patch(path, {"name": "By another"})
    assert isinstance(await world.look(action), Open)
    ended = await carry_out(world.attempt(action, doubt=dt.datetime.now(dt.UTC)), Policies())
    assert isinstance(ended, Unknown)
    assert world.made() == []


async def test_a_move_by_our_own_earlier_command_does_not_count(world: World) -> None:
    earlier = await world.send(UpdateLead(lead_id=world.lead, name="Earlier"))
    action = UPDATES["update_lead"](world)
    assert earlier.updated_at is not None
    assert await world.look(action, last_update=earlier.updated_at) is None
    assert isinstance(await world.look(action, last_update=earlier.updated_at - 1), Open)
    done = await carry_out(
        world.attempt(action, doubt=dt.datetime.now(dt.UTC), last_update=earlier.updated_at), Policies()
    )
    assert isinstance(done, Succeeded)
    assert world.state("leads", world.lead)["price"] == 99


async def test_its_making_does_not_count_as_a_move_either(world: World) -> None:
    made = await world.send(CREATES["create_lead with its contact"](world))
    identifier = made.entities["lead"]
    assert await world.look(UpdateLead(lead_id=identifier, price=99)) is None
    world.state("leads", identifier)["updated_at"] += 1
    assert isinstance(await world.look(UpdateLead(lead_id=identifier, price=99)), Open)


async def test_an_entity_that_is_not_there_was_not_changed(world: World) -> None:
    action = UpdateLead(lead_id=5, price=1)
    assert await world.look(action) is None
    ended = await carry_out(world.attempt(action, doubt=dt.datetime.now(dt.UTC)), Policies())
    assert isinstance(ended, Failed)
    assert ended.error_class is ErrorClass.NOT_FOUND


@pytest.mark.parametrize("name", [*CREATES, *UPDATES])
async def test_a_look_that_cannot_be_made_keeps_the_doubt(world: World, name: str) -> None:
    action = (CREATES | UPDATES)[name](world)
    world.trouble(ApiMischief(server_errors=1, methods=("GET",)))
    ended = await carry_out(world.attempt(action, doubt=dt.datetime.now(dt.UTC)), Policies())
    assert isinstance(ended, Retried)
    assert ended.doubt
    assert world.made() == []
