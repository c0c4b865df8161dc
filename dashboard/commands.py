"""The commands `token` and `dashboard-url`: who may read and give commands, managed from the command line.

Exit codes: 0 done; 1 no (a token that is not valid, a name that is not there); 2 wrong usage; 3 no database.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import orjson

from dashboard import tokens
from dashboard.access import Access
from dashboard.database import reason
from dashboard.migrations import migrate_missing
from projections.queries import Accounts
from runtime.commandline import NO, SERVER_AWAY, USAGE, settings_or_stop, stop
from runtime.logs import logging_to
from runtime.migrations import MigrationError
from runtime.postgres import AWAY, connect
from runtime.settings import PREFIX, Settings

T = TypeVar("T")

_MOST_ACCOUNTS = 200
_SPAN = re.compile(r"([1-9][0-9]{0,4})([mhdw])", re.ASCII)
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


class AccountsType(click.ParamType):
    """Account numbers with commas between, or * for all; gives Accounts."""

    name = "accounts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Accounts:
        """Read the text. Fails with what is accepted."""
        if value == "*":
            return None
        parts = [part.strip() for part in str(value).split(",")]
        if not all(re.fullmatch(r"[1-9][0-9]{0,18}", part, re.ASCII) and int(part) < 2**63 for part in parts):
            self.fail("give account numbers with commas between, such as 31337,31338, or '*' in quotes for all", param)
        if len(parts) > _MOST_ACCOUNTS:
            self.fail(f"a token may name {_MOST_ACCOUNTS} accounts; '*' is all", param)
        return tuple(sorted({int(part) for part in parts}))


class ExpiryType(click.ParamType):
    """A span (30d, 12h, 90m, 2w), a time with its zone, or never; gives a time in UTC or None."""

    name = "expiry"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.datetime | None:
        """Read the text. Fails with what is accepted, also for a time that is over."""
        if value is None or isinstance(value, dt.datetime) or value == "never":
            return value if isinstance(value, dt.datetime) else None
        now = dt.datetime.now(dt.UTC)
        span = _SPAN.fullmatch(str(value))
        if span is not None:
            return now + dt.timedelta(seconds=int(span[1]) * _SECONDS[span[2]])
        try:
            moment = dt.datetime.fromisoformat(str(value).upper())
            if moment.tzinfo is None:
                raise ValueError
            moment = moment.astimezone(dt.UTC)
        except (ValueError, OverflowError):
            self.fail("give a span such as 30d or 12h, a time such as 2027-01-31T00:00:00Z, or never", param)
        if moment <= now:
            self.fail(f"{moment:%Y-%m-%d %H:%M} UTC is over", param)
        return moment


def _may(commands: bool) -> str:
    return "reads and gives commands for" if commands else "reads"


def _with_database(settings: Settings, work: Callable[[Any], Awaitable[T]]) -> T:
    async def connected() -> T:
        connection = await connect(settings, application="command")
        try:
            await migrate_missing(connection)
            return await work(connection)
        finally:
            await connection.close(timeout=2)

    try:
        with logging_to(settings, process="command"):  # to standard error: standard output is the answer
            return asyncio.run(connected())
    except MigrationError as error:
        stop(str(error), USAGE)
    except AWAY as error:
        stop(f"{reason(error)}. Tokens are kept in PostgreSQL ({PREFIX}DATABASE_URL).", SERVER_AWAY)


@click.group()
def token() -> None:
    """Manage the tokens with which programs read the dashboard's API, and give commands."""


@token.command()
@click.option("--name", required=True, help="What the token is for; `token list` shows it.")
@click.option("--accounts", required=True, type=AccountsType(), help="Kommo accounts it may read: 1,2 or '*' for all.")
@click.option("--expires", default="90d", show_default=True, type=ExpiryType(), help="30d, 12h, a time, or never.")
@click.option("--commands", is_flag=True, help="It may also give commands for these accounts: change things in Kommo.")
@click.option("--quiet", is_flag=True, help="Print the token and nothing else.")
def create(name: str, accounts: Accounts, expires: dt.datetime | None, commands: bool, quiet: bool) -> None:
    """Make a token and print it, this once: only a hash of it is kept."""
    name = name.strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise click.BadParameter("a name has 1 to 100 printable characters", param_hint="--name")
    made = _with_database(
        settings_or_stop(), lambda connection: tokens.create(connection, name, accounts, expires, commands=commands)
    )
    click.echo(made.text)
    if not quiet:
        until = "never expires" if expires is None else f"expires {expires:%Y-%m-%d %H:%M} UTC"
        click.echo(
            f"Token {made.id} ({name}) {_may(commands)} {tokens.accounts_text(accounts)} and {until}. "
            "It is not shown again.\n"
            f"Use it as `Authorization: Bearer ...`; take it back with `kommo-streams token revoke {made.id}`.",
            err=True,
        )


@token.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.option("--all", "everything", is_flag=True, help="Also what has expired or was revoked.")
def list_(as_json: bool, everything: bool) -> None:
    """Show tokens and browser sessions, without their secrets."""
    rows = _with_database(settings_or_stop(), lambda connection: tokens.listed(connection, everything))
    if as_json:
        click.echo(orjson.dumps(rows, option=orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS))
    elif rows:
        for line in tokens.table(rows):
            click.echo(line)
    else:
        click.echo("There are no tokens. Make one: kommo-streams token create --name NAME --accounts '*'", err=True)


@token.command()
@click.argument("name_or_id")
def revoke(name_or_id: str) -> None:
    """Take back a token or session by its id, or all tokens of a name; it stops working within 5 seconds."""
    if not name_or_id.isprintable():
        stop("a name or id has printable characters only", USAGE)
    revoked = _with_database(settings_or_stop(), lambda connection: tokens.revoke(connection, name_or_id))
    if not revoked:
        stop("no valid token has this name or id; `kommo-streams token list` shows them", NO)
    for row in revoked:
        click.echo(f"Revoked {row['kind']} {row['id']} ({row['name']}).")


@token.command()
def check() -> None:
    """Say whether the token in KOMMO_STREAMS_DASHBOARD_TOKEN is valid (exit code 0) or not (1)."""
    settings = settings_or_stop()
    if settings.dashboard_token is None:
        stop("KOMMO_STREAMS_DASHBOARD_TOKEN is not set: there is no token to check", NO)
    text = settings.dashboard_token.get_secret_value()
    grant = _with_database(settings, lambda connection: Access(connection).grant(text, "api"))
    if grant is None:
        stop("the token in KOMMO_STREAMS_DASHBOARD_TOKEN is not valid: unknown, expired or revoked", NO)
    click.echo(f"Token {grant.id} is valid and {_may(grant.commands)} {tokens.accounts_text(grant.accounts)}.")


@click.command("dashboard-url")
@click.option("--accounts", default="*", show_default=True, type=AccountsType(), help="Accounts the page may show.")
@click.option("--commands", is_flag=True, help="The page may also give commands: change things in Kommo.")
@click.option("--quiet", is_flag=True, help="Print the address and nothing else.")
def dashboard_url(accounts: Accounts, commands: bool, quiet: bool) -> None:
    """Print an address that opens the page once, within 15 minutes."""
    settings = settings_or_stop()
    made = _with_database(settings, lambda connection: tokens.create_code(connection, accounts, commands=commands))
    # In the fragment, which no browser sends: the code comes into no server's log on the way.
    click.echo(f"{settings.dashboard_url}/#code={made.text}")
    if not quiet:
        click.echo(f"It {_may(commands)} {tokens.accounts_text(accounts)}, works once, and for 15 minutes.", err=True)
