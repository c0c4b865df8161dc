"""kommo.accounts: an account's settings that processes need to know, read whole at the start and followed."""

from __future__ import annotations

import asyncio

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.health import Health
from runtime.logs import logger
from runtime.settings import Settings
from runtime.waiting import pause
from streams.connection import connection, started, stopped
from streams.producer import Producer, Record
from streams.topics import ACCOUNTS, physical

log = logger(__name__)


class AccountSettings(BaseModel):
    """What holds for one account: the lowest generation of webhook tokens that is still valid."""

    model_config = ConfigDict(extra="allow", frozen=True)

    lowest_generation: int = Field(1, ge=1, lt=10**9)
    closed: bool = False


class Accounts:
    """The latest settings of every account that has any."""

    def __init__(self) -> None:
        self._known: dict[int, AccountSettings] = {}

    def get(self, account_id: int) -> AccountSettings:
        """Return an account's settings; an account without any has the defaults."""
        return self._known.get(account_id, _DEFAULT)

    def learn(self, key: bytes | None, value: bytes | None) -> None:
        """Take one record of the topic; a record that cannot be read is said and passed over."""
        try:
            account_id = int(key or b"")
            if value is None:
                self._known.pop(account_id, None)
            else:
                self._known[account_id] = AccountSettings.model_validate_json(value)
        except (ValueError, ValidationError):
            log.error("a record of kommo.accounts cannot be read", key=repr(key)[:80])


_DEFAULT = AccountSettings()


async def _open(settings: Settings) -> tuple[AIOKafkaConsumer, TopicPartition]:
    consumer = AIOKafkaConsumer(
        **connection(settings, "accounts"),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=15_000,
    )
    await started(consumer)
    partition = TopicPartition(physical(settings, ACCOUNTS), 0)
    consumer.assign([partition])
    await consumer.seek_to_beginning(partition)
    return consumer, partition


async def _take(consumer: AIOKafkaConsumer, accounts: Accounts, milliseconds: int) -> None:
    for records in (await consumer.getmany(timeout_ms=milliseconds)).values():
        for record in records:
            accounts.learn(record.key, record.value)


async def read_accounts(settings: Settings) -> Accounts:
    """Read the topic to its present end. Raises KafkaError or OSError; TimeoutError after 15 s."""
    accounts = Accounts()
    async with asyncio.timeout(15):
        consumer, partition = await _open(settings)
        try:
            end = (await consumer.end_offsets([partition]))[partition]
            while await consumer.position(partition) < end:
                await _take(consumer, accounts, 200)
        finally:
            await stopped(consumer)
    return accounts


async def follow_accounts(settings: Settings, accounts: Accounts, health: Health, stop: asyncio.Event) -> None:
    """Keep `accounts` up to date until `stop`; the part `accounts` is ready once the topic was read to its end.

    While Kafka is away the settings known so far hold.
    """
    while not stop.is_set():
        consumer = None
        try:
            consumer, partition = await _open(settings)
            end = (await consumer.end_offsets([partition]))[partition]
            while not stop.is_set():
                await _take(consumer, accounts, 250)
                if await consumer.position(partition) >= end:
                    health.ready("accounts")
        except (KafkaError, OSError) as error:
            log.warning("kommo.accounts cannot be read, trying again", error=repr(error))
            await pause(stop, 1.0)
        finally:
            if consumer is not None:
                await stopped(consumer)


async def write_account(settings: Settings, account_id: int, value: AccountSettings) -> None:
    """Write an account's settings and return when they are safe. Raises KafkaError or OSError."""
    async with Producer(settings, "accounts") as producer:
        record = Record(str(account_id).encode(), orjson.dumps(value.model_dump()))
        await (await producer.send(ACCOUNTS, record))
