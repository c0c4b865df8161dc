"""What the commands of a person share: exit codes, the settings, and a clear word on standard error."""

from __future__ import annotations

from typing import NoReturn

import click

from runtime.settings import Settings, SettingsError, load_settings

NO, USAGE, SERVER_AWAY = 1, 2, 3
"""Exit codes beside 0: not so or not done; wrong arguments or settings; a server is away."""


def stop(message: str, code: int) -> NoReturn:
    """End the command that runs with a message on standard error and an exit code."""
    click.echo(f"{click.get_current_context().command_path}: {message}", err=True)
    raise SystemExit(code)


def settings_or_stop() -> Settings:
    """Return the settings; wrong ones end the command with USAGE."""
    try:
        return load_settings()
    except SettingsError as error:
        stop(str(error), USAGE)
