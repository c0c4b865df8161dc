"""kommo.accounts: read whole at the start, and followed."""

from __future__ import annotations

import asyncio

import pytest

from runtime.health import Health
from runtime.settings import Settings
from streams.accounts import Accounts, AccountSettings, follow_accounts, read_accounts, write_account
from streams.producer import Producer, Record
from streams.topics import ACCOUNTS, ensure_topics
from tests.support.waiting import eventually, running


@pytest.fixture
async def log(settings: Settings) -> Settings:
    await ensure_topics(settings)
    return settings


async def test_an_account_without_settings_has_the_defaults(log: Settings) -> None:
    accounts = await read_accounts(log)
    assert accounts.get(1) == AccountSettings(lowest_generation=1, closed=False)


async def test_the_latest_of_each_account_counts(log: Settings) -> None:
    await write_account(log, 1, AccountSettings(lowest_generation=2))
    await write_account(log, 2, AccountSettings(closed=True))
    await write_account(log, 1, AccountSettings(lowest_generation=3))
    accounts = await read_accounts(log)
    assert [accounts.get(number).lowest_generation for number in (1, 2, 3)] == [3, 1, 1]
    assert [accounts.get(number).closed for number in (1, 2, 3)] == [False, True, False]


async def test_a_follower_hears_of_a_revoked_address(log: Settings) -> None:
    await write_account(log, 1, AccountSettings(lowest_generation=2))
    accounts, health = Accounts(), Health("accounts")
    async with running(lambda stop: follow_accounts(log, accounts, health, stop)):
        await eventually(lambda: not health.reasons)
        assert accounts.get(1).lowest_generation == 2
        await write_account(log, 1, AccountSettings(lowest_generation=3, closed=True))
        await eventually(lambda: accounts.get(1) == AccountSettings(lowest_generation=3, closed=True))
        async with Producer(log, "test") as producer:
            await producer.send_all(ACCOUNTS, [Record(b"1", None)])  # taken away
        await eventually(lambda: accounts.get(1) == AccountSettings())


async def test_what_cannot_be_read_is_passed_over_and_what_is_known_stays(log: Settings) -> None:
    await write_account(log, 1, AccountSettings(lowest_generation=5))
    bad = [(b"1", b"no JSON"), (b"1", b'{"lowest_generation": 0}'), (b"one", b"{}"), (b"", None), (b"1", b"[]")]
    async with Producer(log, "test") as producer:
        await producer.send_all(ACCOUNTS, [Record(key, value) for key, value in bad])
    await write_account(log, 2, AccountSettings(lowest_generation=6))
    accounts = await read_accounts(log)
    assert [accounts.get(number).lowest_generation for number in (1, 2)] == [5, 6]


async def test_fields_of_a_newer_program_are_kept(log: Settings) -> None:
    async with Producer(log, "test") as producer:
        await producer.send_all(ACCOUNTS, [Record(b"1", b'{"lowest_generation": 2, "plan": "large"}')])
    assert (await read_accounts(log)).get(1).model_dump() == {
        "lowest_generation": 2,
        "closed": False,
        "plan": "large",
    }


async def test_a_follower_without_kafka_says_so_and_goes_on(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    health = Health("accounts")
    async with running(lambda stop: follow_accounts(nowhere, Accounts(), health, stop)):
        await asyncio.sleep(0.2)
        assert health.reasons
