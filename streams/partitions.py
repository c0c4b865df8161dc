"""Which partition a key belongs to: murmur2, as Kafka's own clients have it. The hash is part of the contract."""

from __future__ import annotations

import struct

_MAX_KEYS = 200_000


def murmur2(key: bytes) -> int:
    """Return the 32-bit murmur2 hash of a key (org.apache.kafka.common.utils.Utils.murmur2)."""
    length = len(key)
    value = 0x9747B28C ^ length
    for (word,) in struct.iter_unpack("<I", key[: length & ~3]):
        mixed = word * 0x5BD1E995 & 0xFFFFFFFF
        mixed = (mixed ^ mixed >> 24) * 0x5BD1E995 & 0xFFFFFFFF
        value = value * 0x5BD1E995 & 0xFFFFFFFF ^ mixed
    tail = key[length & ~3 :]
    if tail:
        value = (value ^ int.from_bytes(tail, "little")) * 0x5BD1E995 & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return value ^ value >> 15


class Partitioner:
    """The partition of each key of one topic; the keys seen lately are remembered, within a bound."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._known: dict[bytes, int] = {}

    def partition(self, key: bytes) -> int:
        """Return the partition a key belongs to."""
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MAX_KEYS:
                self._known.clear()
            found = self._known[key] = (murmur2(key) & 0x7FFFFFFF) % self._partitions
        return found
