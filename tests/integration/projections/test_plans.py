"""What a page costs: each filter of the calls by an index, and no line of the activity log plans anything anew."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from projections.queries import ACTIVITY, CALLS, Filter, Key, View, page, page_query
from tests.support.plans import cost, full_tables
from tests.support.projections import Tables, open_tables
from tests.support.servers import Servers

ONE, TWO = 31337, 42042
_MIDDLE = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)

_numbers = itertools.count()


async def _page_cost(tables: Tables, view: View, wanted: Filter, after: Key | None = None) -> tuple[int, str]:
    """Return the blocks that a page of 50 touches, and its plan, as a prepared statement: EXPLAIN alone has the values.

    plan_cache_mode says whether it is planned for them.
    """
    query, arguments = page_query(view, wanted, after, 51)
    name = f"page_{next(_numbers)}"
    await tables.connection.execute(f"PREPARE {name} AS {query}")
    return await cost(tables.connection, f"EXECUTE {name}({', '.join(map(_literal, arguments))})")


def _literal(value: Any) -> str:
    text = f"{{{','.join(map(str, value))}}}" if isinstance(value, list) else str(value)
    return f"'{text}'"


# Of ONE's calls one in a hundred is outgoing, all of them old, and one in a hundred was not recorded, all of them old.
_CALLS = """
INSERT INTO kommo_projections.calls_v1
SELECT CASE WHEN i % 10 < 8 THEN 31337 ELSE 42042 END, 'call-' || i, 'contact', (i % 900)::text,
       CASE WHEN i < 4000 AND i % 20 = 0 THEN 'out' ELSE 'in' END, '+1555' || i, 60, 'conversation', NULL, 'pbx',
       CASE WHEN i < 4000 AND i % 20 = 1 THEN NULL ELSE 'https://example.com/' || i END, 7,
       timestamptz '2026-01-01' + i * interval '10 minutes', gen_random_uuid(), NULL,
       jsonb_build_object('logged', repeat(md5(i::text), 20))
FROM generate_series(0, 19999) AS i;
ANALYZE kommo_projections.calls_v1
"""


_LINES = """
DO $$ BEGIN FOR m IN 1..8 LOOP EXECUTE format(
    'CREATE TABLE kommo_projections.activity_log_v2_2026_0%1$s PARTITION OF kommo_projections.activity_log_v2 '
    'FOR VALUES FROM (''2026-0%1$s-01'') TO (''2026-0%2$s-01'')', m, m + 1);
END LOOP; END $$;
INSERT INTO kommo_projections.activity_log_v2
SELECT 31337, timestamptz '2026-01-01' + i * interval '1 hour', gen_random_uuid(), 'talk', (i % 200)::text,
       'kommo.talk.updated', 1, 'x', NULL, NULL, NULL, 'd', 0, i, '1-' || lpad(i::text, 16, '0') || '-000000', 'kommo',
       1, false, jsonb_build_object('fields', jsonb_build_object('is_in_work', 0, 'rate', i))
FROM generate_series(0, 5799) AS i;
ANALYZE kommo_projections.activity_log_v2
"""


@pytest.fixture(scope="module")
def full(shared_servers: Servers) -> Iterator[str]:
    with full_tables(shared_servers, _CALLS, _LINES) as url:
        yield url


@pytest.fixture
async def tables(full: str) -> AsyncIterator[Tables]:
    """Full tables, which no test here changes, on a connection of the test's own."""
    async with open_tables(full) as opened:
        yield opened


# PostgreSQL plans a page for its values at first, and from the sixth time on perhaps once for all values. With that
# plan the pages of all accounts at once may go along the time, which a small table allows.
@pytest.mark.parametrize(
    ("accounts", "plans"),
    [
        ((ONE,), "force_custom_plan"),
        ((ONE,), "force_generic_plan"),
        ((ONE, TWO), "force_custom_plan"),
        ((ONE, TWO), "force_generic_plan"),
        (None, "force_custom_plan"),
    ],
)
async def test_calls_of_a_direction_and_calls_without_a_recording_are_found_by_an_index(
    tables: Tables, accounts: tuple[int, ...] | None, plans: str
) -> None:
    await tables.connection.execute(f"SET plan_cache_mode = {plans}")
    filters: list[tuple[tuple[str, Any], ...]] = [
        (("direction", "out"),),
        (("direction", "in"),),
        (("recording", False),),
        (("recording", True),),
        (("direction", "out"), ("recording", False)),
    ]
    for more in filters:
        wanted = Filter(accounts, more=more)
        for after in (None, (_MIDDLE, ONE, "call-5")):
            blocks, plan = await _page_cost(tables, CALLS, wanted, after)
            assert "Seq Scan" not in plan, (more, after, plan)
            assert blocks < 500, (more, after, plan)


async def test_pages_of_calls_by_these_indexes_are_the_calls_there_are(tables: Tables) -> None:
    for more, condition in (
        ((("direction", "out"),), "direction = 'out'"),
        ((("recording", False),), "recording_url IS NULL"),
    ):
        wanted = [
            row["call_id"]
            for row in await tables.rows(
                f"SELECT call_id FROM kommo.calls WHERE account_id = {ONE} AND {condition} ORDER BY occurred_at DESC"
            )
        ]
        assert len(wanted) > 100
        found: list[str] = []
        after: Key | None = None
        while not found or after is not None:
            rows, after = await page(tables.connection, CALLS, Filter((ONE,), more=more), after, 30)
            found += [row["call_id"] for row in rows]
        assert found == wanted


async def test_a_page_of_lines_does_not_plan_its_look_ups_anew(tables: Tables) -> None:
    """Each plan of a look-up reads the catalogue of every month: more than the look-up itself."""
    for _ in range(8):  # until whatever is kept of plans is kept
        blocks, plan = await _page_cost(tables, ACTIVITY, Filter((ONE,)))
    assert blocks < 5000, plan  # 3,300; 16,000 with plans


async def test_lines_that_are_sorted_and_not_shown_work_out_no_changes(tables: Tables) -> None:
    """PostgreSQL works expensive columns out after the LIMIT, as long as they are plain columns of the view."""
    lines = f"SELECT summary, changes FROM kommo.activity_log WHERE account_id = {ONE}"
    blocks, plan = await cost(tables.connection, f"{lines} ORDER BY log_offset LIMIT 10")
    assert blocks < 5000, plan  # 540; 74,000 if each of the 5,800 lines works them out
