"""Processes that do not outlive the tests that start them, also where those are killed."""

from __future__ import annotations

import os
import sys

from service.embedded.child import SAME_USER
from tests.support import ROOT


def bound(*command: str) -> list[str]:
    """Return the command line that runs this one until it ends or this process does."""
    launcher = [sys.executable, "-I", "-S", str(ROOT / "service" / "embedded" / "launcher.py")]
    return [*launcher, "start", str(os.getpid()), SAME_USER, *command]


def service(*arguments: str) -> list[str]:
    """Return the command line of `kommo-streams` with these arguments, likewise."""
    return bound(sys.executable, "-m", "service", *arguments)
