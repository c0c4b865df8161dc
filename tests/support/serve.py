"""Serves the workers of one run: python -m tests.support.serve FOLDER OWNER.

Runs Kafka, PostgreSQL and Valkey until SIGTERM comes or the process OWNER is gone, which it may be without a word.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from service.embedded import EmbeddedServers
from service.embedded.files import write_atomically


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def main(folder: Path, owner: int) -> None:
    """Start, say where the servers are in FOLDER/addresses.json, wait, stop."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    (folder / "serve.pid").write_text(str(os.getpid()))
    servers = EmbeddedServers(folder / "shared")
    try:
        addresses = servers.start()
        write_atomically(folder / "addresses.json", json.dumps(addresses.__dict__))
        while _is_there(owner) and not stop.wait(0.5):
            pass
    finally:
        servers.stop()
        (folder / "serve.pid").unlink()
        if not _is_there(owner):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
