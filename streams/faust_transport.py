"""Faust's Kafka transport, corrected: every partition is read from where it must be, and no record is passed over.

Faust throws away what it had fetched when a rebalance began, to read it again from the committed offsets. aiokafka's
seek_to_committed leaves a partition without a committed offset where it is: past what was thrown away, and the next
commit makes the gap final. See docs/decisions/0018-faust-agents.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport

from streams.gaps import OffsetTracker


class _ConsumerThread(AIOKafkaConsumerThread):
    async def seek_to_committed(self) -> Mapping[Any, Any]:
        """Read on at the committed offset of each partition, and without one at the beginning of its log."""
        committed: Mapping[Any, Any] = await self.call_thread(self._seek_to_committed)
        return committed

    async def _seek_to_committed(self) -> Mapping[Any, Any]:
        consumer = self._ensure_consumer()
        committed: Mapping[Any, Any] = await consumer.seek_to_committed()
        beginnings = await consumer.beginning_offsets(list(committed))
        for partition, offset in committed.items():
            # The next rebalance may have taken it meanwhile; then that one's seek counts.
            if not offset and partition in consumer.assignment():
                consumer.seek(partition, beginnings[partition])
        cast(Any, self.consumer).tracker.begin(
            {at: max(offset or 0, beginnings[at]) for at, offset in committed.items()}
        )
        return committed


class _Consumer(Consumer):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.tracker: OffsetTracker = cast(Any, self.app).tracker

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, Any]]:
        """Yield records as they are fetched. Raises OffsetGapError, which ends the app before anything is committed."""
        async for partition, message in super().getmany(timeout):
            await self.tracker.take(partition, message.offset)
            yield partition, message


class GaplessTransport(Transport):
    """The transport of an app with a `tracker`."""

    Consumer = _Consumer
