"""Embedded servers until a signal: python run_servers.py DIR [SERVER...]. Prints READY and the addresses as JSON."""

import json
import signal
import sys
from pathlib import Path

from service.embedded import SERVERS, EmbeddedError, EmbeddedServers

if __name__ == "__main__":
    servers = EmbeddedServers(Path(sys.argv[1]), only=sys.argv[2:] or SERVERS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        addresses = servers.start()
        print("READY", json.dumps(addresses.environment()), flush=True)
        signal.pause()
    except EmbeddedError as error:
        sys.exit(f"EmbeddedError: {error}")
    finally:
        servers.stop()
