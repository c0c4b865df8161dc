"""The errors that end a process before it has begun."""

from __future__ import annotations


class StartError(Exception):
    """A process cannot start; the message says why and what to do."""
