"""Mutated bodies through decode to events: no crash, no hang, nothing vanishes.

    python -m tests.soak.schemas.fuzz                             # a million bodies, on all cores (make fuzz)
    python -m tests.soak.schemas.fuzz --seed 7 --only 4711        # one of them again

A body is made from the seed and its number alone, so a failure is repeated on any machine by these two. It is written
to a file as it is; nothing is minimised. Exit code: 0 all held, 1 something failed.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
import re
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import click

from schemas.catalogue import WEBHOOK_TYPES
from schemas.decoder import Decoded
from schemas.delivery import Delivery, Door
from schemas.errors import ErrorClass
from schemas.form import parse_form
from simulator.company import deliveries
from tests.support.webhooks import ACCOUNT_ID, CALL_TEXTS, DELIVERY_ID, ODD_TEXTS, RECEIVED_US, checked, load, same
from tests.support.webhooks import bodies as corpus

COUNT = 1_000_000
SECONDS = 10.0
"""What counts as hanging, for a body of some kB. It is decoded twice and read thrice in less than a millisecond."""

_PART = 1000  # bodies that a process takes at a time
_ENOUGH = 20  # failures after which it stops

_WORDS = """
    leads contacts task unsorted catalogs talk message outgoing_message customers account add chat_template_reviews
    update delete restore status responsible note mail_in call_in chat site_visit period merge
    id uid talk_id type name text note_type element_type element_id created_at updated_at last_modified date_create
    old_status_id status_id pipeline_id old_responsible_user_id responsible_user_id old_text action_close result
    custom_fields values value enum tags linked_leads_id _links self subdomain link json 0 1 2 00 -1 40326593 a.b ж
"""
NAMES = [*_WORDS.split(), "", "a b", "x" * 70, "\x00", "\n", "[", "]", "%5B"]
TEXTS = [*ODD_TEXTS, *CALL_TEXTS, "1", "2", "3", "10", "11", "12", "contact", "incoming", "outgoing", "accept", "'a'"]
_BITS = [
    b"&",
    b"=",
    b"[",
    b"]",
    b"[]",
    b"%",
    b"%5B",
    b"%5D",
    b"%00",
    b"+",
    b"\x00",
    b"\xff",
    b"\n",
    b"0",
    b"[0]",
    b"{",
    b"'",
]


@dataclass(frozen=True, slots=True)
class Start:
    """A body to begin with, and how it came."""

    body: bytes
    account_id: int = ACCOUNT_ID
    content_type: str = ""
    door: Door = "webhook"


@functools.cache
def starts() -> list[Start]:
    """Return the bodies of the corpus, the examples of the catalogue and a simulated company's bodies."""
    found = []
    for path in corpus():
        body = path.read_bytes()
        named = re.search(rb"account%5Bid%5D=(\d+)|account\[id\]=(\d+)", body)
        found.append(Start(body, int(named[1] or named[2]) if named else ACCOUNT_ID))
    for kind in WEBHOOK_TYPES.values():
        json = kind.example.startswith("{")
        door = kind.door or "webhook"
        found.append(Start(kind.example.encode(), content_type="application/json" if json else "", door=door))
    return found + [Start(sent.body) for sent in islice(deliveries(7, ACCOUNT_ID, 1_789_000_000), 300)]


# Mutations: each takes a body and returns another


def _bytes(chance: random.Random, body: bytes) -> bytes:
    """A slice taken out, doubled, or replaced."""
    start = chance.randrange(len(body) + 1)
    end = min(len(body), start + chance.choice([0, 1, 1, 2, 5, 40]))
    part = chance.choice(
        [b"", body[start:end] * 2, chance.choice(_BITS), chance.randbytes(chance.randrange(4)), b"9" * 25]
    )
    return body[:start] + part + body[end:]


def _cut(chance: random.Random, body: bytes) -> bytes:
    return body[: chance.randrange(len(body) + 1)]


