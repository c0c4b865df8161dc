from __future__ import annotations

import time

import httpx
import pytest

from simulator.api import Effect
from tests.unit.simulator.api.support import ACCOUNT, OTHER, Json, client, ids, issues, kommo_and_client, make

PHONE = {"field_code": "PHONE", "values": [{"value": "+12025550101", "enum_code": "MOB"}]}
TILL = 1_900_000_000


async def test_a_lead_is_made_answered_thinly_and_shown_whole() -> None:
    began = int(time.time())
    async with kommo_and_client() as (kommo, http):
        item = {"name": "A deal", "price": 1200, "request_id": "mine", "_embedded": {"tags": [{"name": "VIP"}]}}
        answer = await http.post("/leads", json=[item])
        (thin,) = answer.json()["_embedded"]["leads"]
        assert answer.headers["content-type"] == "application/hal+json"
        assert set(thin) == {"id", "request_id", "updated_at", "_links"}
        assert thin["request_id"] == "mine"
        assert thin["_links"]["self"]["href"] == f"{kommo.base_url}/api/v4/leads/{thin['id']}"
        shown = (await http.get(f"/leads/{thin['id']}")).json()
        assert (shown["name"], shown["price"], shown["account_id"]) == ("A deal", 1200, ACCOUNT)
        assert began <= shown["created_at"] == shown["updated_at"] == thin["updated_at"] <= time.time()
        assert shown["created_by"] == shown["responsible_user_id"] == 2852878
        assert (shown["pipeline_id"], shown["status_id"], shown["closed_at"]) == (936736, 17944873, None)
        assert [tag["name"] for tag in shown["_embedded"]["tags"]] == ["VIP"]
        (effect,) = kommo.ledger.effects
        assert (effect.kind, effect.verb, effect.id) == ("lead", "created", thin["id"])
        assert (effect.method, effect.path, effect.item) == ("POST", "/api/v4/leads", item)
        assert (effect.request_id, effect.status, effect.delivered) == ("mine", 200, True)
        assert (effect.account, effect.user) == (ACCOUNT, 2852878)
        assert effect.received_at == pytest.approx(time.time(), abs=5)


async def test_request_ids_are_the_places_where_none_is_given() -> None:
    async with kommo_and_client() as (_, http):
        answer = await http.post("/contacts", json=[{"name": "A"}, {"name": "B"}])
    assert [one["request_id"] for one in answer.json()["_embedded"]["contacts"]] == ["0", "1"]


async def test_a_lead_is_changed_alone_and_with_others() -> None:
    async with kommo_and_client() as (kommo, http):
        first, second = await make(http, "leads", {"name": "A", "price": 5}, {"name": "B"})
        answer = await http.patch(f"/leads/{first}", json={"status_id": 142})
        assert set(answer.json()) == {"id", "updated_at", "_links"}
        shown = (await http.get(f"/leads/{first}")).json()
        assert (shown["status_id"], shown["price"], shown["closed_at"]) == (142, 5, shown["updated_at"])
        answer = await http.patch("/leads", json=[{"id": first, "price": 7}, {"id": second, "name": "C"}])
        assert ids(answer, "leads") == [first, second]
        assert (await http.get(f"/leads/{first}")).json()["price"] == 7
        assert (await http.get(f"/leads/{second}")).json()["name"] == "C"
        changed = [(effect.method, effect.id, effect.item) for effect in kommo.ledger.of(verb="updated")]
    assert changed == [
        ("PATCH", first, {"status_id": 142}),
        ("PATCH", first, {"id": first, "price": 7}),
        ("PATCH", second, {"id": second, "name": "C"}),
    ]


async def test_another_pipeline_begins_with_its_first_stage() -> None:
    async with kommo_and_client() as (_, http):
        (lead,) = await make(http, "leads", {"status_id": 22184314})
        assert (await http.get(f"/leads/{lead}")).json()["pipeline_id"] == 1453099
        await http.patch(f"/leads/{lead}", json={"pipeline_id": 936736})
        assert (await http.get(f"/leads/{lead}")).json()["status_id"] == 17944873
        assert issues(await http.patch(f"/leads/{lead}", json={"status_id": 22184314})) == [
            ("0", "NotSupportedChoice", "status_id")
        ]


