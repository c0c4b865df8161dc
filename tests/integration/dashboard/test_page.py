"""The page in a real browser.

`KOMMO_TESTS_HEADED=1 pytest tests/integration/dashboard/test_page.py` shows a window, in which each step takes half a
second: to see what a test does.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route, async_playwright, expect

from runtime.settings import Settings
from schemas.actions import ACTIONS
from schemas.command import Command
from tests.integration.dashboard.support import ONE, TWO, Board, Rows, agents_migrated, kafka_of, open_board
from tests.integration.dashboard.test_outages import wire_to

_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
LOOK = 1.3
"""Seconds after which the page has asked for what the stream does not carry."""

_HEADED = os.environ.get("KOMMO_TESTS_HEADED") == "1"
_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    if _HEADED and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        pytest.fail("KOMMO_TESTS_HEADED=1 needs a display: run it on a desktop, or under xvfb-run", pytrace=False)
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=_CHROMIUM, args=_ARGUMENTS, headless=not _HEADED, slow_mo=500 if _HEADED else 0
        )
        yield started
        await started.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A tab with cookies and a clock of its own, see later().

    An error of the page's own scripts or policy fails the test that looks at `page.faults`.
    """
    context = await browser.new_context()
    page = await context.new_page()
    await page.clock.install()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console", lambda line: faults.append(line.text) if line.type == "error" and "401" not in line.text else None
    )
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.faults = faults  # type: ignore[attr-defined]
    yield page
    await context.close()


@pytest.fixture
def board(own_board: Board, monkeypatch: pytest.MonkeyPatch) -> Board:
    """Streams are of one test only, and no list is kept for long: the page's clock goes faster than the cache's."""
    monkeypatch.setattr("dashboard.pages.CACHE_MILLISECONDS", 1)
    return own_board


@pytest_asyncio.fixture(loop_scope="module")
async def door(tables: str, redis_url: str, shared_kafka: Settings) -> AsyncIterator[Board]:
    """The same with a Kafka."""
    async with open_board(tables, redis_url, **kafka_of(shared_kafka)) as running:
        yield running


def faults(page: Any) -> list[str]:
    found: list[str] = page.faults
    return found


async def later(page: Page, seconds: float) -> None:
    """Let the page's clock go on: what it does within this time, it does now."""
    await page.clock.run_for(int(seconds * 1000))


async def enter(page: Page, board: Board, rows: Rows, *accounts: int, commands: bool = False) -> None:
    await page.goto(f"{board.url}/#code={await rows.code(*accounts, commands=commands)}")
    await expect(page.locator("#state")).to_have_attribute("data-state", "live")
    await later(page, LOOK)


async def looks(page: Page, lines: int) -> None:
    """The stream has told of what happened: the log has so many lines, and the page now looks at the other lists."""
    await expect(page.locator("#activity > li")).to_have_count(lines)
    await later(page, LOOK)


async def test_the_way_in_and_out(page: Page, board: Board, rows: Rows) -> None:
    await page.goto(board.url)
    await expect(page.locator("#entry")).to_contain_text("kommo-streams dashboard-url")
    await expect(page.locator("main")).to_be_hidden()
    await enter(page, board, rows)
    assert page.url == f"{board.url}/"  # the code is gone from the address, and from the history
    assert await page.evaluate("document.cookie") == ""
    assert await page.evaluate("history.length") <= 3
    await expect(page.locator("#recent .empty")).to_contain_text("webhooks")
    await page.reload()
    await expect(page.locator("#state")).to_have_attribute("data-state", "live")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#entry")).to_contain_text("signed out")
    used = await rows.code()
    await board.client.post("/session", json={"code": used})
    await page.goto(f"{board.url}/#code={used}")  # the page is open: only its fragment changes
    await expect(page.locator("#entry-reason")).to_contain_text("works once")
    assert faults(page) == []


