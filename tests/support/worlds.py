"""What tests of the order of reading share: worlds of events, their log, and the same events read in other ways."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from projections.folding import State
from projections.reading import LoggedEvent
from tests.support.projections import Log

S = TypeVar("S", bound=State)


def one_of_each(*choices: Sequence[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """One of each of these, drawn at once: that costs a tenth of a draw for each."""
    return st.sampled_from(list(itertools.product(*choices)))


def some_of(**choices: Sequence[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Each of these names with one of its values, or not at all."""
    left_out = object()
    return one_of_each(*((left_out, *values) for values in choices.values())).map(
        lambda chosen: {name: value for name, value in zip(choices, chosen, strict=True) if value is not left_out}
    )


def orders() -> st.SearchStrategy[random.Random]:
    """What shuffles and cuts: one draw of a seed, where st.randoms() draws for each step of a shuffle."""
    return st.builds(random.Random, st.integers(0, 2**32 - 1))


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


def state_of(kind: type[S], events: Iterable[LoggedEvent], *, stored: bool = False) -> S:
    """The state that these events fold into; `stored`: written and read again after each, as between two batches."""
    state = kind()
    for event in events:
        state.fold(event)
        if stored:
            state = kind.from_json(state.to_json())
    return state


def assert_any_order_gives_the_same_state(kind: type[S], events: Sequence[LoggedEvent], rng: random.Random) -> None:
    """The same events in another order, some of them again, fold into the same state and the same columns."""
    expected = state_of(kind, events)
    for stored in (False, True):
        read = [*events, *rng.choices(events, k=3)]
        rng.shuffle(read)
        state = state_of(kind, read, stored=stored)
        assert state == expected
        assert state.columns() == expected.columns()
