"""The executor: claims what is due of the accounts this worker holds, and carries it out side by side.

An account is looked at only when something of it may be due: after an admission, an ending, a moment that was waited
for, and once a second. Where its Kommo fails again and again, the client's circuit breaker keeps its commands back,
and here they are not even claimed: such an account costs a probe now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import heapq
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from agents.commands import table
from agents.commands.admitted import Claimed
from agents.commands.carrying import after_failure, carry_out
from agents.commands.handlers import HANDLERS, Attempt, Mailer
from agents.commands.leases import RENEW_SECONDS, LeaseLost, Leases
from agents.commands.outcomes import Ending, Released, Retried, Succeeded
from agents.commands.recorder import Recorder, event_of
from agents.kommo.clients import KommoClients
from agents.retry import Policies
from runtime.failures import log_failure
from runtime.logs import logger
from runtime.metrics import ADDRESS_BLOCKED, ADDRESS_RATE, CIRCUITS_OPEN, COMMANDS_RUNNING
from runtime.postgres import AWAY
from runtime.settings import Settings
from runtime.waiting import pause
from schemas.errors import ErrorClass

log = logger(__name__)

_SWEEP_SECONDS = 1.0
_GATHER_SECONDS = 0.03  # between two takings of leases: what comes meanwhile is taken at once
_SETTLE_SECONDS = 2.0  # before a look for what a worker that died had begun: it may still be on its way
_DRAIN_SECONDS = 5.0
_AWAY_SECONDS = 0.5


class Executor:
    """Carries out the commands of the accounts that this worker has leases of."""

    def __init__(
        self,
        settings: Settings,
        pool: Any,
        clients: KommoClients,
        recorder: Recorder,
        policies: Policies,
        mailer: Mailer | None = None,
    ) -> None:
        self._settings, self._pool, self._clients = settings, pool, clients
        self._recorder, self._policies, self._mailer = recorder, policies, mailer
        self.leases = Leases()
        self._running: dict[asyncio.Task[None], Claimed] = {}
        self._broken: BaseException | None = None
        self._per_account: Counter[int] = Counter()
        self._proven: set[int] = set()  # accounts that have answered
        self._begun: set[str] = set()  # commands whose end is not known to be written
        self._hot: dict[int, None] = {}  # in the order in which they are looked at: each in its turn
        self._due: list[tuple[float, int]] = []
        self._probe_at: dict[int, float] = {}  # of accounts with an open circuit: when one is asked again
        self._wake = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._wanted = asyncio.Event()  # there is work of accounts that are not held
        self._shown: frozenset[tuple[int, str]] = frozenset()
        self._shown_at = 0.0

    def awaken(self, accounts: Iterable[int] | None = None) -> None:
        """Say that something of these accounts (None: of any) may be due."""
        self._hot.update(dict.fromkeys(self.leases.accounts() if accounts is None else accounts))
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; then what is under way is finished, within seconds, and the leases are given back."""
        keeping = asyncio.create_task(self._keep_leases(stop))
        listening = asyncio.create_task(self._listen(stop))
        stopping = asyncio.create_task(self._wake_at(stop))
        for task in (keeping, listening):
            task.add_done_callback(self._hear_of_its_end)
        try:
            while not stop.is_set():
                if self._broken is not None:
                    raise self._broken
                try:
                    await self._step()
                except AWAY as error:
                    log_failure(log, "PostgreSQL is away, trying again", error)
                    await pause(stop, _AWAY_SECONDS)
        finally:
            cut = await self._drain(keeping)
            for task in (keeping, listening, stopping):
                task.cancel()
            await asyncio.gather(keeping, listening, stopping, return_exceptions=True)
            with contextlib.suppress(*AWAY):
                async with asyncio.timeout(1), self._pool.acquire() as connection:
                    await self.leases.leave(connection, cut)

    def _hear_of_its_end(self, task: asyncio.Task[None]) -> None:
        """Without leases, or deaf, a worker must end and be started again, and not look as if it were well."""
        if not task.cancelled() and task.exception() is not None:
            self._broken = task.exception()
            self._wake.set()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _step(self) -> None:
        """Claim what is due and begin it; wait where nothing is."""
        self._wake.clear()
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            self._hot[heapq.heappop(self._due)[1]] = None
        rooms = self._rooms()
        if rooms:
            for account in rooms:  # before it is looked for: what is heard of meanwhile is looked for again
                self._hot.pop(account, None)
            began = time.monotonic()
            try:
                async with self._claiming, self._pool.acquire() as connection:
                    claimed = await table.claim(connection, self.leases.holder, rooms)
                    for item in claimed:
                        self._begin(item, began)
            except BaseException:
                self.awaken(rooms)
                raise
            found = Counter(item.command.account_id for item in claimed)
            self._hot.update(dict.fromkeys(account for account, (room, _) in rooms.items() if found[account] == room))
            if claimed or self._rooms():
                await asyncio.sleep(0)
                return
        patience = min(_SWEEP_SECONDS, max(0.0, self._due[0][0] - now) if self._due else _SWEEP_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._wake.wait()

    def _rooms(self) -> dict[int, tuple[int, list[str]]]:
        free = self._settings.commands_running - len(self._running)
        rooms: dict[int, tuple[int, list[str]]] = {}
        now = time.monotonic()
        certain = set(self.leases.accounts())
        for account in self._hot:
            if free <= 0:
                break
            if account not in certain:
                continue
            # One that has not answered yet, or fails, may hold up one place only.
            most = self._settings.commands_per_account if account in self._proven else 1
            room = min(most - self._per_account[account], free)
            if room > 0:
                rooms[account] = (room, self._left_alone(account, now))
                free -= room
        return rooms

    def _left_alone(self, account: int, now: float) -> list[str]:
        """Return the actions whose kind of endpoint is not to be asked now; it comes back when it may be."""
        api = self._clients.known(account)
        shut = {} if api is None else {kind: wait for kind in _KINDS if (wait := api.circuits.wait(kind)) > 0}
        if not shut:
            return []
        if self._probe_at.get(account, 0.0) <= now:  # else it is to come back already
            self._probe_at[account] = now + min(shut.values())
            heapq.heappush(self._due, (self._probe_at[account], account))
        return [action for action, handler in HANDLERS.items() if handler.kind in shut]

    def _begin(self, claimed: Claimed, began: float) -> None:
        account = claimed.command.account_id
        self._per_account[account] += 1
        self._begun.add(claimed.command.id)
        task = asyncio.create_task(self._carry(claimed, began))
        self._running[task] = claimed
        COMMANDS_RUNNING.set(len(self._running))
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        account = self._running.pop(task).command.account_id
        self._per_account[account] -= 1
        if not self._per_account[account]:
            del self._per_account[account]
        COMMANDS_RUNNING.set(len(self._running))
        if not task.cancelled() and task.exception() is not None:
            log.error("carrying out a command failed", exc_info=task.exception())
        self.awaken([account])

    async def _carry(self, claimed: Claimed, began: float) -> None:
        ending = await self._attempt(claimed, began)
        account = claimed.command.account_id
        if isinstance(ending, Retried | Released):
            seconds = (ending.at - dt.datetime.now(dt.UTC)).total_seconds()
            heapq.heappush(self._due, (time.monotonic() + max(0.0, seconds), account))
        if await self._recorder.record(claimed, ending):
            self._begun.discard(claimed.command.id)

    async def _attempt(self, claimed: Claimed, began: float) -> Ending:
        account = claimed.command.account_id
        try:
            api = await self._clients.of(account)
        except Exception as error:  # noqa: BLE001 the account is not connected, or its token cannot be read
            return after_failure(claimed, self._policies, error, claimed.doubt is not None)
        attempt = Attempt(
            claimed,
            api,
            self._mailer,
            certain=lambda: self.leases.check(account, claimed.epoch),
            others=lambda kind: self._others(claimed, kind),
            last_update=lambda kind, entity_id: self._last_update(claimed, kind, entity_id),
            save=lambda progress: self._save(claimed, progress),
            began=began,
        )
        ending = await carry_out(attempt, self._policies)
        if isinstance(ending, Succeeded):
            self._proven.add(account)
        elif not isinstance(ending, Released) and ending.error_class is ErrorClass.EXTERNAL_SERVICE:
            self._proven.discard(account)
        return ending

    async def _others(self, claimed: Claimed, kind: str) -> set[int]:
        async with self._pool.acquire() as connection:
            return await table.taken(connection, claimed.command.account_id, kind, claimed.doubt)

    async def _last_update(self, claimed: Claimed, kind: str, entity_id: int) -> int:
        async with self._pool.acquire() as connection:
            return await table.last_update(connection, claimed.command.account_id, claimed.doubt, kind, entity_id)

    async def _save(self, claimed: Claimed, progress: dict[str, Any]) -> None:
        async with self._pool.acquire() as connection:
            if not await table.save_progress(connection, claimed, progress):
                raise LeaseLost("another worker has the command")

    async def _keep_leases(self, stop: asyncio.Event) -> None:
        """Renew, take and give back leases, until cancelled; PostgreSQL being away only ends what is held."""
        renewed = swept = mended = 0.0
        while True:
            self._wanted.clear()  # before it is looked for: what is heard of meanwhile is looked for again
            try:
                async with self._pool.acquire() as connection:
                    if time.monotonic() - renewed >= RENEW_SECONDS:
                        await self.leases.renew(connection)
                        renewed = time.monotonic()
                        async with self._claiming:  # what is being claimed now must not be given back
                            await self._give_back(connection)
                            spare = await self.leases.surplus(connection, self._per_account)
                            await self.leases.release(connection, spare)
                    if time.monotonic() >= mended:
                        began = time.monotonic()
                        await table.let_go(connection, self.leases.holder)
                        # A long backlog makes it dear: then less often.
                        mended = time.monotonic() + max(_SWEEP_SECONDS, 20 * (time.monotonic() - began))
                    if not stop.is_set():
                        await self._acquire(connection)
                    await self._show(connection)
            except AWAY as error:
                log_failure(log, "leases wait for PostgreSQL", error)
            if time.monotonic() - swept >= _SWEEP_SECONDS:
                swept = time.monotonic()
                self.awaken()
            await asyncio.sleep(_GATHER_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await self._wanted.wait()

    async def _give_back(self, connection: Any) -> None:
        """Let what is claimed, and not under way, wait again; under the lock of claims."""
        under_way = [claimed.command.id for claimed in self._running.values()]
        begun = self._begun.difference(under_way)
        await table.give_back(connection, self.leases.holder, under_way, list(begun))
        self._begun -= begun

    async def _acquire(self, connection: Any) -> None:
        async with connection.transaction():
            taken = await self.leases.acquire(connection)
            if not taken:
                return
            begun = await table.take_over(connection, self.leases.holder, taken, _SETTLE_SECONDS)
            now = dt.datetime.now(dt.UTC)
            facts = {"error_class": "external_service", "error": "its worker ended; it will be looked for"}
            told = {"next_attempt_at": _in(_SETTLE_SECONDS).isoformat(timespec="milliseconds"), "doubt": True}
            await table.put_out(
                connection,
                [event_of(item, "retried", {"attempts": item.attempts, **facts, **told}, now) for item in begun],
            )
        if begun:
            log.warning("took over commands in doubt", commands=len(begun))
            for item in begun:
                heapq.heappush(self._due, (time.monotonic() + _SETTLE_SECONDS, item.command.account_id))
        self.awaken(taken)

    async def _show(self, connection: Any) -> None:
        """Show in metrics, and where it changed in the table, which circuits are not closed."""
        shut: dict[tuple[int, str], float] = {
            (account, kind): wait
            for account in self.leases.accounts()
            if (api := self._clients.known(account)) is not None
            for kind in _KINDS
            if api.circuits.is_open(kind) and (wait := api.circuits.wait(kind)) >= 0
        }
        for kind in _KINDS:
            CIRCUITS_OPEN.labels(kind).set(sum(1 for _, other in shut if other == kind))
        address = self._clients.address.state
        ADDRESS_RATE.set(-1 if address.rate is None else address.rate)
        ADDRESS_BLOCKED.set(address.blocked_seconds)
        now, shown = time.monotonic(), frozenset(shut)
        if shown != self._shown or (shut and now - self._shown_at >= _SWEEP_SECONDS):
            await table.show_circuits(connection, self.leases.holder, shut)
            self._shown, self._shown_at = shown, now

    async def _listen(self, stop: asyncio.Event) -> None:
        """Hear of admissions by any worker, so that what is new begins at once."""

        def heard(_connection: Any, _pid: int, _channel: str, payload: str) -> None:
            accounts = None if payload == table.EVERY_ACCOUNT else [int(name) for name in payload.split(",")]
            self.awaken(accounts)
            if accounts is None or not all(self.leases.holds(account) for account in accounts):
                self._wanted.set()

        while not stop.is_set():
            with contextlib.suppress(*AWAY):
                async with self._pool.acquire() as connection:
                    await connection.add_listener(table.CHANNEL, heard)
                    try:
                        while not stop.is_set() and not connection.is_closed():
                            await pause(stop, 1.0)
                    finally:
                        await connection.remove_listener(table.CHANNEL, heard)
            await pause(stop, _AWAY_SECONDS)

    async def _drain(self, keeping: asyncio.Task[None]) -> set[int]:
        """Wait for what is under way, and return the accounts of what had to be cut off.

        Its claim stays, and so must the lease until it runs out: the request may still be on its way.
        """
        if self._running:
            await asyncio.wait(list(self._running), timeout=_DRAIN_SECONDS)
        keeping.cancel()  # first: it would take what is cut off for what was never begun
        await asyncio.wait([keeping])
        cut = {claimed.command.account_id for claimed in self._running.values()}
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running), timeout=1)
        return cut


_KINDS = frozenset(handler.kind for handler in HANDLERS.values())


def _in(seconds: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
