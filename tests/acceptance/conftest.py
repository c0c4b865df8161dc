"""Whole processes on real servers that are killed."""

from tests.support.fixtures import database, mortal_servers, servers, settings, shared_servers

__all__ = ["database", "mortal_servers", "servers", "settings", "shared_servers"]
