"""Become another program that cannot outlive its parent. Run by path, on the standard library alone.

    python -I -S launcher.py start PARENT USER PROGRAM [ARGUMENT...]
    python -I -S launcher.py watch PARENT CHILD

`start` changes the user (USER: `same`, `map:UID` for a user namespace in which we are UID, `become:UID:GID`), asks the
kernel to kill us when PARENT dies (after the change of user, which would undo it), and becomes PROGRAM. `watch` is for
systems whose kernel cannot do that: it waits for either process and kills CHILD when PARENT is gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
ORPHAN = 97
"""Exit code of a launcher whose parent was gone before it could start anything."""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def map_user(uid: int) -> None:
    """Enter a user namespace in which this process is `uid`. Raises OSError where the system forbids it."""
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    if _libc().unshare(_CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    _write("/proc/self/setgroups", "deny")  # the kernel wants this before an unprivileged gid_map
    _write("/proc/self/uid_map", f"{uid} {outer_uid} 1")
    _write("/proc/self/gid_map", f"{uid} {outer_gid} 1")


def _change_user(how: str) -> None:
    kind, _, rest = how.partition(":")
    if kind == "map":
        map_user(int(rest))
    elif kind == "become":
        uid, gid = (int(part) for part in rest.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def _start(parent: int, user: str, command: list[str]) -> None:
    _change_user(user)
    if sys.platform.startswith("linux"):
        _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel knew: nobody would ever tell us
        sys.exit(ORPHAN)
    try:
        os.execv(command[0], command)  # noqa: S606 - to become it is the point
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _watch(parent: int, child: int) -> None:
    while _alive(child):
        if os.getppid() != parent:
            os.kill(child, signal.SIGKILL)
            return
        time.sleep(0.25)


def main(arguments: list[str]) -> None:
    """Carry out one command line."""
    if arguments[0] == "watch":
        _watch(int(arguments[1]), int(arguments[2]))
    else:
        _start(int(arguments[1]), arguments[2], arguments[3:])


if __name__ == "__main__":
    main(sys.argv[1:])
