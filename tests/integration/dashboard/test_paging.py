from __future__ import annotations

import datetime as dt
import random
import uuid

import pytest

from projections.queries import ACTIVITY, RECENT_UPDATES, Filter, View, page_query
from tests.integration.dashboard.support import NOON, ONE, TWO, Board, Rows

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("seed", range(4))
async def test_paging_never_skips_or_repeats_a_line_while_lines_come_in(board: Board, rows: Rows, seed: int) -> None:
    chance = random.Random(seed)
    token = await rows.token(ONE, TWO)

    def somewhere() -> dt.datetime:  # few moments, so that many lines share one
        return NOON + dt.timedelta(minutes=chance.randrange(6))

    async def insert() -> str:
        account = chance.choice((ONE, TWO))
        event_id = uuid.UUID(int=chance.getrandbits(128))
        sort_key = f"1-{chance.randrange(3):016d}-000000"
        return str(await rows.activity(account, somewhere(), event_id=event_id, sort_key=sort_key, move=False))

    before = {await insert() for _ in range(60)}
    seen: list[str] = []
    places: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": chance.randint(1, 9)} | ({"cursor": cursor} if cursor else {})
        answer = (await board.get("/api/v1/activity", token, **params)).json()
        seen += [item["event_id"] for item in answer["items"]]
        places += [item["occurred_at"] for item in answer["items"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
        await insert()
    assert len(seen) == len(set(seen))
    assert before <= set(seen)
    assert places == sorted(places, reverse=True)


async def test_paging_recent_updates_shows_each_untouched_entity_once(board: Board, rows: Rows) -> None:
    chance = random.Random(7)
    token = await rows.token()
    untouched = set()
    for number in range(40):
        account, entity = chance.choice((ONE, TWO)), f"{chance.choice(('lead', 'task'))}/{number}"
        await rows.update(account, NOON + dt.timedelta(minutes=chance.randrange(4)), entity=entity, move=False)
        untouched.add((account, entity))
    seen: list[tuple[int, str]] = []
    cursor: str | None = None
    later = NOON + dt.timedelta(hours=1)
    while True:
        params = {"limit": 7} | ({"cursor": cursor} if cursor else {})
        answer = (await board.get("/api/v1/recent-updates", token, **params)).json()
        seen += [(item["account_id"], f"{item['entity_type']}/{item['entity_id']}") for item in answer["items"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
        account, entity = sorted(untouched)[0]
        untouched.discard((account, entity))  # touched: moves to the front
        await rows.update(account, later, entity=entity, move=False)
    assert len(seen) == len(set(seen))
    assert untouched <= set(seen)


async def test_the_last_page_has_no_cursor(board: Board, rows: Rows) -> None:
    token = await rows.token()
    for _ in range(4):
        await rows.activity()
    first = (await board.get("/api/v1/activity", token, limit=2)).json()
    second = (await board.get("/api/v1/activity", token, limit=2, cursor=first["next_cursor"])).json()
    assert len(second["items"]) == 2
    assert second["next_cursor"] is None
    assert (await board.get("/api/v1/activity", token, limit=4)).json()["next_cursor"] is None


async def test_a_repeated_delete_is_one_line_on_every_page(board: Board, rows: Rows) -> None:
    token = await rows.token()
    first = await rows.activity(type="kommo.lead.deleted")
    await rows.activity(type="kommo.lead.deleted", at=NOON + dt.timedelta(minutes=1))
    assert [item["event_id"] for item in await board.items("/api/v1/activity", token)] == [str(first)]


async def test_the_first_page_reads_few_rows_of_many(new_rows: tuple[Rows, str]) -> None:
    rows, _ = new_rows
    await _many(rows)
    # Also when PostgreSQL has stopped planning for the values.
    await rows.connection.execute("SET plan_cache_mode = force_generic_plan")
    for view in (ACTIVITY, RECENT_UPDATES):
        for accounts in (None, (ONE,), (ONE, TWO)):
            await _reads_few(rows, view, accounts)


async def _reads_few(rows: Rows, view: View, accounts: tuple[int, ...] | None) -> None:
    query, arguments = page_query(view, Filter(accounts), None, 51)
    plan = "\n".join(
        row[0] for row in await rows.connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {query}", *arguments)
    )
    shared = next(line for line in plan.splitlines() if "Buffers: shared" in line)
    blocks = sum(int(part.split("=")[1]) for part in shared.split() if "=" in part)
    assert "Seq Scan" not in plan.replace("Seq Scan on activity_log_v2_default", ""), plan  # it is empty
    # A line looks for the one before it, in every month, and for others of its time: for its changes, and again for
    # its summary.
    assert blocks < (2500 if view is ACTIVITY else 700), plan


async def _many(rows: Rows) -> None:
    """12,000 lines of 300 accounts over three months, and 6,000 entities; ONE and TWO have few of them."""
    await rows.connection.execute(
        """
        DO $$ BEGIN FOR m IN 3..5 LOOP EXECUTE format(
            'CREATE TABLE IF NOT EXISTS kommo_projections.activity_log_v2_2026_%1$s '
            'PARTITION OF kommo_projections.activity_log_v2 '
            'FOR VALUES FROM (''2026-%1$s-01'') TO (''2026-%2$s-01'')', m, m + 1);
        END LOOP; END $$;
        INSERT INTO kommo_projections.activity_log_v2
        SELECT CASE WHEN i % 1000 < 2 THEN 31337 + (i % 1000) * 10705 ELSE 100000 + i % 300 END,
               timestamptz '2026-03-01' + i * interval '10 minutes', gen_random_uuid(), 'lead', (i % 2000)::text,
               'kommo.lead.updated', 1, 'x', NULL, NULL, NULL, 'd', 0, i, '1-' || i, 'kommo', 1, false,
               jsonb_build_object('fields', jsonb_build_object('price', i))
        FROM generate_series(0, 11999) AS i;
        INSERT INTO kommo_projections.recent_updates_v1
        SELECT CASE WHEN i % 1000 < 2 THEN 31337 + (i % 1000) * 10705 ELSE 100000 + i % 300 END, 'lead', i::text, 't',
               'kommo.lead.updated', 'x', 1, timestamptz '2026-03-01' + i * interval '10 minutes', NULL, false,
               gen_random_uuid(), '{}'
        FROM generate_series(0, 5999) AS i;
        ANALYZE kommo_projections.activity_log_v2; ANALYZE kommo_projections.recent_updates_v1;
        """
    )
