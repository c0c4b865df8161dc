"""The process `worker`: one Faust agent, and what works beside it.

Each agent has an app, a consumer group and a process of its own: one that is stuck holds up no other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiokafka.errors import KafkaError

from agents.commands.admission import Admission
from agents.commands.executor import Executor
from agents.commands.outbox import Outbox
from agents.commands.recorder import Recorder
from agents.kommo.clients import KommoClients
from agents.mail import Mailer
from agents.migrations import migrate_missing
from agents.retry import Policies, RetryError
from runtime.errors import StartError
from runtime.health import Health, with_health
from runtime.logs import logger
from runtime.postgres import AWAY, connect, open_pool
from runtime.process import serving
from runtime.settings import PREFIX, Settings
from runtime.waiting import until_there, watching
from schemas.actions import ACTIONS
from streams.faust_app import faust_app, faust_topic
from streams.producer import Producer
from streams.topics import COMMANDS, ensure_topics, physical

log = logger(__name__)

AGENTS = ("commands",)
_LEAVE_SECONDS = 3.0


async def worker(settings: Settings, stop: asyncio.Event, agent: str = "commands") -> None:
    """Run an agent until `stop`. Raises StartError for wrong settings; servers that are away are waited for."""
    assert agent in AGENTS  # noqa: S101 - the command line offers no other
    policies = _policies(settings)
    mailer = Mailer.of(settings)
    health = Health("kafka", "postgresql")
    async with serving(with_health(health), settings.worker_host, settings.worker_port, f"{PREFIX}WORKER"):
        await until_there(lambda: _migrate(settings), "postgresql", health, stop, *AWAY)
        await until_there(lambda: ensure_topics(settings), "kafka", health, stop, KafkaError, OSError)
        producer = Producer(settings, f"worker-{agent}")
        await until_there(producer.__aenter__, "kafka", health, stop, KafkaError, OSError)
        pool = await open_pool(settings, application=f"worker-{agent}", size=max(8, settings.database_pool_size))
        try:
            async with (
                KommoClients(settings, pool) as clients,
                watching(producer.ping, "kafka", health),
                watching(lambda: pool.fetchval("SELECT 1"), "postgresql", health),
            ):
                await _commands(settings, pool, clients, producer, policies, mailer, stop)
        finally:
            await producer.__aexit__()
            await _close(pool)


async def _commands(
    settings: Settings,
    pool: Any,
    clients: KommoClients,
    producer: Producer,
    policies: Policies,
    mailer: Mailer | None,
    stop: asyncio.Event,
) -> None:
    outbox, done = Outbox(pool, producer), asyncio.Event()
    recorder = Recorder(pool, physical(settings, COMMANDS), outbox)
    executor = Executor(settings, pool, clients, recorder, policies, mailer)
    admission = Admission(pool, producer, policies, outbox)
    async with _beside(recorder.run, admission.run, lambda: outbox.run(done)):
        async with _reading(settings, admission, stop) as app:
            watching = asyncio.create_task(_stop_with(app, stop))
            await executor.run(stop)
            watching.cancel()
        done.set()
    if watching.done() and not watching.cancelled():
        raise RuntimeError("the Faust app has crashed; its log says why")


@contextlib.asynccontextmanager
async def _beside(*works: Callable[[], Any]) -> AsyncIterator[None]:
    """Run things while the context lasts. One that fails ends the process: it is started again, and nothing is lost."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work()) for work in works]
        try:
            yield
        finally:
            await asyncio.wait(tasks, timeout=0.5)  # the outbox may send what just came
            for task in tasks:
                task.cancel()


async def _stop_with(app: Any, stop: asyncio.Event) -> None:
    """End the process when Faust gives up by itself: it would go on without reading, and look as if it were well."""
    while not app.should_stop:  # noqa: ASYNC110 Faust tells nobody
        await asyncio.sleep(1)
    stop.set()


@contextlib.asynccontextmanager
async def _reading(settings: Settings, admission: Admission, stop: asyncio.Event) -> AsyncIterator[Any]:
    """Run the Faust agent that reads kommo.commands while the context lasts; `stop` ends the wait for its start."""
    app = faust_app(settings, "commands")

    @app.agent(faust_topic(app, settings, COMMANDS), name="commands", concurrency=1)
    async def commands(stream: Any) -> None:
        # Acknowledged by admission, once durable: Faust itself acknowledges what was cancelled, or failed.
        async for event in stream.noack().events():
            await admission.take(event)

    starting, stopped = asyncio.create_task(app.start()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
        yield app
    finally:
        stopped.cancel()
        # Not cancelled after that time: Faust would swallow it and wait on.
        await asyncio.wait([asyncio.create_task(app.stop())], timeout=_LEAVE_SECONDS)


def _policies(settings: Settings) -> Policies:
    try:
        return Policies(settings.retry, actions=ACTIONS)
    except RetryError as error:
        raise StartError(f"{PREFIX}RETRY: {error}") from None


async def _migrate(settings: Settings) -> None:
    connection = await connect(settings, application="migrations")
    try:
        await migrate_missing(connection)
    finally:
        await connection.close()


async def _close(pool: Any) -> None:
    try:
        async with asyncio.timeout(2):
            await pool.close()
    except TimeoutError:
        pool.terminate()