@pytest.mark.parametrize(
    ("kind", "item", "expected"),
    [
        ("leads", {"name": 5}, ("InvalidType", "name")),
        ("leads", {"price": "5"}, ("InvalidType", "price")),
        ("leads", {"status_id": 1}, ("NotSupportedChoice", "status_id")),
        ("leads", {"responsible_user_id": 1}, ("NotSupportedChoice", "responsible_user_id")),
        (
            "leads",
            {"custom_fields_values": [{"field_id": 1, "values": [{"value": "x"}]}]},
            ("NotSupportedChoice", "custom_fields_values.0.field_id"),
        ),
        (
            "leads",
            {"custom_fields_values": [{"field_code": "PHONE", "values": [{"value": "x"}]}]},
            ("NotSupportedChoice", "custom_fields_values.0.field_code"),
        ),
        (
            "leads",
            {"custom_fields_values": [{"values": [{"value": "x"}]}]},
            ("FieldMissing", "custom_fields_values.0.field_id"),
        ),
        (
            "leads",
            {"custom_fields_values": [{"field_id": 467289, "values": [{"value": "Radio"}]}]},
            ("NotSupportedChoice", "custom_fields_values.0.values.0.value"),
        ),
        (
            "leads",
            {"custom_fields_values": [{"field_id": 467289, "values": [{"enum_id": 1}]}]},
            ("NotSupportedChoice", "custom_fields_values.0.values.0.enum_id"),
        ),
        (
            "contacts",
            {"custom_fields_values": [{"field_code": "PHONE", "values": [{"value": "1", "enum_code": "SHIP"}]}]},
            ("NotSupportedChoice", "custom_fields_values.0.values.0.enum_code"),
        ),
        (
            "leads",
            {"custom_fields_values": [{"field_id": 1246491, "values": [{"value": "tomorrow"}]}]},
            ("InvalidType", "custom_fields_values.0.values.0.value"),
        ),
        ("leads", {"_embedded": {"contacts": [{"id": 7}]}}, ("NotSupportedChoice", "_embedded.contacts.0.id")),
        ("tasks", {"complete_till": TILL}, ("FieldMissing", "text")),
        ("tasks", {"text": "Call"}, ("FieldMissing", "complete_till")),
        ("tasks", {"text": "Call", "complete_till": 1_900_000_000_000}, ("TooHigh", "complete_till")),
        ("tasks", {"text": "Call", "complete_till": 1.5}, ("InvalidType", "complete_till")),
        ("tasks", {"text": "Call", "complete_till": TILL, "task_type_id": 9}, ("NotSupportedChoice", "task_type_id")),
        (
            "tasks",
            {"text": "Call", "complete_till": TILL, "entity_type": "leads", "entity_id": 7},
            ("NotSupportedChoice", "entity_id"),
        ),
        ("leads/notes", {"entity_id": 7, "note_type": "common"}, ("NotSupportedChoice", "entity_id")),
    ],
)
async def test_what_is_wrong_is_told_by_code_and_path(kind: str, item: Json, expected: tuple[str, str]) -> None:
    async with kommo_and_client() as (kommo, http):
        found = issues(await http.post(f"/{kind}", json=[item]))
    assert ("0", *expected) in found
    assert not kommo.ledger.effects


async def test_one_wrong_item_stops_the_whole_request() -> None:
    async with kommo_and_client() as (kommo, http):
        answer = await http.post("/leads", json=[{"name": "A"}, {"name": "B", "price": 1.5}])
        assert issues(answer) == [("1", "InvalidType", "price")]
        assert (await http.get("/leads")).status_code == 204
    assert not kommo.ledger.effects


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/leads", {"name": "A"}, 400),
        ("PATCH", "/leads", {"id": 1}, 400),
        ("PATCH", "/leads/1", {"name": "A"}, 404),
        ("POST", "/leads", [], 400),
        ("POST", "/leads", ["A"], 400),
        ("POST", "/tasks", {"text": "A", "complete_till": TILL}, 400),
        ("POST", "/leads/notes", {"entity_id": 1}, 400),
        ("POST", "/leads/7/notes", [{"note_type": "common", "params": {"text": "A"}}], 404),
        ("POST", "/leads", [{"name": str(number)} for number in range(251)], 422),
        ("POST", "/leads/complex", [{"name": str(number)} for number in range(51)], 422),
        ("DELETE", "/leads", [{"id": 1}], 405),
        ("DELETE", "/tasks/1", None, 405),
        ("POST", "/nothing", [], 404),
    ],
)
async def test_what_is_refused_as_a_whole(method: str, path: str, body: object, status: int) -> None:
    async with kommo_and_client() as (kommo, http):
        answer = await http.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert "validation-errors" not in answer.json()
    assert not kommo.ledger.effects


