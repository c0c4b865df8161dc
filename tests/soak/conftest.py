"""The long figures, on real servers."""

from tests.support.fixtures import database, mortal_servers, servers, settings, shared_servers

__all__ = ["database", "mortal_servers", "servers", "settings", "shared_servers"]
