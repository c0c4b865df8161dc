"""The command `account`: which Kommo accounts this installation may speak for.

Exit codes: 0 done; 1 no (Kommo refuses, or the account is not connected); 2 wrong usage or settings; 3 PostgreSQL or
Kommo is away.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Awaitable, Callable
from typing import Any, TextIO, TypeVar

import click
import orjson
from pydantic import SecretStr

from agents.commands.table import retry_now
from agents.kommo.client import Answer
from agents.kommo.clients import KommoClients
from agents.kommo.credentials import Credentials, Pair, base_url_of, forget, listed, rotate
from agents.kommo.oauth import claims_of, integrations_of
from agents.kommo.problems import KommoError
from agents.kommo.vault import Vault
from agents.migrations import migrate_missing
from runtime.commandline import NO, SERVER_AWAY, USAGE, settings_or_stop, stop
from runtime.errors import StartError
from runtime.logs import logging_to
from runtime.migrations import MigrationError
from runtime.postgres import AWAY, open_pool
from runtime.settings import PREFIX, Settings
from schemas.errors import ErrorClass

T = TypeVar("T")

_AWAY_CLASSES = (ErrorClass.EXTERNAL_SERVICE, ErrorClass.RATE_LIMIT)
_MOST_TOKEN = 20_000  # characters; Kommo's have about a thousand


class _No(Exception):
    """What was asked for is not so; the message is for a person."""


def _with_pool(settings: Settings, work: Callable[[Any], Awaitable[T]]) -> T:
    async def connected() -> T:
        pool = await open_pool(settings, application="command", size=2)
        try:
            async with pool.acquire() as connection:
                await migrate_missing(connection)
            return await work(pool)
        finally:
            await asyncio.wait_for(pool.close(), 5)

    try:
        with logging_to(settings, process="command"):  # to standard error: standard output is the answer
            return asyncio.run(connected())
    except (MigrationError, StartError) as error:
        stop(str(error), USAGE)
    except _No as error:
        stop(str(error), NO)
    except KommoError as error:
        stop(_said(error), SERVER_AWAY if error.error_class in _AWAY_CLASSES else NO)
    except AWAY as error:
        stop(f"PostgreSQL ({PREFIX}DATABASE_URL) is away or refuses: {type(error).__name__}", SERVER_AWAY)


def _said(error: KommoError) -> str:
    # To the person at the terminal Kommo's own words are said too.
    detail = f" ({error.detail})" if error.detail and error.detail not in str(error) else ""
    again = f"; try again in {error.retry_after:.0f} s" if error.retry_after and error.retry_after < 3600 else ""
    return f"{error}{detail}{again}"


def _url(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return base_url_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group()
def account() -> None:
    """Connect Kommo accounts: without a token nothing can be written to one."""


@account.command()
@click.option("--url", "base_url", required=True, callback=_url, help="The account's address: https://SUB.kommo.com.")
@click.option("--code", help="The authorization code that Kommo sent to the redirect address, within its 20 minutes.")
@click.option("--client", "client_uuid", help="The integration, where KOMMO_STREAMS_INTEGRATIONS has several.")
@click.option("--redirect-uri", help="Instead of KOMMO_STREAMS_OAUTH_REDIRECT_URI.")
@click.option("--token-file", type=click.File("r"), help="A file with a long-lived token; - is standard input.")
def connect(
    base_url: str, code: str | None, client_uuid: str | None, redirect_uri: str | None, token_file: TextIO | None
) -> None:
    """Connect an account, by an integration's code or by a long-lived token; again, when Kommo refuses its tokens."""
    if (not code) == (token_file is None):
        raise click.UsageError("give either --code or --token-file")
    settings = settings_or_stop()
    if token_file is not None:
        if client_uuid or redirect_uri:
            raise click.UsageError("--client and --redirect-uri belong to --code")
        made = _with_pool(settings, lambda pool: _connect_token(settings, pool, base_url, _token(token_file)))
    else:
        client = _client(settings, client_uuid)
        redirect = redirect_uri or settings.oauth_redirect_uri
        if redirect is None:
            raise click.UsageError(
                f"Kommo wants the integration's redirect address: give --redirect-uri or set {PREFIX}OAUTH_REDIRECT_URI"
            )
        secret = SecretStr(code or "")
        made = _with_pool(settings, lambda pool: _connect_code(settings, pool, base_url, client, redirect, secret))
    found, name = made
    until = "does not say when it expires"
    if found.pair.expires_at is not None:
        until = f"expires {found.pair.expires_at:%Y-%m-%d %H:%M} UTC"
    if found.pair.refresh is not None:
        until = "is renewed by itself"
    click.echo(f"Connected account {found.account_id} ({name}) at {found.base_url}; its token {until}.")


def _token(file: TextIO) -> SecretStr:
    try:
        text = file.read(_MOST_TOKEN).strip()
    except UnicodeDecodeError:
        text = ""
    if len(text) < 20 or not text.isascii() or not text.isprintable() or " " in text:
        raise click.UsageError("the file does not hold a token, and nothing else")
    return SecretStr(text)


