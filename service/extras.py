"""The extras: which of their packages are not installed, found without importing any."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping

WORKER = {"aiosmtplib": "aiosmtplib", "cryptography": "cryptography", "faust": "faust-streaming"}
"""What the worker imports at its start, by module; the rest of its extra is for those who set it up."""


def missing(packages: Mapping[str, str]) -> str | None:
    """Return the first package, of those named by module, that is not installed; None where all are."""
    for module, package in packages.items():
        try:
            # What is loaded is there, also where it says of itself nothing that find_spec could return (Faust).
            found = sys.modules.get(module) is not None or importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):
            found = False
        if not found:
            return package
    return None