async def test_news_shows_within_a_second_and_only_once(page: Page, board: Board, rows: Rows) -> None:
    now = dt.datetime.now(dt.UTC)
    await rows.activity(at=now - dt.timedelta(hours=2), summary="old")
    await enter(page, board, rows)
    await expect(page.locator("#activity > li")).to_have_count(1)
    await page.evaluate("document.querySelector('#activity > li').marked = true")
    began = time.monotonic()
    await rows.activity(at=now, summary="Moved to Won", changes={"status_id": {"from": 1, "to": 142}})
    await page.wait_for_selector("text=Moved to Won", timeout=1000)
    assert time.monotonic() - began < 1
    await rows.update(at=now, title="Big deal", url="https://example.kommo.com/leads/detail/1")
    first = page.locator("#activity > li").first
    await expect(first).to_have_class("event lead fresh")
    await expect(first.locator("dl")).to_have_text("status1→142")
    await expect(first.locator("time")).to_contain_text("just now")
    await expect(page.locator("#activity > li")).to_have_count(2)
    assert await page.evaluate("document.querySelector('#activity > li:last-child').marked")  # left as it was
    await expect(page.locator("#news")).to_have_text("1 new event")
    link = page.get_by_role("link", name="Big deal")
    await expect(link).to_have_attribute("href", "https://example.kommo.com/leads/detail/1")
    await expect(link).to_have_attribute("rel", "noopener noreferrer")
    await rows.update(at=now, title="Big deal", deleted=True)
    await expect(page.locator("#recent > li")).to_have_class("card lead deleted fresh")
    assert faults(page) == []


async def test_markup_is_text_and_what_is_long_fits_a_phone(page: Page, board: Board, rows: Rows) -> None:
    attack = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    await rows.activity(
        summary=attack, entity="lead/<b>1", outcome=attack, changes={attack: {"from": attack, "to": [attack]}}
    )
    await rows.update(title=attack, summary=attack, url="javascript:alert(3)", entity="lead/1")
    await rows.update(title="other", summary=attack, url="data:text/html,<script>alert(4)</script>", entity="task/2")
    await rows.update(title="plain", url="http://example.com", entity="task/3")
    await enter(page, board, rows)
    await expect(page.locator("#recent > li")).to_have_count(3)
    await expect(page.locator("#activity > li")).to_contain_text(attack)
    await expect(page.locator("#recent")).to_contain_text(attack)
    assert await page.locator("main a, main img, main script, main b").count() == 0
    await page.set_viewport_size({"width": 360, "height": 740})
    await rows.update(title="x" * 300, summary="y" * 300, entity=f"task/{'9' * 60}")
    await rows.activity(changes={"text": {"from": "x" * 300, "to": "y" * 300}}, summary="z" * 300)
    await expect(page.locator("#activity > li")).to_have_count(2)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    assert faults(page) == []


async def test_the_filter_shows_one_account(page: Page, board: Board, rows: Rows) -> None:
    for account in (ONE, TWO):
        await rows.activity(account, summary=f"of {account}")
        await rows.update(account, title=f"of {account}")
    await enter(page, board, rows)
    await expect(page.locator("#activity > li")).to_have_count(2)
    await expect(page.locator("#activity .tag").first).to_contain_text("account")
    await page.locator("#account").select_option(str(TWO))
    await expect(page.locator("#activity > li")).to_have_count(1)
    await expect(page.locator("#activity")).to_contain_text(f"of {TWO}")
    await rows.activity(ONE, summary="unseen")
    await rows.activity(TWO, summary="seen")
    await expect(page.locator("#activity")).to_contain_text("seen")
    await expect(page.locator("#activity")).not_to_contain_text("unseen")
    await page.get_by_role("button", name="Sign out").click()
    await enter(page, board, rows, ONE)  # who sees one account needs no filter
    await expect(page.locator("#activity > li")).to_have_count(2)
    await expect(page.locator("#filter")).to_be_hidden()
    assert faults(page) == []


