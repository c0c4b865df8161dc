"""What every simulated account is set up with: custom fields, pipelines, users, task types, as its webhooks show them.

The ids are those that simulator/fields.py, simulator/leads.py and simulator/world.py use: what `simulate` posts and
what this API answers are of one account. Shapes as in https://developers.kommo.com/reference (custom_fields,
pipelines, users, account); stages 142 and 143 are won and lost in every pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from simulator import names
from simulator.leads import LOST, PIPELINES, WON
from simulator.world import USER_NAMES

FieldType = Literal[
    "text",
    "textarea",
    "numeric",
    "checkbox",
    "select",
    "multiselect",
    "radiobutton",
    "date",
    "birthday",
    "url",
    "multitext",
    "tracking_data",
]

CHOICES: Final = frozenset({"select", "multiselect", "radiobutton"})

FIRST_USER: Final = next(iter(USER_NAMES))
TASK_TYPES: Final = {1: "Follow-up", 2: "Meeting"}
STAGES: Final = {pipeline: (*stages, WON, LOST) for pipeline, stages in PIPELINES.items()}
MAIN_PIPELINE: Final = next(iter(PIPELINES))


@dataclass(frozen=True, slots=True)
class Field:
    """A custom field; `enums` are its choices by id, for a multitext the kinds of a number or address."""

    id: int
    name: str
    type: FieldType
    code: str | None = None
    enums: Mapping[int, str] = field(default_factory=dict)


def _choice(identifier: int, name: str, kind: FieldType, first: int, *values: str) -> Field:
    return Field(identifier, name, kind, enums={first + 2 * number: value for number, value in enumerate(values)})


_PHONE: Final = Field(
    771906,
    "Phone",
    "multitext",
    "PHONE",
    {552476 + 2 * number: kind for number, kind in enumerate(("WORK", "WORKDD", "MOB", "FAX", "HOME", "OTHER"))},
)
_EMAIL: Final = Field(771908, "Email", "multitext", "EMAIL", {552488: "WORK", 552490: "PRIV", 552492: "OTHER"})
_UTM: Final = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")

_LEAD: Final = (
    _choice(467289, "Source", "select", 917601, "Instagram", "Google Ads", "Referral", "Сарафанное радио"),
    Field(1246491, "Delivery date", "date"),
    Field(1246485, "Discount, %", "numeric"),
    Field(1246483, "Delivery address", "textarea"),
    Field(1246487, "Contract signed", "checkbox"),
    _choice(
        1246495,
        "Products of interest",
        "multiselect",
        908107,
        "Basic",
        "Professional",
        "Installation",
        "Support 24/7",
    ),
    _choice(1246497, "Payment", "radiobutton", 908131, "Card", "Transferencia", "Наличные"),
    Field(1246499, "Comment", "textarea"),
    Field(1246501, "Landing page", "url"),
    Field(957901, "Lead ID", "numeric"),
    *(Field(771910 + 2 * n, name, "tracking_data", name.upper()) for n, name in enumerate(_UTM)),
)
_CONTACT: Final = (
    Field(771904, "Position", "text", "POSITION"),
    _PHONE,
    _EMAIL,
    Field(1246511, "Birthday", "birthday"),
    _choice(1246513, "Language", "select", 908151, "English", "Español", "Русский"),
    _choice(1246515, "Newsletter", "radiobutton", 908171, "Yes", "No"),
)
_COMPANY: Final = (_PHONE, _EMAIL, Field(771900, "Web", "url", "WEB"), Field(771902, "Address", "textarea", "ADDRESS"))

FIELDS: Final[dict[str, dict[int, Field]]] = {
    kind: {one.id: one for one in found}
    for kind, found in (("leads", _LEAD), ("contacts", _CONTACT), ("companies", _COMPANY))
}
"""Custom fields by the plural of the entity, and by id."""

CODES: Final = {
    kind: {one.code: one for one in found.values() if one.code is not None} for kind, found in FIELDS.items()
}


def account(identifier: int, user: int, with_: frozenset[str]) -> dict[str, Any]:
    """Return GET /account."""
    told: dict[str, Any] = {"id": identifier, "name": "Northgate", "subdomain": names.SUBDOMAIN}
    told |= {"created_at": 1_600_000_000, "created_by": 0, "updated_at": 1_700_000_000, "updated_by": 0}
    told |= {"current_user_id": user, "country": "GB", "currency": "GBP", "currency_symbol": "£"}
    told |= {"customers_mode": "disabled", "is_unsorted_on": True, "is_loss_reason_enabled": False}
    told |= {"is_helpbot_enabled": False, "is_technical_account": False, "contact_name_display_order": 1}
    embedded: dict[str, Any] = {}
    if "task_types" in with_:
        embedded["task_types"] = [
            {"id": kind, "name": name, "color": None, "icon_id": None, "code": name.upper().replace("-", "_")}
            for kind, name in TASK_TYPES.items()
        ]
    if "users_groups" in with_:
        embedded["users_groups"] = [{"id": 0, "name": "Sales", "uuid": None}]
    if "version" in with_:
        told["version"] = 13
    return told | {"_embedded": embedded or []}  # PHP writes an empty map as a list


def user(identifier: int) -> dict[str, Any]:
    """Return one item of GET /users."""
    rights = dict.fromkeys(("view", "edit", "add", "delete", "export"), "A")
    everything: dict[str, Any] = dict.fromkeys(("leads", "contacts", "companies"), rights)
    everything |= {"tasks": {"edit": "A", "delete": "A"}, "mail_access": True, "catalog_access": True}
    everything |= {"is_admin": identifier == FIRST_USER, "is_free": False, "is_active": True, "group_id": None}
    everything |= {"role_id": None, "status_rights": None}
    name = USER_NAMES[identifier]
    email = f"{name.lower().replace(' ', '.')}@northgate.example"
    return {"id": identifier, "name": name, "email": email, "lang": "en", "rights": everything}


def pipeline(identifier: int, account_id: int) -> dict[str, Any]:
    """Return one item of GET /leads/pipelines."""
    number = list(PIPELINES).index(identifier)
    told: dict[str, Any] = {"id": identifier, "name": ("Sales", "Partners")[number], "sort": number + 1}
    told |= {"is_main": number == 0, "is_unsorted_on": True, "is_archive": False, "account_id": account_id}
    return told | {"_embedded": {"statuses": statuses(identifier, account_id)}}


def statuses(pipeline_id: int, account_id: int) -> list[dict[str, Any]]:
    """Return the stages of a pipeline."""
    named = {WON: "Closed - won", LOST: "Closed - lost"}
    return [
        {
            "id": stage,
            "name": named.get(stage, f"Stage {number + 1}"),
            "sort": stage if stage in named else 10 * (number + 1),
            "is_editable": stage not in named,
            "pipeline_id": pipeline_id,
            "color": "#99ccff",
            "type": 0,
            "account_id": account_id,
        }
        for number, stage in enumerate(STAGES[pipeline_id])
    ]


def custom_field(kind: str, one: Field, account_id: int) -> dict[str, Any]:
    """Return one item of GET /{leads|contacts|companies}/custom_fields."""
    told: dict[str, Any] = {"id": one.id, "name": one.name, "type": one.type, "account_id": account_id}
    told |= {"code": one.code, "sort": 500, "is_api_only": False, "group_id": None, "entity_type": kind}
    told |= {"is_predefined": one.code is not None, "is_deletable": one.code is None}
    enums = [{"id": choice, "value": value, "sort": 500} for choice, value in one.enums.items()]
    return told | {"enums": enums or None}
