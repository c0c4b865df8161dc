"""The partition of a key is that of Kafka's own clients: part of the contract."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from streams.partitions import Partitioner, murmur2


# org.apache.kafka.common.utils.UtilsTest, whose numbers are signed
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_apache_kafka(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected & 0xFFFFFFFF


@given(st.binary(max_size=60), st.integers(1, 1000))
def test_the_partition_is_that_of_aiokafka(key: bytes, count: int) -> None:
    partitions = list(range(count))
    partitioner = Partitioner(count)
    assert partitioner.partition(key) == DefaultPartitioner()(key, partitions, partitions)
    assert partitioner.partition(key) == DefaultPartitioner()(key, partitions, partitions)  # the remembered one too


def test_the_keys_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.partitions._MAX_KEYS", 10)
    partitioner = Partitioner(7)
    keys = [str(number).encode() for number in range(35)]
    assert [partitioner.partition(key) for key in keys] == [(murmur2(key) & 0x7FFFFFFF) % 7 for key in keys]
    assert len(partitioner._known) <= 10
