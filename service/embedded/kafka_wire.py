"""The least of Kafka's protocol: ask a broker which brokers it knows. An open port alone does not mean it can work."""

from __future__ import annotations

import socket
import struct

_METADATA, _VERSION = 3, 4


def _receive(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ConnectionError("the broker closed the connection")
        parts += part
    return bytes(parts)


def known_brokers(host: str, port: int, timeout: float = 1.0) -> set[int]:
    """The ids of the brokers that this one announces to clients; empty while it is not ready.

    `timeout` is in seconds. Raises OSError while it does not answer.
    """
    name = b"kommo-streams"
    header = struct.pack(">hhih", _METADATA, _VERSION, 1, len(name)) + name
    body = struct.pack(">i?", 0, False)  # no topics, and create none
    with socket.create_connection((host, port), timeout) as connection:
        connection.settimeout(timeout)
        connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        (size,) = struct.unpack(">i", _receive(connection, 4))
        return _brokers(_receive(connection, size))


def _brokers(answer: bytes) -> set[int]:
    (count,) = struct.unpack_from(">i", answer, 8)  # after the correlation id and the throttle time
    position, ids = 12, set()
    for _ in range(count):
        node, length = struct.unpack_from(">ih", answer, position)
        ids.add(node)
        position += 6 + length + 4  # host, port
        (rack,) = struct.unpack_from(">h", answer, position)
        position += 2 + max(rack, 0)
    return ids
