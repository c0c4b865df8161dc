"""Posts deliveries to a webhook address as Kommo does: a time limit of 2 seconds, no redirects, no second look."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import httpx

from simulator.company import SimulatedDelivery

TIMEOUT_SECONDS = 2.0
"""How long Kommo waits for an answer (developers.kommo.com, "Webhooks: general")."""

MOST_IN_FLIGHT = 64
_DRAIN_SECONDS = 0.7
_MOST_BEHIND_SECONDS = 1.0


@dataclass(slots=True)
class Counts:
    """What became of the deliveries; each that was sent ends in exactly one of these."""

    sent: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    """Answers by HTTP status."""
    timed_out: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """No answer: by the name of what went wrong, for example ConnectError."""
    abandoned: int = 0
    """Still without an answer when sending was stopped."""

    @property
    def accepted(self) -> int:
        """Answers that Kommo takes as received: below 300."""
        return sum(count for status, count in self.answers.items() if status < 300)

    @property
    def ended(self) -> int:
        """Deliveries that are no longer under way."""
        return self.answers.total() + self.timed_out + self.failed.total() + self.abandoned

    @property
    def wrong_address(self) -> bool:
        """Whether every delivery so far was answered 404, which is what an invalid webhook address gets."""
        return 0 < self.answers[404] == self.ended


class Sender:
    """Sends deliveries at a rate (per second) to an address, at most `in_flight` at once, and counts the answers.

    When `in_flight` are under way it waits, so a slow gateway lowers the rate; it catches up with at most a second.
    The address is a secret and never logged.
    """

    def __init__(
        self, url: str, rate: float, *, in_flight: int = MOST_IN_FLIGHT, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self.counts = Counts()
        self._url = url
        self._interval = 1 / rate
        self._timeout = timeout
        self._in_flight = in_flight
        self._under_way: set[asyncio.Task[None]] = set()
        self._idle: list[httpx.AsyncClient] = []
        self._tls = ssl.create_default_context()

    async def run(self, deliveries: Iterable[SimulatedDelivery], stop: asyncio.Event) -> Counts:
        """Send until the deliveries end or `stop` is set, then return the counts.

        The deliveries are asked for one by one, each when its turn has come. After `stop` those under way have less
        than a second to be answered.
        """
        _keep_addresses_out_of_logs()
        stopping = asyncio.create_task(stop.wait())
        try:
            await self._send_all(iter(deliveries), stop, stopping)
        finally:
            stopping.cancel()
            await self._drain(stop)
            await asyncio.gather(*(client.aclose() for client in self._idle))
        return self.counts

    async def _send_all(
        self, source: Iterator[SimulatedDelivery], stop: asyncio.Event, stopping: asyncio.Task[bool]
    ) -> None:
        clock = asyncio.get_running_loop().time
        due = clock()
        while await self._turn(due, stop, stopping):
            delivery = next(source, None)
            if delivery is None:
                return
            self.counts.sent += 1
            task = asyncio.create_task(self._post(delivery))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            due = max(due + self._interval, clock() - _MOST_BEHIND_SECONDS)

    async def _turn(self, due: float, stop: asyncio.Event, stopping: asyncio.Task[bool]) -> bool:
        """Wait until a delivery is due and may be sent; False: stopped."""
        while len(self._under_way) >= self._in_flight and not stop.is_set():
            await asyncio.wait([*self._under_way, stopping], return_when=asyncio.FIRST_COMPLETED)
        ahead = due - asyncio.get_running_loop().time()
        if ahead > 0.001:
            await asyncio.wait([stopping], timeout=ahead)
        elif self.counts.sent % 16 == 0:
            await asyncio.sleep(0)  # behind the rate: let the answers be read all the same
        return not stop.is_set()

    async def _drain(self, stop: asyncio.Event) -> None:
        if not self._under_way:
            return
        under_way = list(self._under_way)
        patience = _DRAIN_SECONDS if stop.is_set() else self._timeout + 1
        _, late = await asyncio.wait(under_way, timeout=patience)
        for task in late:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _post(self, delivery: SimulatedDelivery) -> None:
        counts = self.counts
        client = self._idle.pop() if self._idle else self._connection()
        try:
            async with asyncio.timeout(self._timeout):  # the whole exchange; httpx would limit each step of it
                answer = await client.post(self._url, content=delivery.body, headers=delivery.headers)
        except TimeoutError:
            counts.timed_out += 1
        except asyncio.CancelledError:
            counts.abandoned += 1
            raise
        except httpx.HTTPError as error:
            counts.failed[type(error).__name__] += 1
        else:
            counts.answers[answer.status_code] += 1
        finally:
            self._idle.append(client)

    def _connection(self) -> httpx.AsyncClient:
        """Return a client of one connection: httpx looks at all connections of a client for each request."""
        return httpx.AsyncClient(
            limits=httpx.Limits(max_connections=1),
            timeout=None,  # noqa: S113 _post limits the whole exchange
            trust_env=False,
            verify=self._tls,
        )


def _keep_addresses_out_of_logs() -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes the whole address of every request
