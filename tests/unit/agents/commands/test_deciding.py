"""`kommo-streams command decide`: what is no decision, or no id, is refused before anything is asked."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from agents.commands.cli import command as cli


@pytest.mark.parametrize("made", ["lead", "lead=", "lead=0", "lead=x", "company=1", f"lead={10**18}"])
def test_an_id_that_is_none_is_refused_before_anything_is_asked(made: str) -> None:
    refused = CliRunner().invoke(cli, ["decide", "0e5f4f8a-6a57-5c43-9a9e-2c8d5d0f7a11", "--done", "--made", made])
    assert refused.exit_code == 2
    assert f"{made!r} must be TYPE=ID, the type one of lead, contact, task, note" in refused.output


@pytest.mark.parametrize("words", [["--done", "--drop"], [], ["--repeat", "--made", "lead=1"]])
def test_not_one_decision_is_refused(words: list[str]) -> None:
    refused = CliRunner().invoke(cli, ["decide", "0e5f4f8a-6a57-5c43-9a9e-2c8d5d0f7a11", *words])
    assert refused.exit_code == 2, refused.output
