"""What tests of the order of reading share: a world's deliveries as a log, and its events read in other ways."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence

from projections.reading import LoggedEvent
from tests.support.projections import Log


def arrived(deliveries: Iterable[tuple[float, bytes]]) -> Log:
    """The log of deliveries (unix time of receipt, body), in the order of their receipts."""
    log = Log()
    for number, (received, content) in enumerate(sorted(deliveries)):
        log.deliver(content, received + number / 1_000_000, f"delivery-{number}")
    return log


def read_anyhow(events: Sequence[LoggedEvent], rng: random.Random) -> Iterator[list[LoggedEvent]]:
    """The same events in any order, some of them twice, cut into batches somewhere."""
    read = [*events, *rng.choices(events, k=rng.randrange(1 + len(events)))]
    rng.shuffle(read)
    cuts = sorted(rng.randrange(len(read) + 1) for _ in range(rng.randrange(6)))
    return (read[start:end] for start, end in itertools.pairwise([0, *cuts, len(read)]) if start < end)
