"""`up` with stand-ins for our own processes: python run_up.py DIR [PORT] [demo] [SERVER...].

The servers are real: all three, or only those that are named.
"""

import functools
import os
import sys
from pathlib import Path

from service import supervisor, up
from service.embedded import SERVERS, EmbeddedServers

ADDRESSES = {"kafka": "KAFKA_BOOTSTRAP_SERVERS", "postgres": "DATABASE_URL", "valkey": "REDIS_URL"}

supervisor.COMMAND = (sys.executable, str(Path(__file__).with_name("standin.py")))

if __name__ == "__main__":
    given = sys.argv[2:]
    only = [name for name in given if name in SERVERS] or list(SERVERS)
    os.environ["STANDIN_NEEDS"] = " ".join(ADDRESSES[name] for name in only)
    up.EmbeddedServers = functools.partial(EmbeddedServers, only=only)  # type: ignore[assignment, misc]
    port = next((int(word) for word in given if word.isdigit()), None)
    sys.exit(up.run_up(Path(sys.argv[1]), port, 1, demo="demo" in given))
