"""The command `kommo-streams command`: ask for an action, look what became of it, decide what is unknown.

Exit codes: 0 done; 1 no (refused, not found, failed); 2 wrong usage; 3 a server is away.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import re
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import click
import orjson
from aiokafka.errors import KafkaError

from agents.commands.deciding import Decision, DecisionError, decide
from agents.commands.table import MAKERS
from runtime.commandline import NO, SERVER_AWAY, USAGE, settings_or_stop, stop
from runtime.logs import logging_to
from runtime.postgres import AWAY, connect
from runtime.settings import Settings
from schemas.actions import ACTIONS
from schemas.command import PREFIX, Command, CommandError, id_of_key
from streams.producer import Producer, Record
from streams.topics import COMMANDS, physical

T = TypeVar("T")

_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SEND_SECONDS = 15.0
_ENDED = ("succeeded", "failed", "unknown")

_ONE = """
SELECT id::text, account_id::text, action, command, state, attempts, doubt IS NOT NULL AS in_doubt,
       admitted_at, next_attempt_at, expires_at, finished_at, result, error_class, error, correlation_id, after::text
FROM kommo_agents.commands WHERE id = $1
"""
_STORY = """
SELECT occurred_at, event_type, entity_type, entity_id, summary, duration_ms
FROM kommo.activity_log WHERE account_id = $1 AND correlation_id = $2 ORDER BY occurred_at, sort_key LIMIT 200
"""
_CIRCUITS = "SELECT kind, until FROM kommo.circuits WHERE account_id = $1 ORDER BY kind"
_LIST = """
SELECT id::text, account_id::text, action, command, state, attempts, admitted_at, next_attempt_at, error
FROM kommo_agents.commands
WHERE ($1::bigint IS NULL OR account_id = $1) AND ($2::text IS NULL OR state = $2)
ORDER BY number DESC LIMIT $3
"""


def _do(settings: Settings, work: Callable[[], Awaitable[T]], hint: str = "") -> T:
    """Do something with servers; `hint` says what is so, or to be done, where it does not come to its end."""
    more = f"; {hint}" if hint else ""

    async def main() -> T:
        return await work()

    with logging_to(settings.model_copy(update={"log_level": "ERROR"}), process="command"):
        try:
            return asyncio.run(main())
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
            stop("the tables are not there yet: run `kommo-streams init` or start a worker", NO)
        except KafkaError as error:
            stop(f"Kafka is away: {type(error).__name__}{more}", SERVER_AWAY)
        except AWAY as error:
            which = "PostgreSQL" if isinstance(error, asyncpg.PostgresError | ConnectionError) else "a server"
            stop(f"{which} is away: {type(error).__name__}{more}", SERVER_AWAY)
        except KeyboardInterrupt:
            stop(f"broken off{more}", 130)


def _id(_context: click.Context, _parameter: click.Parameter, value: str) -> str:

    if value is not None and re.fullmatch(_UUID, value.lower()) is None:
        raise click.BadParameter("must be a UUID, such as 0e5f4f8a-6a57-5c43-9a9e-2c8d5d0f7a11")
    return value.lower() if value else value


def _made_ids(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, int] | None:
    if not values:
        return None
    found: dict[str, int] = {}
    for value in values:
        if value == "none":
            continue
        kind, _, number = value.partition("=")
        if kind not in MAKERS or re.fullmatch(r"[1-9][0-9]{0,17}", number) is None:
            raise click.BadParameter(f"{value!r} must be TYPE=ID, the type one of {', '.join(MAKERS)}")
        found[kind] = int(number)
    return found


@click.group()
def command() -> None:
    """Ask Kommo to do something, once, and see what became of it.

    \b
    kommo-streams command actions
    kommo-streams command send add_note --account 31337 entity_type=lead entity_id=7 text='Called back' --wait 30
    kommo-streams command show ID
    """


@command.command()
@click.argument("action", required=False, type=click.Choice(list(ACTIONS)))
def actions(action: str | None) -> None:
    """List what can be asked for; with an action: the JSON Schema of its fields."""
    if action is not None:
        schema = ACTIONS[action].model_json_schema()
        click.echo(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())
        return
    for name, model in ACTIONS.items():
        required = [field for field, info in model.model_fields.items() if info.is_required()]
        click.echo(f"{name:<20} {(model.__doc__ or '').splitlines()[0]}")
        if required:
            click.echo(f"{'':<20} needs {', '.join(required)}")


@command.command()
@click.argument("action", metavar="ACTION", type=click.Choice(list(ACTIONS)))
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--account", required=True, type=click.IntRange(1, 10**18 - 1), help="The Kommo account.")
@click.option("--json", "text", help="All fields as one JSON object, or - to read it from standard input.")
@click.option("--key", help="Idempotency key: the same key is the same command, however often it is sent.")
@click.option("--after", callback=_id, help='Id of the command that must succeed before; ids may then be "after".')
@click.option("--wait", type=click.FloatRange(0, 3600), help="Wait up to so many seconds for its end.")
def send(
    action: str, fields: tuple[str, ...], account: int, text: str | None, key: str | None, after: str, wait: float
) -> None:
    """Ask for an action, and print the command's id.

    A value of another field than a text is JSON where it can be read as such (7, true, ["a"], {"x": 1}). Wrong fields
    are refused here, by name, and nothing is sent.
    """
    if wait is not None and not math.isfinite(wait):
        raise click.BadParameter("must be a number of seconds", param_hint="--wait")
    data = _data(action, fields, text)
    try:
        command_id = None if key is None else id_of_key(account, key)
    except CommandError as error:
        stop(f"--{error}", USAGE)
    made = _made(action, account, data, command_id, after)
    settings = settings_or_stop()

    async def sent() -> None:
        async with asyncio.timeout(_SEND_SECONDS), Producer(settings, "command") as producer:
            await (await producer.send(COMMANDS, Record(made.key, made.to_json())))

    maybe = f"it may have been sent: `kommo-streams command show {made.id}`; send it again only with --key"
    _do(settings, sent, maybe if key is None else f"send it again with the same --key: it is command {made.id}")
    click.echo(made.id)  # at once: from here on it will be carried out
    sys.stdout.flush()
    if wait is None:
        return
    told = f"it was sent: `kommo-streams command show {made.id}`"
    ended = _do(settings, lambda: _until_ended(settings, made.id, wait), told)
    if ended is None:
        stop(f"not ended within {wait:g} s; {told}", NO)
    click.echo(_line(ended), err=True)
    if not _is_same(made, ended):
        stop(f"--key {key} stands for another command, which is the one above: this was not asked for", NO)
    sys.exit(0 if ended["state"] == "succeeded" else NO)


def _is_same(made: Command, row: dict[str, Any]) -> bool:
    known = Command.from_json(row["command"])
    return (known.name, known.data()) == (made.name, made.data())


def _data(action: str, fields: tuple[str, ...], text: str | None) -> dict[str, Any]:
    try:
        data = orjson.loads(sys.stdin.buffer.read() if text == "-" else text or "{}")
    except ValueError as error:
        stop(f"--json: {error}", USAGE)
    if not isinstance(data, dict):
        stop("--json: must be one JSON object", USAGE)
    for field in fields:
        name, equals, value = field.partition("=")
        if not equals:
            stop(f"{field}: must be FIELD=VALUE", USAGE)
        data[name] = value if name in _texts(action) else _read(value)
    return data


def _texts(action: str) -> set[str]:
    """Return the fields of an action that are texts, and nothing else: a phone of digits is no number."""
    found = set()
    for name, schema in ACTIONS[action].model_json_schema()["properties"].items():
        kinds = {
            choice.get("type", "string" if "const" in choice else None) for choice in schema.get("anyOf", [schema])
        }
        if kinds - {"null"} == {"string"}:
            found.add(name)
    return found


def _read(value: str) -> Any:
    try:
        return orjson.loads(value)
    except ValueError:
        return value


def _made(action: str, account: int, data: dict[str, Any], command_id: str | None, after: str | None) -> Command:

    envelope = {
        "specversion": "1.0",
        "id": command_id or str(uuid.uuid4()),
        "source": "/kommo-streams/cli",
        "type": f"{PREFIX}{action}",
        "time": dt.datetime.now(dt.UTC).isoformat(),
        "accountid": str(account),
        "data": data,
        **({"after": after} if after else {}),
    }
    try:
        return Command.from_json(orjson.dumps(envelope))
    except TypeError:
        stop("a field's text is not UTF-8", USAGE)
    except CommandError as error:
        stop(f"{str(error).removeprefix('data.')} (see `kommo-streams command actions {action}`)", USAGE)


async def _until_ended(settings: Settings, command_id: str, seconds: float) -> dict[str, Any] | None:
    limit = time.monotonic() + seconds
    connection = await connect(settings, application="command")
    try:
        while True:
            row = await connection.fetchrow(_ONE, command_id)
            if row is not None and row["state"] in _ENDED:
                return dict(row)
            if time.monotonic() >= limit:
                return None
            await asyncio.sleep(0.2)
    finally:
        await connection.close()


@command.command()
@click.argument("command_id", metavar="ID", callback=_id)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def show(command_id: str, as_json: bool) -> None:
    """Show a command and its story: everything that carries its correlation id. Exit code 1: there is none."""
    settings = settings_or_stop()

    async def work() -> tuple[Any, list[Any], list[Any]]:
        connection = await connect(settings, application="command")
        try:
            row = await connection.fetchrow(_ONE, command_id)
            if row is None:
                return None, [], []
            account = int(row["account_id"])
            circuits = await connection.fetch(_CIRCUITS, account) if row["state"] == "waiting" else []
            try:
                story = await connection.fetch(_STORY, account, row["correlation_id"])
            except asyncpg.UndefinedTableError:
                story = []  # no projection runs here
            return row, circuits, story
        finally:
            await connection.close()

    row, circuits, story = _do(settings, work)
    if row is None:
        stop(f"there is no command {command_id} (one that was just sent may not be taken on yet)", NO)
    envelope = orjson.loads(row["command"])
    told = dict(row) | {"command": envelope, "result": orjson.loads(row["result"] or "null")}
    if as_json:
        told["story"] = [dict(line) for line in story]
        click.echo(orjson.dumps(told, default=str, option=orjson.OPT_INDENT_2).decode())
        return
    click.echo(_line(dict(row)))
    data = orjson.dumps(envelope["data"]).decode()
    for name, value in {
        "account": told["account_id"],
        "correlation": told["correlation_id"],
        "after": told["after"],
        "data": data,
        "result": told["result"] and orjson.dumps(told["result"]).decode(),
        "expires": told["expires_at"] if told["state"] not in ("succeeded", "failed") else None,
    }.items():
        if value is not None:
            click.echo(f"  {name:<12} {value}")
    for circuit in circuits:
        click.echo(
            f"  {'circuit':<12} {circuit['kind']} of the account fail; a probe at {circuit['until']:%H:%M:%S} UTC"
        )
    for line in story:
        click.echo(f"  {line['occurred_at']:%Y-%m-%d %H:%M:%S.%f} {line['summary']}")


def _line(row: dict[str, Any]) -> str:
    entity = Command.from_json(row["command"]).subject
    attempts = f"{row['attempts']} attempt{'s' * (row['attempts'] != 1)}"
    told = f"{row['id']} {row['action']} on {entity}: {row['state']} after {attempts}"
    if row["state"] == "waiting":
        told += f", next at {row['next_attempt_at']:%H:%M:%S} UTC"
    return f"{told}: {row['error']}" if row["error"] and row["state"] != "succeeded" else told


@command.command("list")
@click.option("--account", type=click.IntRange(1, 2**63 - 1), help="Only of this account.")
@click.option("--state", type=click.Choice(["waiting", "claimed", "unknown", "succeeded", "failed"]))
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
def list_(account: int | None, state: str | None, limit: int) -> None:
    """List commands, the newest first."""
    settings = settings_or_stop()

    async def work() -> list[Any]:
        connection = await connect(settings, application="command")
        try:
            found: list[Any] = await connection.fetch(_LIST, account, state, limit)
            return found
        finally:
            await connection.close()

    for row in _do(settings, work):
        click.echo(_line(dict(row)))


@command.command("decide")
@click.argument("command_id", metavar="ID", callback=_id)
@click.option("--done", "decisions", multiple=True, flag_value="done", help="It was carried out.")
@click.option("--repeat", "decisions", multiple=True, flag_value="repeat", help="It was not: do it again.")
@click.option(
    "--drop", "decisions", multiple=True, flag_value="drop", help="Do not do it (again): it becomes a dead letter."
)
@click.option(
    "--made",
    multiple=True,
    metavar="TYPE=ID",
    callback=_made_ids,
    help="With --done: what it made, such as lead=123, for what waits for its result; none where nothing may use it.",
)
def decide_(command_id: str, decisions: tuple[Decision, ...], made: dict[str, int] | None) -> None:
    """Decide about a command whose outcome is unknown. Look at Kommo first: nobody else can tell."""
    if len(set(decisions)) != 1:
        raise click.UsageError("say one of --done, --repeat and --drop")
    decision = decisions[0]
    if made is not None and decision != "done":
        raise click.UsageError("--made goes with --done")
    settings = settings_or_stop()

    async def work() -> None:
        connection = await connect(settings, application="command")
        try:
            await decide(connection, physical(settings, COMMANDS), command_id, decision, made)
        finally:
            await connection.close()

    try:
        _do(settings, work)
    except DecisionError as error:
        stop(str(error), NO)
    click.echo(f"{command_id}: {decision}")