def _pairs(chance: random.Random, body: bytes) -> bytes:
    """Pairs left out, doubled, in another order."""
    pairs = body.split(b"&")
    how = chance.randrange(4)
    if how == 0:
        del pairs[chance.randrange(len(pairs))]
    elif how == 1:
        pairs.insert(chance.randrange(len(pairs) + 1), chance.choice(pairs))
    elif how == 2:
        chance.shuffle(pairs)
    else:
        pairs = pairs[chance.randrange(len(pairs)) :] + pairs[: chance.randrange(len(pairs))]
    return b"&".join(pairs)


def _keys(chance: random.Random, body: bytes) -> bytes:
    """The names in one key, or one name in all of them."""
    pairs = body.split(b"&")
    place = chance.randrange(len(pairs))
    key, equals, value = pairs[place].partition(b"=")
    names = re.split(rb"\[|%5[Bb]", key.replace(b"%5D", b"]").replace(b"]", b""))
    at = chance.randrange(len(names))
    new = chance.choice(NAMES).encode()
    if chance.random() < 0.4 and names[at]:
        return body.replace(names[at], new)
    how = chance.randrange(5)
    if how == 0:
        names[at] = new
    elif how == 1:
        names.insert(at, new)
    elif how == 2 and len(names) > 1:
        del names[at]
    elif how == 3:
        names += [new] * chance.choice([1, 1, 2, 70])
    else:
        names[at] = names[at] + chance.choice(_BITS)
    pairs[place] = names[0] + b"".join(b"[" + name + b"]" for name in names[1:]) + equals + value
    return b"&".join(pairs)


def _values(chance: random.Random, body: bytes) -> bytes:
    """One value, or a pair more whose key is another's."""
    pairs = body.split(b"&")
    place = chance.randrange(len(pairs))
    key = pairs[place].partition(b"=")[0]
    text = chance.choice(TEXTS).encode("utf-8", "surrogatepass")
    value = text if chance.random() < 0.2 else "".join(f"%{byte:02X}" for byte in text).encode()
    if chance.random() < 0.3:
        head = re.match(rb".*(?=\[|%5B)", key)
        key = (head[0] if head else key) + b"[" + chance.choice(NAMES).encode() + b"]"
        pairs.insert(place, key + b"=" + value)
    else:
        pairs[place] = key + b"=" + value
    return b"&".join(pairs)


def _another(chance: random.Random, body: bytes) -> bytes:
    """Two bodies in one: their items beside each other, or the halves of two."""
    other = chance.choice(starts()).body
    if chance.random() < 0.5:
        index = str(chance.randrange(1, 4)).encode()
        return body + b"&" + other.replace(b"%5B0%5D", b"%5B" + index + b"%5D", 1).replace(b"[0]", b"[" + index + b"]")
    return body[: chance.randrange(len(body) + 1)] + other[chance.randrange(len(other) + 1) :]


def _spelling(chance: random.Random, body: bytes) -> bytes:
    """The same, percent-encoded in another way."""
    old, new = chance.choice([(b"%5B", b"["), (b"[", b"%5b"), (b"%5D", b"]"), (b"0%5D", b"%5D"), (b"[0]", b"[]")])
    return body.replace(old, new) if chance.random() < 0.5 else body.replace(old, new, 1)


def _shape(chance: random.Random, body: bytes) -> bytes:
    """A level more or less in every key: no index, no action, an index below the index."""
    old = chance.choice([b"%5B0%5D", b"[0]", b"%5Badd%5D", b"%5Bupdate%5D", b"%5Bnote%5D", b"[add]"])
    return body.replace(old, chance.choice([b"", b"[]", old * 2, b"[7][8]", b"[x]", b"[1]"]))


MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [
    _bytes, _bytes, _cut, _pairs, _keys, _keys, _values, _values, _another, _spelling, _shape,
]  # fmt: skip