def _client(settings: Settings, wanted: str | None) -> str:
    known = list(integrations_of(settings))
    if wanted is not None and wanted.lower() in known:
        return wanted.lower()
    if wanted is None and len(known) == 1:
        return known[0]
    if not known:
        raise click.UsageError(f"{PREFIX}INTEGRATIONS is not set: the code can only be used with the client secret")
    raise click.BadParameter(f"must be one of {PREFIX}INTEGRATIONS: {', '.join(known)}", param_hint="--client")


async def _connect_code(
    settings: Settings, pool: Any, base_url: str, client: str, redirect_uri: str, code: SecretStr
) -> tuple[Credentials, str]:
    async with KommoClients(settings, pool) as clients:
        pair = await clients.oauth.exchange_code(base_url, client, redirect_uri, code)
        return await _go_on(pool, await _keep(clients, base_url, pair, client, redirect_uri))


async def _connect_token(settings: Settings, pool: Any, base_url: str, token: SecretStr) -> tuple[Credentials, str]:
    async with KommoClients(settings, pool) as clients:
        return await _go_on(pool, await _keep(clients, base_url, Pair(token, claims_of(token).expires_at)))


async def _go_on(pool: Any, connected: tuple[Credentials, str]) -> tuple[Credentials, str]:
    """Let the commands that waited for this connection go on."""
    async with pool.acquire() as connection, connection.transaction():
        await retry_now(connection, connected[0].account_id)
    return connected


async def _keep(
    clients: KommoClients, base_url: str, pair: Pair, client: str | None = None, redirect_uri: str | None = None
) -> tuple[Credentials, str]:
    """Try the tokens and store them where they are of this address's account. Raises KommoError, _No."""
    claims = claims_of(pair.access)
    if claims.account_id is None:
        raise _No("the token does not say which account it is of: it is not one of Kommo's API v4")
    made = Credentials(claims.account_id, base_url, pair, client, redirect_uri, claims.user_id)
    try:
        found = _account_of(await clients.account(made))
    except KommoError as error:
        if client is not None and error.error_class in _AWAY_CLASSES:
            await clients.store.put(made)  # a code works once: what it gave must not get lost
        raise
    if found["id"] != claims.account_id:
        raise _No(f"the token is of account {claims.account_id}, but {base_url} is account {found['id']}")
    await clients.store.put(made)
    return made, found["name"]


def _account_of(answer: Answer) -> dict[str, Any]:
    body = answer.body if isinstance(answer.body, dict) else {}
    return {"id": body.get("id"), "name": re.sub(r"[^\w .&'()-]", "", str(body.get("name") or "?"))[:100]}


@account.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_(as_json: bool) -> None:
    """Show the connected accounts, without their tokens."""
    rows = _with_pool(settings_or_stop(), listed)
    if as_json:
        click.echo(orjson.dumps(rows, option=orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS))
    elif rows:
        for line in _table(rows):
            click.echo(line)
    else:
        click.echo("No account is connected. Connect one: kommo-streams account connect --help", err=True)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    head = ("ACCOUNT", "ADDRESS", "BY", "CONNECTED (UTC)", "STATE")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    by = row["client_uuid"] or "long-lived token"
    state = "connected"
    if row["client_uuid"] is None and row["expires_at"] is not None:
        over = row["expires_at"] <= dt.datetime.now(dt.UTC)
        state = f"{'expired' if over else 'until'} {row['expires_at']:%Y-%m-%d}"
    if row["why"]:
        state = f"needs a person: {row['why']}"
    return str(row["account_id"]), row["base_url"], by, f"{row['connected_at']:%Y-%m-%d %H:%M}", state


@account.command()
@click.argument("account_id", type=click.IntRange(1, 2**63 - 1))
def check(account_id: int) -> None:
    """Ask Kommo for the account: exit code 0 if it answers, 1 if it refuses, 3 if it is away."""
    settings = settings_or_stop()

    async def ask(pool: Any) -> Answer:
        async with KommoClients(settings, pool) as clients:
            credentials = await clients.store.get(account_id)
            if credentials is None:
                raise _No(f"account {account_id} is not connected; `kommo-streams account list` shows those that are")
            if credentials.refused_at is not None:  # a person asks: now, not in an hour
                await clients.store.retry(account_id)
            return await clients.client(account_id).request("GET", "/account")

    found = _account_of(_with_pool(settings, ask))
    if found["id"] != account_id:
        stop(f"Kommo answers as another account: {found['id']}", NO)
    click.echo(f"Account {account_id} ({found['name']}) answers.")


@account.command()
@click.argument("account_id", type=click.IntRange(1, 2**63 - 1))
def disconnect(account_id: int) -> None:
    """Forget an account's tokens; every process stops within a minute. Kommo itself still knows the integration."""
    if not _with_pool(settings_or_stop(), lambda pool: forget(pool, account_id)):
        stop(f"account {account_id} is not connected", NO)
    click.echo(f"Account {account_id} is disconnected. To revoke the tokens, remove the integration in Kommo.")


@account.command("rotate-keys")
def rotate_keys() -> None:
    """Encrypt all tokens with the first key of KOMMO_STREAMS_TOKEN_KEYS; then the others can be taken out of it."""
    settings = settings_or_stop()

    async def work(pool: Any) -> int:
        async with pool.acquire() as connection:
            return await rotate(connection, Vault.from_settings(settings))

    count = _with_pool(settings, work)
    click.echo(f"The tokens of {count} account{'' if count == 1 else 's'} are encrypted with the first key.")
