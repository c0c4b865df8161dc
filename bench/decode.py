"""A webhook's body to its form and to its events, beside urllib with nesting and beside the library aioamocrm.

No servers: CPU time of one process. What parse_form remembers of keys and short values is warm, as it is in ingest,
whose bodies come from few senders; the bodies that are all different show what that is worth.
"""

from __future__ import annotations

import random
import re
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from bench.report import MICROSECONDS, Report, compare
from bench.world import ROOT, bodies
from runtime.process import tune_collector
from schemas.decoder import decode
from schemas.delivery import Delivery
from schemas.form import parse_form

try:
    from aioamocrm import parse_webhook  # type: ignore[import-not-found,unused-ignore]
    from aioamocrm._webhooks import parse_form as aioamocrm_form  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # not among our dependencies: pip install aioamocrm
    parse_webhook = aioamocrm_form = None

REPEATS = 3000
BODY = ROOT / "tests" / "schemas" / "corpus" / "036-leads-update.form"  # 2 kB: a lead with custom fields

Parse = Callable[[bytes], object]


async def run(report: Report, rounds: int) -> None:
    """Microseconds a body."""
    tune_collector()
    body = BODY.read_bytes()
    one, all_different = [body], list(_different(body, REPEATS))
    simulated = [body for _, body in bodies(REPEATS)]
    name = "form of a lead of 2 kB (corpus 036)"
    cases: list[tuple[str, Parse, Parse, str, list[bytes], float, float | None]] = [
        (name, parse_form, nested, "urllib and nesting", one, 3.0, 40.0),
        (f"{name}, each value another", parse_form, nested, "urllib and nesting", all_different, 3.0, 40.0),
        ("form of simulated bodies", parse_form, nested, "urllib and nesting", simulated, 3.0, None),
        ("events of a lead of 2 kB (corpus 036)", _events, nested, "its form by urllib and nesting", one, 1.0, None),
    ]
    if parse_webhook is None:
        print("aioamocrm is not installed (pip install aioamocrm): nothing beside it", flush=True)
    else:
        cases += [
            (name, parse_form, aioamocrm_form, "aioamocrm 0.1 parse_form", one, 3.0, 40.0),
            (
                "events of a lead of 2 kB (corpus 036)",
                _events,
                parse_webhook,
                "aioamocrm 0.1 parse_webhook",
                one,
                1.0,
                None,
            ),
        ]
    for what, ours, theirs, reference, items, aim, ceiling in cases:
        await compare(
            report,
            what,
            _timed(ours, items),
            _timed(theirs, items),
            reference,
            aim,
            rounds,
            unit=MICROSECONDS,
            ceiling=ceiling,
        )


def nested(body: bytes) -> dict[str, Any]:
    """The reference: what most receivers do, for whole keys and no `[]`."""
    root: dict[str, Any] = {}
    for key, value in urllib.parse.parse_qsl(body.decode(), keep_blank_values=True):
        name, *rest = key.replace("]", "").split("[")
        node = root
        for part in rest:
            node = node.setdefault(name, {})
            name = part
        node[name] = value
    return root


def _events(body: bytes) -> object:
    return decode(Delivery(16700680, "01990000-0000-7000-8000-000000000000", 1_790_000_000_000_000, body))


def _different(body: bytes, count: int) -> Any:
    """The same lead with other values each time, as long as they were."""
    chance = random.Random(36)
    for _ in range(count):
        yield re.sub(rb"(?<==)[^&]+", lambda found: _other(found[0], chance), body)


def _other(value: bytes, chance: random.Random) -> bytes:
    # Digits and letters are changed, escapes are not.
    return re.sub(rb"(%..)|[0-9a-z]", lambda found: found[1] or b"%d" % chance.randrange(10), value)


def _timed(parse: Parse, items: list[bytes]) -> Callable[[], Any]:
    async def measure() -> float:
        chosen = items * (REPEATS // len(items))
        start = time.process_time()
        for body in chosen:
            parse(body)
        return (time.process_time() - start) / len(chosen) * 1e6

    return measure
