"""The projections by name, and where the class of each is.

Nothing is imported here: the command line names the projections and needs none of their libraries.
"""

from __future__ import annotations

PROJECTIONS = {
    "activity_log": "projections.activity_log:ActivityLog",
    "recent_updates": "projections.recent_updates:RecentUpdates",
    "tasks": "projections.tasks:Tasks",
    "calls": "projections.calls:Calls",
    "commands": "projections.commands:Commands",
    "dead_letters": "projections.dead_letters:DeadLetters",
}
"""The projector runs them all where none is named."""
