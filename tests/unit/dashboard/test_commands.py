"""What the commands of the dashboard say of wrong arguments."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from dashboard import commands


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--name", "x", "--accounts", "one"), "'*' in quotes"),
        (("--name", "x", "--accounts", "1,,2"), "31337"),
        (("--name", "x", "--accounts", "0"), "31337"),
        (("--name", "x", "--accounts", "9223372036854775808"), "31337"),
        (("--name", " ", "--accounts", "1"), "1 to 100"),
        (("--name", "x", "--accounts", "1", "--expires", "tomorrow"), "30d"),
        (("--name", "x", "--accounts", "1", "--expires", "2099-01-01T00:00:00"), "2027-01-31T00:00:00Z"),
        (("--name", "x", "--accounts", "1", "--expires", "2020-01-01T00:00:00Z"), "is over"),
        (("--name", "x"), "--accounts"),
    ],
)
def test_wrong_arguments_are_told_what_is_right(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(commands.token, ["create", *arguments])
    assert result.exit_code == 2
    assert said in result.output