async def test_an_object_where_one_belongs_and_no_array() -> None:
    async with kommo_and_client() as (_, http):
        (lead,) = await make(http, "leads", {"name": "A"})
        assert (await http.patch(f"/leads/{lead}", json=[{"name": "B"}])).status_code == 400
        empty = await http.patch(f"/leads/{lead}", json={})
        assert (empty.status_code, empty.json()["detail"]) == (400, "Request data can not be empty")
        broken = await http.post("/leads", content=b'[{"name":')
        assert broken.status_code == 400


async def test_custom_fields_are_kept_with_names_and_choices_and_replaced_whole() -> None:
    async with kommo_and_client() as (_, http):
        values = [
            {"field_id": 467289, "values": [{"enum_id": 917605}]},
            {"field_id": 1246491, "values": [{"value": 9}]},
        ]
        (lead,) = await make(http, "leads", {"custom_fields_values": values})
        (contact,) = await make(
            http, "contacts", {"first_name": "Ada", "last_name": "B", "custom_fields_values": [PHONE]}
        )
        shown = (await http.get(f"/contacts/{contact}")).json()
        assert (shown["name"], shown["first_name"]) == ("Ada B", "Ada")
        (phone,) = shown["custom_fields_values"]
        assert (phone["field_id"], phone["field_code"], phone["field_type"]) == (771906, "PHONE", "multitext")
        assert phone["values"] == [{"value": "+12025550101", "enum_id": 552480, "enum_code": "MOB"}]
        change = [{"field_id": 467289, "values": [{"value": "Instagram"}]}, {"field_id": 1246491, "values": None}]
        await http.patch(f"/leads/{lead}", json={"custom_fields_values": change})
        (source,) = (await http.get(f"/leads/{lead}")).json()["custom_fields_values"]
    assert source["values"] == [{"value": "Instagram", "enum_id": 917601, "enum_code": None}]


async def test_a_complex_lead_comes_with_contact_and_company() -> None:
    async with kommo_and_client() as (kommo, http):
        contact = {"name": "Ada", "custom_fields_values": [PHONE]}
        lead = {"name": "Deal", "_embedded": {"contacts": [contact], "companies": [{"name": "Apex"}]}}
        answer = await http.post("/leads/complex", json=[lead])
        (told,) = answer.json()
        assert (told["request_id"], told["merged"]) == (["0"], False)
        shown = (await http.get(f"/leads/{told['id']}", params={"with": "contacts"})).json()
        assert [(one["id"], one["is_main"]) for one in shown["_embedded"]["contacts"]] == [(told["contact_id"], True)]
        assert shown["_embedded"]["companies"][0]["id"] == told["company_id"]
        shown = (await http.get(f"/contacts/{told['contact_id']}", params={"with": "leads"})).json()
        assert [one["id"] for one in shown["_embedded"]["leads"]] == [told["id"]]
        kinds = [(effect.kind, effect.request) for effect in kommo.ledger.effects]
        assert kinds == [("company", 1), ("contact", 1), ("lead", 1)]
        again = {"name": "Again", "_embedded": {"contacts": [{"id": told["contact_id"]}]}}
        (second,) = (await http.post("/leads/complex", json=[again])).json()
        assert second["contact_id"] == told["contact_id"]
        assert len(kommo.ledger.of(kind="contact")) == 1


async def test_a_complex_lead_has_at_most_forty_values_of_an_entity() -> None:
    def contact(count: int) -> Json:
        numbers = [{"value": f"+1202555{number:04}"} for number in range(count)]
        return {"name": "Ada", "custom_fields_values": [{"field_code": "PHONE", "values": numbers}]}

    async with kommo_and_client() as (_, http):
        answer = await http.post("/leads/complex", json=[{"name": "A", "_embedded": {"contacts": [contact(41)]}}])
        assert issues(answer) == [("0", "TooMany", "_embedded.contacts.0.custom_fields_values")]
        answer = await http.post("/leads/complex", json=[{"name": "A", "_embedded": {"contacts": [contact(40)]}}])
        assert answer.status_code == 200
        own = [{"field_id": 1246495, "values": [{"value": "Basic"}] * 41}]
        answer = await http.post("/leads/complex", json=[{"name": "A", "custom_fields_values": own}])
        assert issues(answer) == [("0", "TooMany", "custom_fields_values")]
        assert (await http.post("/leads", json=[{"name": "A", "custom_fields_values": own}])).status_code == 200


