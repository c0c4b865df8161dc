"""What a receiver without servers makes of deliveries: events as they lie in kommo.events, and the truth about them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from projections.reading import LoggedEvent, read_event
from schemas.decoder import decode
from schemas.delivery import Delivery
from simulator.company import SimulatedDelivery
from simulator.mischief import Mischief, arrivals
from simulator.truth import Told, Truth

UNRECOGNIZED = "kommo.unrecognized"


@dataclass
class Received:
    """Of one account: its events as JSON in the order of receipt, how many items were rejected, and its truth."""

    account: int
    values: list[bytes] = field(default_factory=list)
    rejections: int = 0
    truth: dict[str, Any] = field(default_factory=dict)

    def events(self) -> list[LoggedEvent]:
        return [read_event(value, 0, offset) for offset, value in enumerate(self.values)]

    def receive(self, delivery: SimulatedDelivery, received_us: int, name: str) -> None:
        content_type = delivery.headers["Content-Type"]
        decoded = decode(Delivery(self.account, name, received_us, delivery.body, content_type=content_type))
        assert not (decoded.rejections and delivery.entity), decoded.rejections
        self.rejections += len(decoded.rejections)
        for encoded in decoded.events:
            kind = read_event(encoded.value, 0, 0).kind
            assert kind.name != UNRECOGNIZED or not delivery.entity
            self.values.append(encoded.value)


def received(deliveries: Iterable[SimulatedDelivery], mischief: Mischief, seed: int, account: int) -> Received:
    """Receive what arrives of an account's deliveries, with what goes wrong between."""
    found, truth = Received(account), Truth()
    told: dict[int, tuple[SimulatedDelivery, Told]] = {}
    for number, (received_us, delivery) in enumerate(arrivals(deliveries, mischief, seed)):
        if id(delivery) not in told:
            told[id(delivery)] = (delivery, truth.tell(delivery))
        if received_us is not None:
            told[id(delivery)][1].arrived(received_us, received_us, certain=True)
            found.receive(delivery, received_us, f"d{number}")
    found.truth = truth.to_json()["accounts"][str(account)]
    return found
