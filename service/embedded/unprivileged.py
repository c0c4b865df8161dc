"""PostgreSQL refuses to run as root. Where we are root, it gets a user namespace, or another user."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

from service.embedded.child import SAME_USER
from service.embedded.errors import EmbeddedError

_LAUNCHER = Path(__file__).with_name("launcher.py")
_NAMES = ("postgres", "nobody")


@functools.cache
def unprivileged_user() -> str:
    """How launcher.py shall change the user for PostgreSQL: not at all unless we are root.

    In a namespace the files stay root's and no folder needs other rights. Raises EmbeddedError when there is no user.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return SAME_USER
    import pwd

    users = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    chosen = next((users[name] for name in _NAMES if name in users), next(iter(users.values()), None))
    if chosen is None:
        raise EmbeddedError("PostgreSQL cannot run as root, and this system has no other user. Start as another user.")
    mapped = f"map:{chosen.pw_uid}"
    return mapped if _works(mapped) else f"become:{chosen.pw_uid}:{chosen.pw_gid}"


def _works(user: str) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    probe = [sys.executable, "-I", "-S", str(_LAUNCHER), "start", str(os.getpid()), user, "/bin/true"]
    try:
        return subprocess.run(probe, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _target(user: str) -> tuple[int, int] | None:
    """Who the files must belong to when we are root; None when nothing is to be done."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    kind, _, rest = user.partition(":")
    if kind == "become":
        uid, gid = rest.split(":")
        return int(uid), int(gid)
    return 0, 0


def own(user: str, path: Path) -> None:
    """Give `path` and all in it to the user PostgreSQL runs as, if it is not theirs already. Raises OSError."""
    target = _target(user)
    if target is None or path.stat().st_uid == target[0]:
        return
    if path.is_dir():
        for folder, folders, files in os.walk(path):
            for name in [*folders, *files]:
                os.chown(Path(folder) / name, *target, follow_symlinks=False)
    os.chown(path, *target)  # the top last: it tells the next start that all is done


def open_to(user: str, *folders: Path) -> None:
    """Let another user pass through the folders that are ours, and through no others. Raises OSError."""
    if user.startswith("become:"):
        for folder in folders:
            folder.chmod(folder.stat().st_mode | 0o011)
