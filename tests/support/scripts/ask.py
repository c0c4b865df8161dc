"""Lets `ready.py` carry out a command line: python -I -S ask.py SOCKET ARGUMENT... Its exit code is the command's."""

import json
import os
import signal
import socket
import sys

asked = socket.socket(socket.AF_UNIX)
asked.connect(sys.argv[1])
socket.send_fds(asked, [json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode()], [0, 1, 2])
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _: asked.sendall(bytes([number])))
code = asked.recv(1)
sys.exit(code[0] if code else 1)