def mutated(seed: int, number: int) -> Delivery:
    """Return the delivery of this number: a start and one to eight mutations of it."""
    chance = random.Random(f"{seed}/{number}")
    start = chance.choice(starts())
    body = start.body
    for _ in range(chance.choice([1, 1, 1, 2, 2, 3, 5, 8])):
        body = chance.choice(MUTATIONS)(chance, body)
    content_type = start.content_type if chance.random() < 0.9 else "application/json"
    door: Door = start.door if chance.random() < 0.98 else "integration-disabled"
    return Delivery(start.account_id, DELIVERY_ID, RECEIVED_US, body, content_type=content_type, door=door)


# What must hold


def hold(delivery: Delivery) -> Decoded:
    """Decode, and hold that it ends well and that nothing of the body has vanished."""
    decoded = checked(delivery)
    for rejection in decoded.rejections:
        assert rejection.reason, rejection
        assert len(rejection.reason) < 400, rejection
        assert rejection.error_class in (ErrorClass.VALIDATION, ErrorClass.AUTHORIZATION), rejection
    if any(rejection.item == "" for rejection in decoded.rejections):
        assert len(decoded.rejections) == 1, decoded.rejections  # the whole body, once
        assert decoded.events == [], decoded.rejections
        return decoded
    events = [load(event) for event in decoded.events]
    if delivery.door == "webhook" and not (len(events) == 1 and events[0]["item"] == ""):
        _nothing_vanished(delivery, events, {rejection.item for rejection in decoded.rejections})
    return decoded


def _nothing_vanished(delivery: Delivery, events: list[dict[str, Any]], rejected: set[str]) -> None:
    """Each leaf of the form lies in exactly one item, and an event says all that its item says."""
    form = parse_form(delivery.body)
    items = rejected | {event["item"] for event in events}
    nodes: dict[str, list[tuple[tuple[str, ...], Any]]] = {}
    for path, node in _upper(form):
        nodes.setdefault(_shown(path), []).append((path, node))
    for event in events:
        found = nodes.get(event["item"], [])
        assert any(_says(event["data"], path, node) for path, node in found), (event["item"], event["data"], found)
    block = form.get("account")
    carried = isinstance(block, dict) and "account" not in items
    if carried:
        for event in events:
            account = event["data"].get("account", {})
            assert same(block, {name: value for name, value in account.items() if name != "link"}), account
    assert not {event["item"] for event in events} & rejected
    for path in _leaves(form):
        if carried and path[0] == "account":
            continue
        covering = [shown for shown in (_shown(path[:size]) for size in (1, 2, 3)[: len(path)]) if shown in items]
        ambiguous = len(path) > 1 and len(nodes[_shown(path[:3])]) > 1
        assert len(set(covering)) == 1 or (ambiguous and covering), (path, covering, items)


def _upper(form: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The nodes that may be items: ENTITY, ENTITY[ACTION], ENTITY[ACTION][INDEX]."""
    for key, actions in form.items():
        yield (key,), actions
        for action, its in actions.items() if isinstance(actions, dict) else ():
            yield (key, action), its
            for index, item in its.items() if isinstance(its, dict) else ():
                yield (key, action, index), item


def _leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(node, dict):
        for name, child in node.items():
            yield from _leaves(child, (*path, name))
    else:
        yield path


def _shown(path: tuple[str, ...]) -> str:
    """A path as an event's `item` has it."""
    text = (path[0] + "".join(f"[{name}]" for name in path[1:]))[:256]
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _says(data: dict[str, Any], path: tuple[str, ...], node: Any) -> bool:
    """Whether an event's data says what its item says."""
    if "fields" in data:
        whole = node
        for name in reversed(path):
            whole = {name: whole}
        return same(whole, data["fields"])
    if "note" in data and isinstance(node.get("note"), dict):
        beside = data.get("beside", {})
        if isinstance(beside, list):
            beside = {str(number): value for number, value in enumerate(beside)}
        return same(node, {"note": data["note"], **beside})
    read = next(
        data[name] for name in reversed(data) if name not in ("account", "changes", "trigger", "beside", "call")
    )
    if isinstance(node, str):  # {entity: {delete: id}}
        node = {"uid" if "uid" in read else "id": node}
    return same(node, read)


# The run


@dataclass(slots=True)
class Found:
    """What became of some bodies; `failures` are (number, body, what went wrong)."""

    bodies: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, bytes, str]] = field(default_factory=list)


