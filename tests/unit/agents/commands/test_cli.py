"""`kommo-streams command`: wrong words are refused before anything is asked."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from agents.commands.cli import command as cli


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--key", ""], "--key: must have 1 to 128 printable ASCII characters"),
        (["--key", "k" * 129], "--key: must have 1 to 128"),
        (["--wait", "nan"], "must be a number of seconds"),
        (["name=\udcff"], "not UTF-8"),
    ],
)
def test_wrong_words_are_refused(words: list[str], said: str) -> None:
    refused = CliRunner().invoke(cli, ["send", "create_lead", "--account", "7", *words])
    assert (refused.exit_code, said in refused.output) == (2, True), refused.output