async def test_an_outage_shows_and_a_revoked_session_leads_to_the_door(
    page: Page, rows: Rows, tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for setting in ("access.REMEMBERED_SECONDS", "live._CHECK_SECONDS", "database._PROBE_SECONDS"):
        monkeypatch.setattr(f"dashboard.{setting}", 0.2)
    async with wire_to(tables) as wire, open_board(wire.url) as board:
        await enter(page, board, rows)
        await wire.cut()
        await expect(page.locator("#state")).to_contain_text("database is away")
        await rows.activity(summary="meanwhile")
        await wire.open()
        await expect(page.locator("#state")).to_have_text("Live")
        await expect(page.locator("#activity")).to_contain_text("meanwhile")
        await rows.connection.execute("UPDATE kommo.access_tokens SET revoked_at = now()")
        await expect(page.locator("#entry")).to_be_visible(timeout=8000)
        await expect(page.locator("main")).to_be_hidden()


async def test_tasks_and_calls_have_their_lists(page: Page, board: Board, rows: Rows) -> None:
    now = dt.datetime.now(dt.UTC)
    late = {"status": "open", "deadline": now - dt.timedelta(hours=2), "responsible_user_id": 7}
    await rows.task(at=now, task_id="1", text="Call <b>Anna</b>", entity_type="lead", entity_id="5", **late)
    await rows.task(at=now - dt.timedelta(1), task_id="2", text="Send offer", status="completed", result="Will buy")
    recorded = {"recording_url": "https://pbx.example/1.mp3", "outcome": "conversation", "duration_seconds": 65}
    await rows.call(at=now, call_id="c1", direction="in", phone="+15550100", **recorded)
    await rows.call(at=now - dt.timedelta(1), call_id="c2", direction="out", recording_url="javascript:alert(1)")
    await enter(page, board, rows)
    tasks, calls = page.locator("#tasks > li"), page.locator("#calls > li")
    await expect(tasks).to_have_count(2)
    await expect(tasks.first).to_contain_text("Call <b>Anna</b>")
    await expect(tasks.first).to_contain_text("overdue")
    await expect(tasks.first).to_contain_text("due 2 hours ago")
    await expect(tasks.first).to_contain_text("lead 5")
    await expect(tasks.last).to_contain_text("Result: Will buy")
    await expect(calls.first).to_contain_text("Call from +15550100")
    await expect(calls.first).to_contain_text("1 min 5 s")
    await expect(calls.first.get_by_role("link")).to_have_attribute("href", "https://pbx.example/1.mp3")
    await expect(calls.last).to_contain_text("Call to an unknown number")
    await expect(calls.last.get_by_role("link")).to_have_count(0)
    await rows.task(at=now, task_id="3", text="A new one", status="open")
    await rows.activity(at=now, summary="Task made")
    await looks(page, 1)
    await expect(tasks).to_have_count(3)
    await page.get_by_role("button", name="Sign out").click()
    await expect(tasks).to_have_count(0)
    assert faults(page) == []


async def test_tasks_and_calls_follow_the_chosen_account(page: Page, board: Board, rows: Rows) -> None:
    for account in (ONE, TWO):
        await rows.activity(account)
        await rows.task(account, task_id="1", text=f"of {account}")
    await enter(page, board, rows, ONE, TWO)
    await expect(page.locator("#tasks > li")).to_have_count(2)
    await page.select_option("#account", str(TWO))
    await expect(page.locator("#tasks > li")).to_have_text(re.compile(f"of {TWO}"))


# ---- commands -------------------------------------------------------------------------------------------------------

_LOST: dict[str, Any] = {"status": "unknown", "error_class": "external_service", "error": "Kommo <b>did</b> not answer"}


async def test_commands_have_their_list_and_what_is_unknown_stands_out(page: Page, board: Board, rows: Rows) -> None:
    now = dt.datetime.now(dt.UTC)
    lost = await rows.command(at=now, entity_id="7", attempts=2, **_LOST)
    await rows.command(at=now - dt.timedelta(hours=1), action="create_lead", entity_id="new:x", duration_ms=340)
    again: dict[str, Any] = {"status": "waiting", "next_attempt_at": now + dt.timedelta(hours=2), "error": "not now"}
    await rows.command(at=now - dt.timedelta(hours=2), action="update_lead", **again)
    await enter(page, board, rows)
    cards = page.locator("#commands > li")
    await expect(cards).to_have_count(3)
    await expect(cards.nth(0)).to_have_class("card command doubtful")
    for said in (
        "add note on lead 7",
        "unknown",
        "2 attempts",
        "external_service: Kommo <b>did</b> not answer",
        "A person must decide",
        f"kommo-streams command decide {lost} --done",
        "--repeat",
        "--drop",
    ):
        await expect(cards.nth(0)).to_contain_text(said)
    await expect(cards.nth(1)).to_contain_text("create lead")
    await expect(cards.nth(1)).not_to_contain_text("on lead")
    await expect(cards.nth(1)).to_contain_text("340 ms")
    await expect(cards.nth(2)).to_contain_text("again in 1 hour")
    await expect(page.locator("#commands .decide")).to_have_count(1)
    await expect(page.locator("#give")).to_be_hidden()  # this session may only read
    await rows.command(at=now, command_id=str(uuid.uuid4()), entity_id="8")
    await rows.activity(at=now)
    await looks(page, 1)
    await expect(cards).to_have_count(4)
    assert faults(page) == []


async def test_a_line_leads_to_its_command_and_that_to_its_story(page: Page, board: Board, rows: Rows) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    name = await rows.command(at=now, data='{"text": "<img src=x onerror=alert(1)>"}', **_LOST)
    await rows.effect(name, now)
    await rows.activity(at=now, summary="Lead changed <script>alert(2)</script>")
    own: dict[str, Any] = {"entity": f"command/{name}", "type": "kommo.command.unknown"}
    await rows.activity(at=now, summary="A person must decide", **own)
    await enter(page, board, rows)
    box, lines = page.locator("#command"), page.locator("#command-story > li")
    await expect(box).to_be_hidden()
    await page.get_by_role("link", name=f"by command {name[:8]}").click()
    await expect(box).to_be_visible()
    await expect(page.locator("#command-title")).to_have_text("add note on lead 1")
    await expect(page.locator("#command-told")).to_contain_text("<img src=x onerror=alert(1)>")
    await expect(page.locator("#command-told .decide")).to_contain_text("--repeat")
    await expect(lines).to_have_count(2)
    await expect(page.locator("#command-story")).to_contain_text("Lead changed <script>alert(2)</script>")
    assert page.url == f"{board.url}/#command={name}"
    # A person decides: it shows while it is open.
    await rows.connection.execute("UPDATE kommo_projections.commands_v1 SET status = 'failed', decision = 'drop'")
    await later(page, 5)
    await expect(page.locator("#command-told")).to_contain_text("drop", timeout=8000)
    await expect(page.locator("#command-told .decide")).to_have_count(0)
    await page.get_by_role("button", name="Close").click()
    await expect(box).to_be_hidden()
    await expect(page).to_have_url(f"{board.url}/")
    await page.goto(f"{board.url}/#command={name}")  # an address that was kept
    await expect(box).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(box).to_be_hidden()
    await page.goto(f"{board.url}/#command={uuid.uuid4()}")
    await expect(page.locator("#command-told")).to_contain_text("Not taken on yet")
    await page.reload()
    await expect(page.locator("#command-told")).to_contain_text("Not taken on yet")
    assert [fault for fault in faults(page) if "404" not in fault] == []


async def test_a_session_that_may_gives_a_command_and_sees_its_end(page: Page, door: Board, rows: Rows) -> None:
    await enter(page, door, rows, ONE, commands=True)
    await page.get_by_text("Give a command").click()
    await expect(page.locator("#give-account")).to_have_value(str(ONE))
    await page.get_by_label("Action").select_option("create_lead")
    fields, wrong = page.get_by_label("Fields, as JSON"), page.locator("#give-error")
    await expect(fields).to_have_value(re.compile("Kitchen"))
    await fields.fill('{"name": ')
    await page.get_by_role("button", name="Send").click()
    await expect(wrong).to_contain_text("no JSON")
    await fields.fill('{"name": "<b>", "price": -5}')
    await page.get_by_role("button", name="Send").click()
    await expect(wrong).to_contain_text("data.price")
    assert await page.locator("#give-error b").count() == 0
    await fields.fill('{"name": "Kitchen", "price": 9007199254740990}')
    await page.get_by_role("button", name="Send").click()
    told = page.locator("#command-told")
    await expect(told).to_contain_text("Not taken on yet")
    name = page.url.rpartition("=")[2]
    await rows.command(command_id=name, action="create_lead", entity_id=f"new:{name}", status="waiting", attempts=0)
    await expect(told).to_contain_text("waiting")
    await rows.connection.execute(
        "UPDATE kommo_projections.commands_v1 SET status = 'succeeded', attempts = 1, entities = '{\"lead\": 77}'"
    )
    await expect(told).to_contain_text("lead 77")
    await page.get_by_role("button", name="Close").click()
    await page.get_by_role("button", name="Send").click()  # once more is another command
    await expect(told).to_contain_text("Not taken on yet")
    assert page.url.rpartition("=")[2] != name
    assert [fault for fault in faults(page) if "404" not in fault and "400" not in fault] == []


async def test_what_was_not_answered_is_sent_again_as_the_same_command(page: Page, door: Board, rows: Rows) -> None:
    keys: list[str | None] = []

    async def answered(route: Route) -> None:
        keys.append(await route.request.header_value("idempotency-key"))
        await (route.abort() if len(keys) < 3 else route.continue_())

    await enter(page, door, rows, ONE, commands=True)
    await page.route("**/api/v1/commands", answered)
    await page.get_by_text("Give a command").click()
    for _ in range(2):
        await page.get_by_role("button", name="Send").click()
        await expect(page.locator("#give-error")).to_contain_text("it will be the same command")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#command-told")).to_contain_text("Not taken on yet")
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert keys[0]


async def test_the_form_has_an_example_of_each_action_that_would_be_taken(page: Page, board: Board, rows: Rows) -> None:
    await enter(page, board, rows, ONE, commands=True)
    await page.get_by_text("Give a command").click()
    action, fields = page.get_by_label("Action"), page.get_by_label("Fields, as JSON")
    names = await action.locator("option").evaluate_all("options => options.map(option => option.value)")
    assert set(names) == set(ACTIONS)
    for name in names:
        await action.select_option(name)
        data = json.loads(await fields.input_value())
        made = Command.make(ACTIONS[name].model_validate_json(json.dumps(data)), account_id=ONE)
        assert made.name == name
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    assert faults(page) == []


# ---- dead letters and circuits --------------------------------------------------------------------------------------

_ATTACK = "<img src=x onerror=alert(1)><script>alert(2)</script>"


async def test_dead_letters_have_their_list_and_lead_to_the_original(page: Page, board: Board, rows: Rows) -> None:
    now = dt.datetime.now(dt.UTC)
    name = await rows.letter(
        at=now,
        reason=f"no JSON: {_ATTACK}",
        reader=_ATTACK,
        attempts=4,
        item="leads[0]",
        value=f'{{"a": "{_ATTACK}"'.encode(),
        headers=json.dumps([["content-type", _ATTACK], ["empty", None]]),
    )
    strange = await rows.letter(None, now - dt.timedelta(hours=2), error_class="internal", key=None, value=b"\xff")
    await rows.letter(TWO, now - dt.timedelta(hours=3), reader="", topic="")
    await enter(page, board, rows)
    cards, box, told = page.locator("#letters > li"), page.locator("#letter"), page.locator("#letter-told")
    await expect(cards).to_have_count(3)
    for said in (
        *(f"no JSON: {_ATTACK}", "just now", "validation", f"by {_ATTACK}", "4 attempts"),
        f"kommo.webhooks/3/{2**40} leads[0]",
        f"account {ONE}",
    ):
        await expect(cards.nth(0)).to_contain_text(said)
    await expect(cards.nth(1)).to_contain_text("internal")
    await expect(cards.nth(1)).to_contain_text("no account")
    await expect(cards.nth(2)).to_contain_text("by an unknown reader")
    accounts = await page.locator("#account option").evaluate_all("options => options.map(option => option.value)")
    assert set(accounts) == {"", str(ONE), str(TWO)}  # and no account called null
    await expect(box).to_be_hidden()
    await cards.nth(0).get_by_role("link").click()
    await expect(box).to_be_visible()
    assert page.url == f"{board.url}/#letter={name}"
    for said in (f'{{"a": "{_ATTACK}"', f"content-type: {_ATTACK}", "empty:", name, "c-1", "31337"):
        await expect(told).to_contain_text(said)
    await expect(told).not_to_contain_text("base64")
    assert await page.locator("main img, main script, #letter img, #letter script").count() == 0
    await page.get_by_role("button", name="Close").click()
    await expect(box).to_be_hidden()
    await expect(page).to_have_url(f"{board.url}/")
    await page.goto(f"{board.url}/#letter={strange}")  # an address that was kept
    await expect(told).to_contain_text("base64")
    await expect(told.locator("pre")).to_have_text("/w==")
    await page.keyboard.press("Escape")
    await expect(box).to_be_hidden()
    await rows.letter(at=now, reason="a new one")
    await rows.activity(at=now)
    await looks(page, 1)
    await expect(cards).to_have_count(4)
    await page.locator("#account").select_option(str(TWO))
    await expect(cards).to_have_count(1)
    await page.get_by_role("button", name="Sign out").click()
    await expect(cards).to_have_count(0)
    assert faults(page) == []


async def test_a_dead_letter_that_is_large_fits_and_one_that_is_not_there_says_so(
    page: Page, board: Board, rows: Rows
) -> None:
    large = await rows.letter(value=b"x" * (10 * 2**20), reason="r" * 2000)
    too_large, empty = await rows.letter(value=None), await rows.letter(value=b"")
    theirs = await rows.letter(TWO)
    await page.set_viewport_size({"width": 360, "height": 740})
    await enter(page, board, rows, ONE)
    told = page.locator("#letter-told")
    await page.goto(f"{board.url}/#letter={large}")
    await expect(told).to_contain_text(f"kommo-streams deadletters show {large} --value")
    assert len(await told.locator("pre").last.inner_text()) == 100000
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    assert await page.evaluate("(box => box.scrollWidth <= box.clientWidth)(document.querySelector('#letter'))")
    await page.goto(f"{board.url}/#letter={too_large}")  # from one to the next without closing
    await expect(told).to_contain_text("too large to be set aside")
    await page.goto(f"{board.url}/#letter={empty}")
    await expect(told).to_contain_text("Empty.")
    command = await rows.command()
    await page.goto(f"{board.url}/#command={command}")
    await expect(page.locator("#letter")).to_be_hidden()
    await expect(page.locator("#command")).to_be_visible()
    await page.goto(f"{board.url}/#letter={theirs}")
    await expect(page.locator("#command")).to_be_hidden()
    await expect(told).to_contain_text(f"there is no dead letter {theirs}")
    assert [fault for fault in faults(page) if "404" not in fault] == []


async def test_open_circuits_show_above_the_commands_until_they_close(
    page: Page, new_rows: tuple[Rows, str], redis_url: str
) -> None:
    rows, database = new_rows
    now = dt.datetime.now(dt.UTC)
    lines = page.locator("#circuits > li")
    async with open_board(database, redis_url) as board:
        await enter(page, board, rows, ONE, TWO)
        await expect(page.locator("#letters .empty")).to_be_visible()
        await expect(page.locator("#circuits")).to_be_hidden()  # no worker has run here
        await agents_migrated(database)
        await rows.circuit(ONE, "notes", now - dt.timedelta(seconds=5), now + dt.timedelta(seconds=90))
        await rows.circuit(TWO, _ATTACK, now, now + dt.timedelta(hours=1))
        await rows.circuit(4, "leads", now, now)
        await rows.activity()
        await looks(page, 1)
        await expect(lines).to_have_count(2)
        words = rf"Kommo of account {ONE} does not answer at notes since \d\d:\d\d; next probe in (\d+) s"
        await expect(lines.first).to_have_text(re.compile(f"^{words}$"))
        await page.route("**/api/v1/circuits*", lambda route: route.abort())
        await page.wait_for_timeout(200)  # an answer may be under way
        before = await lines.first.text_content()
        await expect(lines.first).not_to_have_text(before or "")  # it counts down, also while nobody can be asked
        await page.unroute("**/api/v1/circuits*")
        found = re.fullmatch(words, await lines.first.text_content() or "")
        assert found
        assert 1 <= int(found[1]) <= 90
        await expect(lines.last).to_contain_text(f"does not answer at {_ATTACK} since")
        await expect(lines.last).to_contain_text("next probe in 6")
        await expect(lines.last).to_contain_text(" min")
        assert await page.locator("#circuits ~ #commands").count() == 1
        await rows.circuit(ONE, "notes", now, now - dt.timedelta(seconds=1))
        await later(page, 5)
        await expect(lines.first).to_contain_text("a probe is due", timeout=8000)
        await page.locator("#account").select_option(str(TWO))
        await expect(lines).to_have_text(re.compile(f"account {TWO}"))
        for number in range(12):
            await rows.circuit(TWO, f"k{number}", now + dt.timedelta(seconds=number), now)
        await later(page, 5)
        await expect(lines).to_have_count(11, timeout=8000)
        await expect(lines.last).to_have_text("and 3 more")
        await rows.connection.execute("DELETE FROM kommo_agents.circuits")
        await later(page, 5)
        await expect(page.locator("#circuits")).to_be_hidden(timeout=8000)
        await rows.circuit(TWO, "leads", now, now)
        await rows.activity(TWO)
        await looks(page, 1)
        await expect(lines).to_have_count(1)
        await page.get_by_role("button", name="Sign out").click()
        await expect(lines).to_have_count(0)
    assert [fault for fault in faults(page) if "ERR_FAILED" not in fault] == []