async def test_a_task_is_made_changed_and_closed() -> None:
    async with kommo_and_client() as (kommo, http):
        (lead,) = await make(http, "leads", {"name": "A"})
        item = {"text": "Call", "complete_till": TILL, "entity_id": lead, "entity_type": "leads", "task_type_id": 2}
        (task,) = await make(http, "tasks", item)
        shown = (await http.get(f"/tasks/{task}")).json()
        assert {name: shown[name] for name in item} == item
        assert (shown["is_completed"], shown["result"], shown["responsible_user_id"]) == (False, [], 2852878)
        await http.patch("/tasks", json=[{"id": task, "complete_till": TILL + 60}])
        closed = await http.patch(f"/tasks/{task}", json={"is_completed": True, "result": {"text": "Done"}})
        shown = (await http.get(f"/tasks/{task}")).json()
        assert (shown["is_completed"], shown["result"]) == (True, {"text": "Done"})
        assert (shown["complete_till"], shown["updated_at"]) == (TILL + 60, closed.json()["updated_at"])
        assert (await http.patch("/tasks/5", json={"text": "A"})).status_code == 404
        assert issues(await http.patch("/tasks", json=[{"id": 5, "text": "A"}])) == [("0", "NotSupportedChoice", "id")]
        assert [(effect.verb, effect.id) for effect in kommo.ledger.of(kind="task")] == [
            ("created", task),
            ("updated", task),
            ("updated", task),
        ]


async def test_notes_of_each_type_that_can_be_written() -> None:
    call = {"uniq": "u1", "duration": 42, "source": "pbx", "phone": "+12025550101", "link": "https://r.example/1"}
    params: dict[str, Json] = {
        "common": {"text": "Hello"},
        "call_in": call,
        "call_out": {name: value for name, value in call.items() if name != "link"},
        "service_message": {"service": "Bot", "text": "Hello"},
        "extended_service_message": {"service": "Bot", "text": "Hello"},
        "sms_in": {"text": "Hi", "phone": "+12025550101"},
        "sms_out": {"text": "Hi", "phone": "+12025550101"},
        "geolocation": {"text": "Here", "address": "A", "longitude": "1", "latitude": "2"},
        "attachment": {"version_uuid": "v", "file_uuid": "f", "file_name": "quote.pdf"},
    }
    async with kommo_and_client() as (_, http):
        for kind in ("leads", "contacts", "companies"):
            (entity,) = await make(http, kind, {"name": "A"})
            items = [{"entity_id": entity, "note_type": name, "params": told} for name, told in params.items()]
            made = ids(await http.post(f"/{kind}/notes", json=items), "notes")
            shown = (await http.get(f"/{kind}/{entity}/notes")).json()["_embedded"]["notes"]
            assert [(note["id"], note["note_type"], note["params"]) for note in shown] == list(
                zip(made, params, params.values(), strict=True)
            )
            one = await http.get(f"/{kind}/{entity}/notes/{made[0]}")
            assert one.json()["params"] == {"text": "Hello"}
            here = ids(await http.post(f"/{kind}/{entity}/notes", json=[items[0]]), "notes")
            assert len(here) == 1


@pytest.mark.parametrize("name", ["meeting", "mail_message", "amomail_message", "chat", "site_visit", "zoom_meeting"])
async def test_other_notes_cannot_be_written(name: str) -> None:
    async with kommo_and_client() as (_, http):
        (lead,) = await make(http, "leads", {"name": "A"})
        item = {"entity_id": lead, "note_type": name, "params": {"text": "A"}}
        assert issues(await http.post("/leads/notes", json=[item])) == [("0", "NotSupportedChoice", "note_type")]


