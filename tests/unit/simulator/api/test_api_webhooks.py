from __future__ import annotations

from collections import Counter
from typing import Any

import orjson

from schemas.decoder import decode
from schemas.delivery import Delivery
from simulator.api import ApiMischief, Running, simulated_kommo
from tests.support.waiting import eventually
from tests.unit.simulator.api.support import ACCOUNT, OTHER, UNLIMITED, Json, client, ids, make
from tests.unit.simulator.door import Door, standing

TILL = 1_900_000_000
USER = 2852878 + 31


def events(body: bytes, account: int = ACCOUNT) -> list[Json]:
    """The events of a body that came to an account's address."""
    result = decode(Delivery(account, "d1", 1_800_000_000_000_000, body))
    assert not result.rejections
    return [orjson.loads(event.value) for event in result.events]


class Told:
    """A client's changes, and the events that they were told of by."""

    def __init__(self, kommo: Running, door: Door) -> None:
        self._kommo = kommo
        self._door = door
        self._seen = 0

    async def next(self, count: int) -> list[Json]:
        """The events of the next so many bodies, and of no more."""
        await eventually(lambda: self._kommo.kommo.postman.idle, what="all webhooks are posted")
        bodies = self._door.bodies[self._seen :]
        assert len(bodies) == count, bodies
        self._seen += count
        return [event for body in bodies for event in events(body)]


def types(found: list[Json]) -> Counter[str]:
    return Counter(event["type"] for event in found)


async def test_each_change_is_told_in_kommos_words() -> None:
    door = Door()
    fields = [
        {"field_id": 467289, "values": [{"value": "Instagram"}]},
        {"field_id": 1246491, "values": [{"value": 1_800_000_000}]},
        {"field_id": 1246497, "values": [{"value": "Card"}]},
        {"field_id": 1246487, "values": [{"value": True}]},
    ]
    async with standing(door) as url, simulated_kommo(limits=UNLIMITED, addresses={ACCOUNT: url}) as kommo:
        told = Told(kommo, door)
        async with client(kommo, token=kommo.token(ACCOUNT, USER)) as http:
            answer = await http.post(
                "/leads",
                json=[
                    {"name": "A", "price": 5, "custom_fields_values": fields, "_embedded": {"tags": [{"name": "VIP"}]}}
                ],
            )
            (thin,) = answer.json()["_embedded"]["leads"]
            (event,) = await told.next(1)
            lead: Any = event["data"]["lead"]
            assert (event["type"], event["subject"], event["accountid"]) == (
                "kommo.lead.added",
                f"lead/{thin['id']}",
                str(ACCOUNT),
            )
            assert (lead["name"], lead["price"], lead["updated_at"]) == ("A", 5, thin["updated_at"])
            assert lead["last_modified"] == thin["updated_at"]
            assert lead["modified_user_id"] == lead["created_user_id"] == USER
            assert {field["id"]: field["values"] for field in lead["custom_fields"]}.keys() == {
                467289,
                1246491,
                1246497,
                1246487,
            }
            assert b"custom_fields%5D%5B1%5D%5Bvalues%5D%5B0%5D=1800000000" in door.bodies[0]
            assert b"custom_fields%5D%5B2%5D%5Bvalues%5D%5Benum%5D=908131" in door.bodies[0]
            assert door.headers[0][b"user-agent"] == b"amoCRM-Webhooks/3.0"

            answer = await http.patch(f"/leads/{thin['id']}", json={"price": 7})
            (event,) = await told.next(1)
            assert event["type"] == "kommo.lead.updated"
            assert (event["data"]["lead"]["price"], event["data"]["lead"]["updated_at"]) == (
                7,
                answer.json()["updated_at"],
            )

            await http.patch(f"/leads/{thin['id']}", json={"status_id": 17944876})
            found = await told.next(2)
            assert types(found) == {"kommo.lead.status_changed": 2}
            assert len({event["id"] for event in found}) == 1  # both hooks tell of one move
            assert found[0]["data"]["changes"]["status_id"] == {"from": 17944873, "to": 17944876}

            await http.patch(f"/leads/{thin['id']}", json={"responsible_user_id": USER + 31})
            (event,) = await told.next(1)
            assert event["type"] == "kommo.lead.responsible_changed"
            assert event["data"]["changes"]["responsible_user_id"] == {"from": USER, "to": USER + 31}


async def test_contacts_companies_and_complex_leads_are_told() -> None:
    door = Door()
    async with standing(door) as url, simulated_kommo(limits=UNLIMITED, addresses={ACCOUNT: url}) as kommo:
        told = Told(kommo, door)
        async with client(kommo) as http:
            phone = [{"field_code": "PHONE", "values": [{"value": "+12025550101", "enum_code": "MOB"}]}]
            lead = {
                "name": "A",
                "_embedded": {
                    "contacts": [{"name": "Ada", "custom_fields_values": phone}],
                    "companies": [{"name": "Apex"}],
                },
            }
            (made,) = (await http.post("/leads/complex", json=[lead])).json()
            found = {event["type"]: event for event in await told.next(3)}
            assert found.keys() == {"kommo.contact.added", "kommo.company.added", "kommo.lead.added"}
            assert found["kommo.contact.added"]["subject"] == f"contact/{made['contact_id']}"
            assert found["kommo.company.added"]["subject"] == f"company/{made['company_id']}"
            await http.patch("/contacts", json=[{"id": made["contact_id"], "name": "Ada B"}])
            (event,) = await told.next(1)
            contact: Any = event["data"]["contact"]
            assert (event["type"], contact["name"]) == ("kommo.contact.updated", "Ada B")
            assert f"linked_leads_id%5D%5B{made['id']}%5D%5BID%5D".encode() in door.bodies[-1]
            await http.patch(f"/companies/{made['company_id']}", json={"responsible_user_id": USER})
            (event,) = await told.next(1)
            assert event["type"] == "kommo.company.responsible_changed"
            (other,) = await make(http, "leads", {"name": "B"})
            tie = {"to_entity_id": made["contact_id"], "to_entity_type": "contacts"}
            await http.post(f"/leads/{other}/link", json=[tie])
            assert types(await told.next(2)) == {"kommo.lead.added": 1, "kommo.contact.updated": 1}
            assert any(f"linked_leads_id%5D%5B{other}%5D".encode() in body for body in door.bodies[-2:])


