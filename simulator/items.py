"""How Kommo describes leads, contacts, companies, customers, tasks and notes (field set and order of 2024 to 2026).

Times are unix seconds. The items follow captured bodies and the examples of Kommo's page "Webhooks: general"
(https://developers.kommo.com/docs/webhooks-general); no body of a customer is
known, theirs have the fields that receivers read.
"""

from __future__ import annotations

import datetime as dt
import json

from simulator.records import ELEMENT_TYPES, ROBOT, Customer, Lead, Named, Note, Person, Task
from simulator.wire import Item

_NOTE_ZONE = dt.timezone(dt.timedelta(hours=3))  # in notes, and only there, text dates are UTC+3


def lead_item(lead: Lead, account: int, *, old_status: int | None = None, old_responsible: int | None = None) -> Item:
    """Return a lead as in leads[add|update|status|responsible|restore]; the old values where that hook has them."""
    item: Item = {"id": lead.id, "name": lead.name, "status_id": lead.status}
    if old_status is not None:
        item["old_status_id"] = old_status
    item |= {"price": lead.price, "responsible_user_id": lead.responsible}
    item |= {"last_modified": lead.updated_at, "modified_user_id": lead.modified_by}
    item |= {"created_user_id": lead.created_by, "date_create": lead.created_at}
    item |= {"pipeline_id": lead.pipeline, "account_id": account}
    item |= _filled(lead)
    if old_responsible is not None:
        item["old_responsible_user_id"] = old_responsible
    return item | {"created_at": lead.created_at, "updated_at": lead.updated_at}


def lead_stub(lead: Lead) -> Item:
    """Return a lead as in leads[delete]."""
    return {"id": lead.id, "status_id": lead.status, "pipeline_id": lead.pipeline}


def person_item(person: Person, account: int, *, old_responsible: int | None = None) -> Item:
    """Return a contact or company as in contacts[add|update|restore]."""
    item: Item = {"id": person.id, "name": person.name, "responsible_user_id": person.responsible}
    item |= {"date_create": person.created_at, "last_modified": person.updated_at}
    item["created_user_id"] = person.created_by
    if person.modified_by != ROBOT:  # absent where a robot made the change
        item["modified_user_id"] = person.modified_by
    item["account_id"] = account
    item |= _filled(person)
    if person.leads:  # a map keyed by the id, not a list
        item["linked_leads_id"] = {str(lead): {"ID": lead} for lead in person.leads}
    if old_responsible is not None:
        item["old_responsible_user_id"] = old_responsible
    return item | {"created_at": person.created_at, "updated_at": person.updated_at, "type": person.kind}


def person_stub(person: Person) -> Item:
    """Return a contact or company as in contacts[delete]."""
    return {"id": person.id, "type": person.kind}


def customer_item(customer: Customer, account: int, *, old_responsible: int | None = None) -> Item:
    """Return a customer as in customers[add|update]."""
    item: Item = {"id": customer.id, "name": customer.name, "status_id": customer.status}
    item |= {"next_price": customer.next_price, "next_date": customer.next_date, "periodicity": customer.periodicity}
    item |= {"responsible_user_id": customer.responsible, "date_create": customer.created_at}
    item |= {"last_modified": customer.updated_at, "created_user_id": customer.created_by}
    item |= {"modified_user_id": customer.modified_by, "account_id": account}
    item |= _filled(customer)
    if old_responsible is not None:
        item["old_responsible_user_id"] = old_responsible
    return item | {"created_at": customer.created_at, "updated_at": customer.updated_at}


def _filled(record: Named) -> Item:
    item: Item = {"tags": record.tags} if record.tags else {}
    if record.custom:
        item["custom_fields"] = list(record.custom.values())
    return item


def task_item(task: Task, account: int, *, change: Item | None = None) -> Item:
    """Return a task as in task[add], or with the fields of a `change` as in task[update].

    `change` may hold action_close, old_text, main_user, modified_by, old_responsible_user_id and result.
    """
    item: Item = {"id": task.id, "element_id": task.element.id, "element_type": ELEMENT_TYPES[task.element.kind]}
    item |= {"task_type": task.type, "date_create": text_time(task.created_at), "text": task.text}
    item |= {"status": int(task.done), "account_id": account, "created_user_id": task.created_by}
    item |= {"last_modified": text_time(task.updated_at), "responsible_user_id": task.responsible}
    item["complete_till"] = text_time(task.deadline)
    item |= change or {}
    return item | {"created_at": task.created_at, "updated_at": task.updated_at, "complete_before": task.deadline}


def note_item(note: Note, account: int) -> Item:
    """Return a note as in leads[note] and contacts[note]; for contacts and companies `type` stands beside it."""
    kind = note.element.kind
    source = {"event_source": {"id": note.author, "author_name": note.author_name, "type": 1}}
    inner: Item = {"text": note.text, "attachement": note.attachment}  # Kommo spells it so
    inner |= {"date_create": text_time(note.created_at, _NOTE_ZONE)}
    inner |= {"note_type": note.type, "element_type": ELEMENT_TYPES[kind], "element_id": note.element.id}
    inner |= {"catalog_id": 0, "group_id": 0, "timestamp_x": text_time(note.updated_at, _NOTE_ZONE)}
    inner |= {"account_id": account, "metadata": php_json(source), "created_by": note.author}
    inner |= {"modified_by": note.author, "main_user_id": note.author, "id": note.id}
    inner |= {"created_at": note.created_at, "updated_at": note.updated_at}
    return {"note": inner, "type": kind} if kind in ("contact", "company") else {"note": inner}


def call_text(*, uniq: str, link: str, phone: str, duration: int, source: str) -> str:
    """Return the JSON that the text of a call note holds; `duration` in seconds, `link` empty while there is none."""
    return php_json({"UNIQ": uniq, "LINK": link, "PHONE": phone, "DURATION": duration, "SRC": source})


def php_json(value: object) -> str:
    """Return JSON as PHP's json_encode writes it: no spaces, \\uXXXX beyond ASCII, slashes escaped."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/")


def text_time(seconds: int, zone: dt.tzinfo = dt.UTC) -> str:
    """Return a time as Kommo's text dates have it."""
    return dt.datetime.fromtimestamp(seconds, zone).strftime("%Y-%m-%d %H:%M:%S")
