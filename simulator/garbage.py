"""Bodies that are no webhook: what scanners, wrong addresses and broken proxies send."""

from __future__ import annotations

import random
from dataclasses import replace

from simulator.company import SimulatedDelivery
from simulator.wire import CONTENT_TYPE


def garbage(rng: random.Random, beside: SimulatedDelivery) -> SimulatedDelivery:
    """Return a request with a body that is no webhook, at the time of another delivery and to its account.

    Some end as dead letters, some as events of the type kommo.unrecognized; none may touch another table.
    """
    body, content_type = rng.choice(
        (
            (b"", CONTENT_TYPE),
            (b"test", CONTENT_TYPE),
            (b"<html><body>504 Gateway Time-out</body></html>", "text/html"),
            (b'{"leads": {"add": [', "application/json"),
            (b'{"event": "ping", "number": %d}' % rng.randrange(10**6), "application/json"),
            (b"roulette[add][0][id]=%d" % rng.randrange(1, 10**6), CONTENT_TYPE),
            (b"leads[update][0][name]=nobody", CONTENT_TYPE),
            (b"leads[delete][0][id]=-1&task[delete]=", CONTENT_TYPE),
            (b"&".join(b"%d=%d" % (n, n) for n in range(20_001)) if rng.random() < 0.02 else b"=&=&=", CONTENT_TYPE),
            (beside.body[: rng.randrange(1, 20)], CONTENT_TYPE),
            (rng.randbytes(rng.randrange(1, 400)), "application/octet-stream"),
        )
    )
    headers = {**beside.headers, "Content-Type": content_type}
    return replace(beside, body=body, headers=headers, entity="", action="", item={}, facts=())