def fuzz(seed: int, numbers: range) -> Found:
    """Try bodies one after another; one that takes longer than SECONDS fails."""
    found = Found(len(numbers))
    for number in numbers:
        delivery = mutated(seed, number)
        began = time.process_time()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            decoded = hold(delivery)
        except Exception:  # noqa: BLE001 whatever it is, it is what is looked for
            found.failures.append((number, delivery.body, traceback.format_exc(limit=-6)))
            if len(found.failures) >= _ENOUGH:
                break
        else:
            found.counts["events"] += len(decoded.events)
            found.counts["rejections"] += len(decoded.rejections)
            found.counts["bodies rejected whole"] += any(not rejection.item for rejection in decoded.rejections)
            found.counts["unrecognized"] += sum(event.type == "kommo.unrecognized" for event in decoded.events)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        took = time.process_time() - began
        found.seconds += took
        found.longest = max(found.longest, took)
    return found


def _hangs(_number: int, _frame: object) -> None:
    raise TimeoutError(f"not decoded in {SECONDS:g} s")


def _tried(parts: list[tuple[int, range]], jobs: int) -> Iterator[Found]:
    if jobs == 1:
        signal.signal(signal.SIGALRM, _hangs)
        yield from map(_part, parts)
    else:
        with multiprocessing.get_context("spawn").Pool(jobs, _start) as pool:
            yield from pool.imap_unordered(_part, parts)


def _start() -> None:
    signal.signal(signal.SIGALRM, _hangs)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and it its processes


def _part(task: tuple[int, range]) -> Found:
    return fuzz(*task)


@click.command()
@click.option("--count", type=click.IntRange(1), default=COUNT, show_default=True, help="Bodies.")
@click.option("--seed", type=int, help="What the bodies are made from.  [default: a new one]")
@click.option("--only", type=click.IntRange(0), help="Only the body of this number.")
@click.option("--jobs", type=click.IntRange(1), help="Processes.  [default: one a core]")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("build/fuzz"), show_default=True, help="For failures."
)
def main(count: int, seed: int | None, only: int | None, jobs: int | None, out: Path) -> None:
    """Mutate bodies, decode them, and say whether all held."""
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed
    print(f"seed {seed}, {len(starts())} bodies to start from", flush=True)
    numbers = range(count) if only is None else range(only, only + 1)
    parts = [(seed, numbers[at : at + _PART]) for at in range(0, len(numbers), _PART)]
    total, began, said = Found(), time.monotonic(), time.monotonic()
    for found in _tried(parts, min(jobs or os.cpu_count() or 1, len(parts))):
        total.bodies += found.bodies
        total.seconds += found.seconds
        total.longest = max(total.longest, found.longest)
        total.counts += found.counts
        for number, body, why in found.failures:
            total.failures.append((number, body, why))
            _tell(seed, number, body, why, out)
        if time.monotonic() - said > 5 or found.failures:
            said = time.monotonic()
            rate = total.bodies / (said - began)
            print(f"{total.bodies:,} of {len(numbers):,}, {rate:,.0f}/s, {len(total.failures)} failed", flush=True)
        if len(total.failures) >= _ENOUGH:
            break
    counts = ", ".join(f"{number:,} {name}" for name, number in total.counts.items())
    each, longest = total.seconds / total.bodies * 1e6, total.longest * 1e3
    print(f"{total.bodies:,} bodies in {time.monotonic() - began:.0f} s: {counts}")
    print(f"{each:.0f} us of CPU a body with its checks, the longest {longest:.0f} ms; {len(total.failures)} failed")
    sys.exit(1 if total.failures else 0)


def _tell(seed: int, number: int, body: bytes, why: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{seed}-{number}.body"
    file.write_bytes(body)
    print(f"body {number} failed:\n{why}")
    print(f"It is in {file}. Again: python -m tests.soak.schemas.fuzz --seed {seed} --only {number}", flush=True)


if __name__ == "__main__":
    main()
