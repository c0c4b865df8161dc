"""Words the simulated company is made of: people, companies, deals, tasks and what is written in notes.

Nobody in here exists: mail addresses end in the reserved `.example`, telephone numbers lie in the blocks that are kept
free for fiction (+1 NXX 555 01XX and +44 20 7946 0XXX). Texts are in several languages on purpose: real accounts are.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

SUBDOMAIN: Final = "northgate"
"""The subdomain of the simulated account: https://northgate.kommo.com."""

ADDRESSES: Final = (
    "14 Harbour Street, Unit 3, London E1 6AN",
    "Av. Corrientes 1234, piso 5 «B», Buenos Aires",
    "г. Тверь, ул. Садовая, д. 8/2, кв. 41",
)
COMMENTS: Final = (
    'Asked for two quotes: with & without installation. Deadline "end of month".',
    "Cliente recomendado; prefiere visita por la tarde (después de las 16:00).",
    "Скидка согласована: 5% за предоплату.\nПеред выездом позвонить.",
    "100% prepaid + delivery",
)

USERS: Final = ("Laura Mendes", "Igor Sokolov", "Priya Nair", "Tom Becker", "Camila Duarte")


@dataclass(frozen=True, slots=True)
class Language:
    """What people of one language are called, and what they buy. `latin` spells their names for mail addresses."""

    given: tuple[str, ...]
    family: tuple[str, ...]
    companies: tuple[str, ...]
    deals: tuple[str, ...]
    tasks: tuple[str, ...]
    notes: tuple[str, ...]
    latin: dict[str, str]


_ENGLISH = Language(
    given=("Olivia", "James", "Sophie", "Daniel", "Grace", "Ryan", "Hannah", "Marcus", "Chloe", "Owen", "Aisha", "Leo"),
    family=("Turner", "O'Brien", "Patel", "Whitfield", "Hughes", "Lindqvist", "Carter", "Novak", "Ellis", "Marsh"),
    companies=(
        "Harbour & Finch Ltd",
        "Bluestone Dental",
        "Copperline Logistics",
        "Marsh Lane Interiors",
        "Apex Fitness Studios",
        "Greenway Solar, Inc.",
        "Tidewater Legal LLP",
        "Juniper Travel",
    ),
    deals=(
        "Website redesign",
        "CRM rollout, {n} seats",
        "Annual support 2026",
        "Office fit-out",
        "Pilot: {n} licences",
    ),
    tasks=("Call back about the quote", "Send the contract", "Prepare a demo", "Ask for the signed offer"),
    notes=(
        "Wants a quote by Friday, budget approved.",
        "Decision maker is back next week.\nAsked for two references.",
        'Said: "price is fine, delivery date is not".',
        "Prefers e-mail & short calls (after 4 pm).",
    ),
    latin={},
)

_SPANISH = Language(
    given=("Lucía", "Mateo", "Valentina", "Andrés", "Camila", "Sebastián", "Martín", "Inés", "Joaquín", "Renata"),
    family=("García", "Núñez", "Rodríguez", "Peña", "Castillo", "Ibáñez", "Quiroga", "Salinas", "Ríos", "Ortega"),
    companies=(
        "Clínica Los Álamos",
        "Ferretería El Tornillo",
        "Muebles Peña e Hijos",
        "Inmobiliaria Costa Azul",
        "Café Montaña S.A.",
        "Transportes Quiroga",
    ),
    deals=("Cocina a medida", "Plan anual ({n} usuarios)", "Departamento 3 ambientes", "Renovación de póliza"),
    tasks=("Llamar por la cotización", "Enviar el presupuesto", "Confirmar la visita", "Reclamar el anticipo"),
    notes=(
        "Pide factura y envío a domicilio.",
        "¿Se puede pagar en 3 cuotas? Responder hoy.",
        "Vio el catálogo; le interesa el modelo básico.",
    ),
    latin={"á": "a", "é": "e", "í": "i", "ó": "o", "ú": "u", "ñ": "n"},
)

_ROMAN = dict(zip("абвгдезийклмнопрстуфыэ", "abvgdeziyklmnoprstufye", strict=True))
_ROMAN |= {"ж": "zh", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "sch", "ю": "yu", "я": "ya", "ь": ""}

_RUSSIAN = Language(
    given=("Анна", "Дмитрий", "Мария", "Сергей", "Елена", "Алексей", "Ольга", "Павел", "Ирина", "Никита"),
    family=("Кузьменко", "Бондаренко", "Литвин", "Шевчук", "Коваль", "Ткаченко", "Марченко", "Романюк"),
    companies=("ООО «Ремстрой»", "Стоматология «Улыбка»", "Автосервис Гараж 24", "ТК «Вектор»", "Студия Окна+"),
    deals=("Остекление балкона", "Ремонт офиса, {n} м²", "Поставка оборудования", "Имплантация, консультация"),
    tasks=("Перезвонить клиенту", "Отправить КП", "Согласовать замер", "Уточнить реквизиты"),
    notes=(
        "Просит скидку 5% за предоплату.",
        "Замер в субботу, 11:00. Код домофона уточнить.",
        "Думает до конца месяца.",
    ),
    latin=_ROMAN,
)

_LANGUAGES: Final = (_ENGLISH, _ENGLISH, _SPANISH, _SPANISH, _RUSSIAN)
_AREA_CODES: Final = ("202", "303", "415", "512", "617", "786")
_DOMAINS: Final = ("mail", "inbox", "post", "office")
POSITIONS: Final = ("Owner", "Head of sales", "Office manager", "Gerente", "Директор")
RESULTS: Final = ("Agreed, contract sent", "No answer, will try again", "Cliente confirmó", "Договорились на вторник")


def language(rng: random.Random) -> Language:
    """Return the language of a new customer."""
    return rng.choice(_LANGUAGES)


def person(rng: random.Random, speaks: Language) -> str:
    """Return a person's full name."""
    return f"{rng.choice(speaks.given)} {rng.choice(speaks.family)}"


def deal(rng: random.Random, speaks: Language, customer: str) -> str:
    """Return what a deal is called."""
    name = rng.choice(speaks.deals).format(n=rng.choice((5, 10, 12, 40, 120)))
    return f"{name} - {customer}" if rng.random() < 0.6 else name


def email(rng: random.Random, speaks: Language, name: str) -> str:
    """Return a mail address for a name, in the top-level domain that is reserved for examples (RFC 2606)."""
    local = "".join(speaks.latin.get(letter, letter) for letter in name.lower().replace(" ", ".").replace("'", ""))
    return f"{local}@{rng.choice(_DOMAINS)}.example"


def phone(rng: random.Random) -> str:
    """Return a telephone number that belongs to nobody."""
    if rng.random() < 0.5:
        return f"+1{rng.choice(_AREA_CODES)}55501{rng.randrange(100):02d}"
    return f"+442079460{rng.randrange(1000):03d}"
