"""Real servers, shared by all workers of a run; tests are isolated by topic prefix, database and Redis number."""

from tests.support.fixtures import database, mortal_servers, servers, settings, shared_servers

__all__ = ["database", "mortal_servers", "servers", "settings", "shared_servers"]
