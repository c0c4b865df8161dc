"""The command `kommo-streams decode`: what a webhook's body becomes, without servers or settings.

It starts fast: what only some of its ways need is imported there.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from schemas.delivery import MAX_BODY_BYTES, Delivery
from schemas.errors import ErrorClass

if TYPE_CHECKING:
    from schemas.decoder import Rejection

_DEFAULT_ACCOUNT = 16700680  # that of `up`
_FROM_A_PIPE_US = 4_102_444_800_000_000  # 2100-01-01, in microseconds since 1970
_LATEST_US = 2**52 - 1  # as schemas/delivery.py bounds it
_END = 1024  # bytes of new lines that may end a file
_FAILED, _WRONG = 1, 2

_Written = tuple[list[bytes], "list[Rejection]"]


class _Received(click.ParamType):
    """A moment, in microseconds since 1970."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            moment = dt.datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time: write it as 2026-01-31T09:30:00Z", param, ctx)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        microseconds = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
        if not 0 < microseconds <= _LATEST_US:
            self.fail(f"{value!r} is before 1970 or too far ahead", param, ctx)
        return microseconds


class _File(click.Path):
    """A file, a folder, or `-`; an empty name would be the folder one is in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("a name is empty", param, ctx)
        return super().convert(value, param, ctx)


@click.command()
@click.option("--form", "as_form", is_flag=True, help="The nested form instead of its events, one body a line.")
@click.option(
    "--account",
    type=click.IntRange(1, 2**63 - 1),
    help=f"Whose webhook address it came to.  [default: the account the body names, or {_DEFAULT_ACCOUNT}]",
)
@click.option(
    "--received-at",
    type=_Received(),
    metavar="TIME",
    help="When the gateway got it, in UTC if it names no zone.  [default: the file's modification time; from a pipe "
    "2100-01-01T00:00:00Z]",
)
@click.argument("files", nargs=-1, metavar="[FILE]...", type=_File(readable=False, path_type=Path, allow_dash=True))
def decode(as_form: bool, account: int | None, received_at: int | None, files: tuple[Path, ...]) -> None:
    """Say what a webhook's body becomes.

    That is its events as they would lie in kommo.events, one a line. A FILE holds one body, as it came; a new line at
    its end is no part of it. A folder stands for the files in it, in the order of their names, and no FILE or `-` for
    standard input. What would become a dead letter goes to standard error, with its body, item, reason and error class,
    and the rest goes on; so does a body that is no webhook's at all, with what it looks like and what to do.

    The same file gives the same output: the delivery id is made from the body's bytes.

    Exit code, with --form too: 0 all decoded, 1 something could not be decoded (an empty body is), 2 wrong arguments,
    nothing to read, a file or folder that cannot be read, or output that cannot be written.
    """
    code = 0
    if sys.stdout is None:
        _say("there is no standard output to write to")
        sys.exit(_WRONG)
    if not files and sys.stdin is not None and sys.stdin.isatty():
        _say("nothing to read: name a FILE or a folder, send a body through a pipe, or give - to type one in")
        sys.exit(_WRONG)
    try:
        for path in files or (Path("-"),):
            for name, found in _bodies(path):
                if isinstance(found, str):
                    _say(f"{name}: {found}")
                    code = _WRONG
                    continue
                body, received_us = found
                lines, rejections = _written(body, as_form, account, received_at or received_us)
                sys.stdout.buffer.writelines(line + b"\n" for line in lines)
                for rejection in rejections:
                    item = f"{rejection.item}: " if rejection.item else ""
                    _say(f"{name}: {item}{rejection.reason} ({rejection.error_class})")
                    code = code or _FAILED
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # `| head -1` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _say(f"the output cannot be written: {error.strerror or error}")
        code = _WRONG
    sys.exit(code)


def _bodies(path: Path) -> Iterator[tuple[str, tuple[bytes, int] | str]]:
    """Yield (name, (body, received in microseconds)), or (name, why it cannot be read), for all a FILE stands for."""
    name = click.format_filename(path)
    try:
        if str(path) == "-":
            yield "standard input", _body(sys.stdin.buffer) if sys.stdin else "is closed"
        elif path.is_dir():
            inside = sorted(child for child in path.iterdir() if child.is_file() or not child.exists())
            if not inside:
                yield name, "a folder without files"
            for child in inside:
                yield from _bodies(child)
        else:
            with path.open("rb") as file:
                yield name, _body(file)
    except OSError as error:
        yield name, error.strerror or str(error)


def _body(file: BinaryIO) -> tuple[bytes, int]:
    # No more than can be decoded: past the bound it is refused, however much there is.
    body = file.read(MAX_BODY_BYTES + _END).rstrip(b"\r\n")
    facts = os.fstat(file.fileno())
    if not stat.S_ISREG(facts.st_mode):
        return body, _FROM_A_PIPE_US
    return body, min(max(facts.st_mtime_ns // 1000, 1), _LATEST_US)


def _events(body: bytes, account: int | None, received_us: int) -> _Written:
    from schemas.decoder import decode as events_of
    from schemas.decoder import named_account

    delivery_id = f"decode-{hashlib.sha256(body).hexdigest()[:32]}"
    delivery = Delivery(account or _DEFAULT_ACCOUNT, delivery_id, received_us, body)
    if account is None and (named := named_account(delivery)):
        delivery = Delivery(named, delivery_id, received_us, body)
    decoded = events_of(delivery)
    return [event.value for event in decoded.events], decoded.rejections


def _form(body: bytes) -> list[bytes]:
    import orjson

    from schemas.body import JsonBody, read_body

    found = read_body(body)
    return [orjson.dumps(found.value if isinstance(found, JsonBody) else found)]


def _written(body: bytes, as_form: bool, account: int | None, received_us: int) -> _Written:
    from schemas.form import FormError

    try:
        return (_form(body), []) if as_form else _events(body, account, received_us)
    except FormError as error:
        reason, error_class = str(error), ErrorClass.VALIDATION
    except Exception as error:  # noqa: BLE001 a fault of ours: ingest would make it a dead letter too
        reason, error_class = f"{type(error).__name__} in the decoder", ErrorClass.INTERNAL
    from schemas.decoder import Rejection

    return [], [Rejection("", reason, error_class)]


def _say(line: str) -> None:
    """Write a line to standard error; a body cannot send control characters to the terminal with it."""
    shown = "".join(character if character.isprintable() else "\ufffd" for character in line)
    click.echo(f"kommo-streams decode: {shown}", err=True)
