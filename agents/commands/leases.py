"""Leases: one worker at a time works for an account, so its rate, its circuit breakers and its order are local.

A lease is a row in PostgreSQL, renewed every RENEW_SECONDS. Its holder believes in it for less long than others
respect it, by the holder's own monotonic clock from before it asked, so no two clocks must agree.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any

from runtime.logs import logger
from runtime.metrics import LEASES

log = logger(__name__)

LEASE_SECONDS = 15.0
RENEW_SECONDS = 4.0
IDLE_SECONDS = 60.0
"""How long an account without work is kept: its next command then begins at once."""
MARGIN_SECONDS = 3.0
"""How much sooner the holder stops than others may begin."""

_SEEN = """
INSERT INTO kommo_agents.workers VALUES ($1, clock_timestamp())
ON CONFLICT (holder) DO UPDATE SET seen_at = excluded.seen_at
"""
_FORGET = "DELETE FROM kommo_agents.workers WHERE holder = $1 OR seen_at < clock_timestamp() - interval '1 minute'"
_OPEN = """
EXISTS (
    SELECT 1 FROM kommo_agents.commands AS c
    WHERE c.account_id = l.account_id AND c.state IN ('waiting', 'claimed')
)
"""
# An even share of the accounts that have work, for each living worker, rounded up; and how many of these are ours.
_SHARE = f"""
SELECT ceil(count(*)::float8 / greatest(1, (
           SELECT count(*) FROM kommo_agents.workers WHERE seen_at > clock_timestamp() - make_interval(secs => $1)
       )))::int AS share,
       count(*) FILTER (WHERE holder = $2 AND until > clock_timestamp())::int AS ours
FROM kommo_agents.leases AS l WHERE {_OPEN}
"""  # noqa: S608 no value is in it
_ACQUIRE = f"""
UPDATE kommo_agents.leases AS l
SET holder = $1, epoch = l.epoch + 1, until = clock_timestamp() + make_interval(secs => $2)
FROM (
    SELECT account_id FROM kommo_agents.leases AS l WHERE until < clock_timestamp() AND {_OPEN}
    ORDER BY until LIMIT $3 FOR UPDATE SKIP LOCKED
) AS free
WHERE l.account_id = free.account_id
RETURNING l.account_id, l.epoch
"""  # noqa: S608 no value is in it
_RENEW = """
UPDATE kommo_agents.leases SET until = clock_timestamp() + make_interval(secs => $2)
WHERE account_id IN (
    SELECT account_id FROM kommo_agents.leases WHERE holder = $1 AND account_id = ANY($3::bigint[])
    ORDER BY account_id FOR UPDATE
)
RETURNING account_id
"""
_RELEASE = """
UPDATE kommo_agents.leases SET holder = NULL, until = '-infinity'
WHERE account_id IN (
    SELECT account_id FROM kommo_agents.leases WHERE holder = $1 AND account_id = ANY($2::bigint[])
    ORDER BY account_id FOR UPDATE
)
"""
_IDLE = f"""
SELECT account_id FROM kommo_agents.leases AS l WHERE account_id = ANY($1::bigint[]) AND NOT {_OPEN}
"""  # noqa: S608 no value is in it


class LeaseLost(Exception):
    """Another worker may work for this account now: nothing more is sent for it."""


class Leases:
    """The accounts that this worker works for. `holder` is a new name for every start of a worker."""

    def __init__(self) -> None:
        self.holder = str(uuid.uuid4())
        self._until: dict[int, float] = {}  # by the monotonic clock
        self._epochs: dict[int, int] = {}
        self._idle_since: dict[int, float] = {}  # likewise

    def __len__(self) -> int:
        return len(self._until)

    def accounts(self) -> list[int]:
        """Return the accounts whose lease is certain now."""
        now = time.monotonic()
        return [account for account, until in self._until.items() if until > now]

    def holds(self, account_id: int) -> bool:
        """Return whether an account is held, be its lease certain or not."""
        return account_id in self._until

    def check(self, account_id: int, epoch: int) -> None:
        """Return if the lease of an account, taken as this epoch, is certain at this moment. Raises LeaseLost.

        A lease that was lost and taken again is another one: somebody else may have worked between.
        """
        if self._until.get(account_id, 0.0) <= time.monotonic() or self._epochs.get(account_id) != epoch:
            raise LeaseLost(f"the lease of account {account_id} is not certain")

    async def acquire(self, connection: Any, most: int = 1000) -> list[int]:
        """Take free accounts that have work, up to an even share for each worker, and return those taken now."""
        began = time.monotonic()
        await connection.execute(_SEEN, self.holder)
        share, ours = await connection.fetchrow(_SHARE, LEASE_SECONDS, self.holder)
        wanted = min(share - ours, most)
        if wanted <= 0:
            return []
        taken = dict(await connection.fetch(_ACQUIRE, self.holder, LEASE_SECONDS, wanted))
        self._epochs.update(taken)
        self._believe(taken, began)
        return list(taken)

    async def renew(self, connection: Any) -> list[int]:
        """Renew what is held, and return the accounts that were lost to another worker."""
        began = time.monotonic()
        await connection.execute(_SEEN, self.holder)
        if not self._until:
            return []
        held = list(self._until)
        kept = {row[0] for row in await connection.fetch(_RENEW, self.holder, LEASE_SECONDS, held)}
        lost = [account for account in held if account not in kept]
        for account in lost:
            self._until.pop(account, None)
        self._believe(kept, began)
        if lost:
            log.warning("leases were lost to another worker", accounts=len(lost))
        return lost

    async def surplus(self, connection: Any, busy: Iterable[int]) -> list[int]:
        """Return accounts to give back: long without work, or above an even share of those with work; none is busy."""
        idle = {row[0] for row in await connection.fetch(_IDLE, list(self._until))}
        share, ours = await connection.fetchrow(_SHARE, LEASE_SECONDS, self.holder)
        working, now = set(busy), time.monotonic()
        self._idle_since = {account: self._idle_since.get(account, now) for account in idle}
        long_idle = [account for account, since in self._idle_since.items() if now - since > IDLE_SECONDS]
        rest = [account for account in self._until if account not in idle and account not in working]
        return [*(account for account in long_idle if account not in working), *rest[: max(0, ours - share)]]

    async def release(self, connection: Any, accounts: Iterable[int]) -> None:
        """Give accounts back. Nothing of them may be under way."""
        given = [account for account in accounts if account in self._until]
        for account in given:
            del self._until[account]
        LEASES.set(len(self._until))
        await connection.execute(_RELEASE, self.holder, given)

    async def leave(self, connection: Any, busy: Iterable[int]) -> None:
        """Give everything back but what is busy, whose lease runs out, and forget this worker."""
        working = set(busy)
        await self.release(connection, [account for account in self._until if account not in working])
        await connection.execute(_FORGET, self.holder)

    def _believe(self, accounts: Iterable[int], began: float) -> None:
        until = began + LEASE_SECONDS - MARGIN_SECONDS
        self._until.update(dict.fromkeys(accounts, until))
        LEASES.set(len(self._until))
