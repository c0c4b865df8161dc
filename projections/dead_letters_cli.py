"""The command `kommo-streams deadletters`: what was set aside, why, and the original as it was.

Exit codes: 0 done; 1 there is no such letter, or the tables are not there; 2 wrong usage; 3 PostgreSQL is away.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import click
import orjson

from runtime.commandline import NO, SERVER_AWAY, settings_or_stop, stop
from runtime.logs import logging_to
from runtime.postgres import AWAY, connect
from schemas.errors import ErrorClass

T = TypeVar("T")


_LIST = """
SELECT letter_id, account_id::text, occurred_at, error_class, reason, reader, attempts, topic, original_partition,
       original_offset, item
FROM kommo.dead_letters
WHERE ($1::bigint IS NULL OR account_id = $1) AND ($2::text IS NULL OR error_class = $2)
  AND ($3::text IS NULL OR reader = $3)
ORDER BY occurred_at DESC, letter_id DESC LIMIT $4
"""
_SHOW = "SELECT * FROM kommo.dead_letters WHERE letter_id = $1"


def _ask(question: Callable[[Any], Awaitable[T]]) -> T:
    settings = settings_or_stop()

    async def main() -> T:
        connection = await connect(settings, application="deadletters")
        try:
            return await question(connection)
        finally:
            await connection.close()

    with logging_to(settings.model_copy(update={"log_level": "ERROR"}), process="deadletters"):
        try:
            return asyncio.run(main())
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
            stop("the tables are not there yet: run `kommo-streams init`, and a projector to fill them", NO)
        except AWAY as error:
            stop(f"PostgreSQL is away: {type(error).__name__}", SERVER_AWAY)


@click.group()
def deadletters() -> None:
    """See what was set aside: what could not become an event, a row, or be carried out.

    \b
    kommo-streams deadletters list --class validation
    kommo-streams deadletters show LETTER
    """


@deadletters.command("list")
@click.option("--account", type=click.IntRange(1, 2**63 - 1), help="Only of this account.")
@click.option(
    "--class", "error_class", type=click.Choice([item.value for item in ErrorClass]), help="Only of this class."
)
@click.option("--reader", help="Only what this one set aside: ingest, commands, activity_log.v2, ...")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
def list_(account: int | None, error_class: str | None, reader: str | None, limit: int) -> None:
    """List dead letters, the latest first: a line each."""
    rows = _ask(lambda connection: connection.fetch(_LIST, account, error_class, reader, limit))
    for row in rows:
        where = f"{row['topic']}/{row['original_partition']}/{row['original_offset']}" if row["topic"] else "-"
        item = f" {row['item']}" if row["item"] else ""
        click.echo(
            f"{row['letter_id']} {row['occurred_at']:%Y-%m-%d %H:%M:%S} {row['error_class']} by {row['reader'] or '?'} "
            f"account {row['account_id'] or '?'} {where}{item}: {row['reason']}"
        )


@deadletters.command()
@click.argument("letter", metavar="LETTER")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option("--value", "only_value", is_flag=True, help="Only the original's value, byte for byte.")
def show(letter: str, as_json: bool, only_value: bool) -> None:
    """Show a dead letter whole, with the original record. Exit code 1: there is none of this id."""
    row = _ask(lambda connection: connection.fetchrow(_SHOW, letter))
    if row is None:
        stop(f"there is no dead letter {letter[:80]}", NO)
    if only_value:
        click.get_binary_stream("stdout").write(row["value"] or b"")
        return
    told = {name: _shown(value) for name, value in dict(row).items()}
    headers = orjson.loads(row["headers"])
    if as_json:
        told["headers"] = [{"name": name, "value": value} for name, value in headers]  # as the API has them
        click.echo(orjson.dumps(told, default=str, option=orjson.OPT_INDENT_2).decode())
        return
    told["headers"] = ", ".join(f"{name}={value}" for name, value in headers)
    for name, value in told.items():
        if value not in (None, ""):
            click.echo(f"{name:<20} {value}")


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value.isoformat() if isinstance(value, dt.datetime) else value
