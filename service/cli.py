"""The command line `kommo-streams`: every process and every chore is a subcommand."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import click

_COMMANDS = {
    "up": ("service.commands", "up"),
    "init": ("service.commands", "init"),
    "gateway": ("service.commands", "gateway"),
    "ingest": ("service.commands", "ingest"),
    "projector": ("service.commands", "projector"),
    "worker": ("service.commands", "worker"),
    "dashboard": ("service.commands", "dashboard"),
    "config": ("service.commands", "config"),
    "webhook-url": ("gateway.commands", "webhook_url"),
    "token": ("dashboard.commands", "token"),
    "dashboard-url": ("dashboard.commands", "dashboard_url"),
    "account": ("agents.kommo.commands", "account"),
    "command": ("agents.commands.cli", "command"),
    "deadletters": ("projections.dead_letters_cli", "deadletters"),
    "decode": ("service.decode", "decode"),
    "simulate": ("simulator.commands", "simulate"),
    "simulate-api": ("simulator.api.commands", "simulate_api"),
}

_PACKAGES = (
    "schemas",
    "runtime",
    "streams",
    "agents",
    "projections",
    "gateway",
    "dashboard",
    "simulator",
    "service",
)

EPILOG = """
\b
First look:      kommo-streams up --demo
In production:   kommo-streams init, then any number of gateway, ingest, projector, worker, dashboard
Settings:        environment variables KOMMO_STREAMS_..., see `kommo-streams config`
\b
Exit codes: 0 done, 1 failed, 2 wrong arguments or settings, 3 a server is away.
"""


class _LazyGroup(click.Group):
    """Imports a subcommand only when it is called: every process then starts with what it needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=_LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kommo-streams")
def cli() -> None:
    """Event-sourced stream processing for the CRM Kommo.

    Webhooks become events on Kafka, events become tables in PostgreSQL: nothing is lost, shown twice, or overwritten
    by something older. Commands go the other way, each carried out in Kommo once.
    """


def foreign_packages() -> list[str]:
    """Return the packages that Python finds elsewhere than beside this one: another project's of the same name."""
    home = Path(__file__).resolve().parent.parent
    found = []
    for name in _PACKAGES:
        package = importlib.util.find_spec(name)
        if package is None or package.origin is None or Path(package.origin).resolve().parent.parent != home:
            found.append(f"{name} ({package.origin if package else 'missing'})")
    return found


def main() -> None:
    """Run the command line."""
    foreign = foreign_packages()
    if foreign:
        click.echo(
            f"kommo-streams: these packages are not its own: {', '.join(foreign)}. It is an application: install it "
            "into an environment (or image) of its own.",
            err=True,
        )
        sys.exit(2)
    cli()
