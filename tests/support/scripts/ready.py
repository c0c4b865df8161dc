"""Stands ready as `kommo-streams`: python ready.py SOCKET.

Its modules are loaded once. For each who asks (by `ask.py`) a process of its own is forked, which gets the asker's
arguments, folder, environment, input and output, and ends with the asker.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys

import aiokafka  # noqa: F401 - most commands load it in the midst of their work
import asyncpg  # noqa: F401
import httpx  # noqa: F401

from service import cli


def carry_out(asker: socket.socket, asked: bytes, files: list[int]) -> None:
    """Become the command that is asked for."""
    arguments, folder, environment = json.loads(asked)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    asker.close()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["kommo-streams", *arguments]
    cli.main()


def look_after(asker: socket.socket, command: int) -> int:
    """Pass on the asker's signals, and end the command when the asker is gone; its exit code, as a shell says it."""
    done = os.pidfd_open(command)
    while True:
        for found in select.select([asker, done], [], [])[0]:
            if found is done:
                code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
                return code if code >= 0 else 128 - code
            number = asker.recv(1)
            os.kill(command, number[0] if number else signal.SIGKILL)
            if not number:
                return 128 + signal.SIGKILL


def main(path: str) -> None:
    """Fork for each asker: one process that looks after the command, and the command."""
    for module, _ in cli._COMMANDS.values():
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that look after a command
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen()
        while True:
            asker, _ = door.accept()
            asked, files, _, _ = socket.recv_fds(asker, 1 << 20, 3)
            if not asked:
                asker.close()
                continue
            if os.fork() == 0:
                break
            asker.close()
            for file in files:
                os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    command = os.fork()
    if command == 0:
        carry_out(asker, asked, files)
    else:
        for file in files:
            os.close(file)
        code = look_after(asker, command)
        with contextlib.suppress(OSError):  # the asker may be gone
            asker.sendall(bytes([code]))
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
