"""The subcommands that are processes, and those that prepare and explain them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr

from projections.names import PROJECTIONS
from runtime.process import StartError, run
from runtime.settings import PREFIX, Settings, SettingsError, load_settings, unknown_settings
from service.extras import WORKER, missing

Main = Callable[[Settings, asyncio.Event], Coroutine[Any, Any, None]]


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        click.echo(f"kommo-streams: {error}", err=True)
        sys.exit(2)


def _process(name: str, main: Main) -> None:
    settings = _settings()
    sys.exit(run(settings, name, lambda stop: main(settings, stop)))


@click.command()
def gateway() -> None:
    """Take webhooks in: POST /webhooks/TOKEN, stored in Kafka before it is answered."""
    from gateway.process import gateway as main

    _process("gateway", main)


@click.command()
def ingest() -> None:
    """Turn raw deliveries into events: kommo.webhooks to kommo.events."""
    from agents.ingest import ingest as main

    _process("ingest", main)


@click.command()
@click.option(
    "--projection",
    "names",
    multiple=True,
    type=click.Choice(list(PROJECTIONS)),
    help="Run only this projection (may be given more than once). Default: all.",
)
def projector(names: tuple[str, ...]) -> None:
    """Fold events into the PostgreSQL tables."""
    from projections.projector import projector as main

    _process("projector", lambda settings, stop: main(settings, stop, names))


@click.command()
def worker() -> None:
    """Carry out commands in Kommo: kommo.commands, each once, and what became of it to kommo.events.

    Any number of workers share the accounts out between them; one that dies is replaced within 30 s.
    """
    if package := missing(WORKER):
        click.echo(
            f"kommo-streams worker: needs an extra ({package} is missing): pip install 'kommo-streams[worker]'",
            err=True,
        )
        sys.exit(2)
    from agents.worker import worker as main

    _process("worker", main)


@click.command()
def dashboard() -> None:
    """Serve the JSON API and the page."""
    from dashboard.process import dashboard as main

    _process("dashboard", main)


@click.command()
def init() -> None:
    """Create the topics and the tables that are missing, and say where the topics differ from their declaration.

    Every process does this at its start; run it once before the first. Exit code 3: a server is away.
    """
    from service.init import InitError, initialise

    settings = _settings()
    try:
        for line in asyncio.run(initialise(settings)):
            click.echo(line)
    except StartError as error:
        click.echo(f"kommo-streams init: {error}", err=True)
        sys.exit(2)
    except InitError as error:
        click.echo(f"kommo-streams init: {error}", err=True)
        sys.exit(3)


@click.command()
@click.option(
    "--data",
    default="data",
    show_default=True,
    metavar="DIR",
    help="Where it lives: an empty folder, or one that it made.",
)
@click.option("--port", type=click.IntRange(1, 65534), help="Port of the dashboard; the gateway gets the next one.")
@click.option(
    "--account", type=click.IntRange(1, 2**63 - 1), default=16700680, show_default=True, help="Whose webhooks."
)
@click.option("--demo", is_flag=True, help="Also simulate Kommo: deliveries, and its API for commands.")
def up(data: str, port: int | None, account: int, demo: bool) -> None:
    """Run everything on this machine: Kafka, PostgreSQL, Valkey, and all processes.

    For a first look, development and tests. Data stays in --data and is there again at the next start;
    DATA/kommo-streams.env holds the settings with which any other process, psql or kcat can join. Ctrl-C ends it all.
    """
    from service.up import run_up

    if not data.strip():
        raise click.BadParameter("is empty: name a folder", param_hint="--data")
    sys.exit(run_up(Path(data), port, account, demo=demo))


@click.command()
def config() -> None:
    """List every setting: its environment variable, its value now, and what it means. Secrets are not shown."""
    settings = _settings()
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        hidden = "(set)" if name in settings.model_fields_set else "(default)"
        shown = hidden if isinstance(value, SecretStr) else "(not set)" if value is None else value
        click.echo(f"{PREFIX}{name.upper()} = {shown}\n    {field.description}")
    for name in unknown_settings():
        click.echo(f"kommo-streams: {name} is not a setting: it has no effect", err=True)