async def test_tasks_notes_and_calls_are_told() -> None:
    door = Door()
    async with standing(door) as url, simulated_kommo(limits=UNLIMITED, addresses={ACCOUNT: url}) as kommo:
        told = Told(kommo, door)
        async with client(kommo) as http:
            (contact,) = await make(http, "contacts", {"name": "Ada"})
            item = {"text": "Call", "complete_till": TILL, "entity_type": "contacts", "entity_id": contact}
            (task,) = await make(http, "tasks", item)
            (event,) = (event for event in await told.next(2) if event["type"] != "kommo.contact.added")
            shown: Any = event["data"]["task"]
            assert (event["type"], event["subject"]) == ("kommo.task.added", f"task/{task}")
            assert (shown["element_id"], shown["element_type"], shown["complete_before"]) == (contact, 1, TILL)
            await http.patch(f"/tasks/{task}", json={"text": "Call again"})
            (event,) = await told.next(1)
            assert event["type"] == "kommo.task.text_changed"
            await http.patch(f"/tasks/{task}", json={"is_completed": True, "result": {"text": "Done"}})
            assert types(await told.next(2)) == {"kommo.task.completed": 1, "kommo.task.result_added": 1}

            call = {
                "uniq": "u1",
                "duration": 42,
                "source": "pbx",
                "phone": "+12025550101",
                "link": "https://r.example/1",
            }
            notes = [
                {"entity_id": contact, "note_type": "common", "params": {"text": "Hello & <b>"}},
                {"entity_id": contact, "note_type": "call_in", "params": call},
            ]
            made = ids(await http.post("/contacts/notes", json=notes), "notes")
            found = await told.next(2)
            assert types(found) == {"kommo.note.added": 1, "kommo.call.logged": 1, "kommo.call.recorded": 1}
            assert {event["subject"] for event in found} == {f"contact/{contact}"}
            note = next(event["data"]["note"] for event in found if event["type"] == "kommo.note.added")
            assert (note["text"], note["id"]) == ("Hello & <b>", made[0])
            logged = next(event["data"]["call"] for event in found if event["type"] == "kommo.call.logged")
            assert (logged["uniq"], logged["duration"], logged["direction"]) == ("u1", 42, "in")
            (free,) = await make(http, "tasks", {"text": "Of nobody", "complete_till": TILL})
            (event,) = await told.next(1)
            assert (event["subject"], event["type"]) == (f"task/{free}", "kommo.task.added")


async def test_a_refused_webhook_comes_again_and_each_account_has_its_own_address() -> None:
    door, other = Door(status=lambda number: 503 if number <= 2 else 200), Door()
    async with standing(door) as url, standing(other) as other_url:
        addresses = {ACCOUNT: url, OTHER: other_url}
        async with simulated_kommo(limits=UNLIMITED, addresses=addresses, speed=10_000) as kommo:
            async with client(kommo) as http, client(kommo, OTHER) as second, client(kommo, 5) as third:
                await make(http, "leads", {"name": "A"})
                await make(second, "leads", {"name": "B"})
                await make(third, "leads", {"name": "of whom nobody hears"})
                await eventually(lambda: len(door.bodies) == 3 and kommo.kommo.postman.idle)
            counts = kommo.kommo.postman.counts
        assert (counts.sent, counts.accepted, counts.attempts_again) == (4, 2, 2)
        assert len(set(door.bodies)) == 1
        assert len({headers[b"x-amocrm-requestid"] for headers in door.headers}) == 1
        assert [events(body, OTHER)[0]["data"]["lead"]["name"] for body in other.bodies] == ["B"]


async def test_a_change_whose_answer_was_lost_is_told_all_the_same() -> None:
    door = Door()
    async with standing(door) as url, simulated_kommo(limits=UNLIMITED, addresses={ACCOUNT: url}) as kommo:
        kommo.mischief(ApiMischief(server_errors_after=1.0, methods=("POST",)))
        async with client(kommo) as http:
            assert (await http.post("/leads", json=[{"name": "A"}])).status_code == 500
        (event,) = await Told(kommo, door).next(1)
        assert event["subject"] == f"lead/{kommo.ledger.effects[0].id}"


async def test_after_a_hundred_failures_an_account_is_told_nothing_more() -> None:
    door = Door(status=lambda _: 500)
    async with standing(door) as url, simulated_kommo(limits=UNLIMITED, addresses={ACCOUNT: url}) as kommo:
        async with client(kommo) as http:
            await make(http, "leads", *({"name": f"{number}"} for number in range(250)))
            await eventually(lambda: kommo.kommo.postman.disabled(ACCOUNT))
            await eventually(lambda: kommo.kommo.postman.idle, what="nothing waits for another attempt")
        assert 101 <= len(door.bodies) <= 101 + 64