async def test_a_note_has_its_length_and_its_params() -> None:
    async with kommo_and_client() as (_, http):
        (lead,) = await make(http, "leads", {"name": "A"})

        async def write(note_type: str, params: Json) -> httpx.Response:
            return await http.post("/leads/notes", json=[{"entity_id": lead, "note_type": note_type, "params": params}])

        assert (await write("common", {"text": "x" * 20_000})).status_code == 200
        assert issues(await write("common", {"text": "x" * 20_001})) == [("0", "TooLong", "params.text")]
        assert issues(await write("common", {})) == [("0", "FieldMissing", "params.text")]
        told = {"uniq": "u", "duration": 1, "phone": "+12025550101"}
        assert issues(await write("call_in", told)) == [("0", "FieldMissing", "params.source")]


async def test_a_call_finds_its_lead_or_its_contact() -> None:
    async with kommo_and_client() as (kommo, http):
        (contact,) = await make(http, "contacts", {"name": "Ada", "custom_fields_values": [PHONE]})
        call = {"direction": "inbound", "phone": "8 (202) 555-01-01", "duration": 9, "source": "pbx", "call_status": 4}

        async def log(**more: str) -> Json:
            answer = await http.post("/calls", json=[call | more])
            assert answer.status_code == 200
            told: Json = answer.json()
            return told

        (found,) = (await log())["_embedded"]["calls"]
        assert (found["entity_type"], found["entity_id"]) == ("contacts", contact)
        ties = {"contacts": [{"id": contact}]}
        (lead,) = await make(http, "leads", {"name": "A", "_embedded": ties})
        (found,) = (await log(uniq="u1"))["_embedded"]["calls"]
        assert (found["entity_type"], found["entity_id"], found["request_id"]) == ("leads", lead, "0")
        (note,) = (await http.get(f"/leads/{lead}/notes")).json()["_embedded"]["notes"]
        assert (note["id"], note["note_type"], note["params"]["uniq"]) == (found["id"], "call_in", "u1")
        await make(http, "leads", {"name": "B", "_embedded": ties})
        (found,) = (await log())["_embedded"]["calls"]
        assert found["entity_type"] == "contacts"
        nobody = await log(phone="+442079460000")
        assert (nobody["_total_items"], nobody["errors"][0]["request_id"]) == (0, "0")
        assert len(kommo.ledger.of(kind="call")) == 3
        answer = await http.post("/calls", json=[{"direction": "inbound"}])
        assert {path for _, _, path in issues(answer)} == {"phone", "source", "duration"}


async def test_ties_are_made_and_ended() -> None:
    async with kommo_and_client() as (_, http):
        (lead,) = await make(http, "leads", {"name": "A"})
        (contact,) = await make(http, "contacts", {"name": "Ada"})
        tie = {"to_entity_id": lead, "to_entity_type": "leads"}
        assert (await http.post(f"/contacts/{contact}/link", json=[tie])).status_code == 200
        (found,) = (await http.get(f"/leads/{lead}/links")).json()["_embedded"]["links"]
        assert (found["to_entity_type"], found["to_entity_id"]) == ("contacts", contact)
        tie = {"to_entity_id": contact, "to_entity_type": "contacts"}
        assert (await http.post(f"/leads/{lead}/unlink", json=[tie])).status_code == 204
        assert (await http.get(f"/leads/{lead}/links")).status_code == 204


async def test_no_account_sees_or_changes_another() -> None:
    async with kommo_and_client() as (kommo, http), client(kommo, OTHER) as other:
        (lead,) = await make(http, "leads", {"name": "A"})
        assert (await other.get(f"/leads/{lead}")).status_code == 204
        assert (await other.patch(f"/leads/{lead}", json={"name": "B"})).status_code == 404
        item = {"entity_id": lead, "note_type": "common", "params": {"text": "A"}}
        assert (await other.post("/leads/notes", json=[item])).status_code == 400
        await make(other, "leads", {"name": "mine"})
        names = [(effect.account, effect.item["name"]) for effect in kommo.ledger.effects]
    assert names == [(ACCOUNT, "A"), (OTHER, "mine")]


async def test_the_token_says_who_acts_and_an_admin_may_act_as_another() -> None:
    async with kommo_and_client() as (kommo, http):
        user, another = 2852878 + 31, 2852878 + 62
        async with client(kommo, token=kommo.token(ACCOUNT, user)) as as_user:
            await make(as_user, "leads", {"name": "A"})
            assert (await as_user.get("/webhooks")).status_code == 403
        await http.post("/leads", json=[{"name": "B"}], headers={"X-Context-User-ID": str(another)})
        acted: list[Effect] = kommo.ledger.effects
    assert [effect.user for effect in acted] == [user, another]
