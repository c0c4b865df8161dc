"""`up` with stand-ins for our own processes: python run_up.py DIR [PORT] [demo]; real servers all the same."""

import sys
from pathlib import Path

from service import supervisor
from service.up import run_up

supervisor.COMMAND = (sys.executable, str(Path(__file__).with_name("standin.py")))

if __name__ == "__main__":
    port = int(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2].isdigit() else None
    sys.exit(run_up(Path(sys.argv[1]), port, 1, demo="demo" in sys.argv))
