"""Every action can be carried out."""

from __future__ import annotations

from agents.commands.handlers import HANDLERS
from schemas.actions import ACTIONS
from tests.support import actions


def test_every_action_has_a_handler_and_is_tried() -> None:
    assert HANDLERS.keys() == ACTIONS.keys() == actions.names()
