"""The pages of docs/reference/, written from the code: `python -m docs.generate`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import click
from prometheus_client import Counter, Gauge, Histogram, Summary
from pydantic import BaseModel

from docs import actions, asyncapi
from runtime import metrics
from runtime.classify import BY_STATUS, TYPES, class_of_status
from runtime.problem import CONTENT_TYPE, TYPE, title_of
from runtime.settings import PREFIX, Settings
from schemas import models
from schemas.actions import ACTIONS
from schemas.catalogue import EVENT_TYPES
from schemas.errors import FACTS, ErrorClass
from schemas.event import Event
from service.cli import cli
from streams.topics import Topic, topics

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- written by `python -m docs.generate`: change the code, not this page -->"


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows), ""]


def _page(title: str, *parts: str | list[str]) -> str:
    lines = [f"# {title}", "", _NOTE, ""]
    for part in parts:
        lines += [part, ""] if isinstance(part, str) else part
    return "\n".join(lines).rstrip() + "\n"


def _fields(model: type[BaseModel]) -> str:
    own = [name for name in model.model_fields if name not in models.EventData.model_fields]
    return ", ".join(f"`{name}`" for name in own)


def _of(model: type[BaseModel]) -> type[BaseModel]:
    """Return the model of the entity in an event's data."""
    for name, field in model.model_fields.items():
        if name not in models.EventData.model_fields and isinstance(field.annotation, type):
            return field.annotation if issubclass(field.annotation, BaseModel) else model
    return model


def _flags(name: str) -> str:
    kind = EVENT_TYPES[name]
    flags = {
        "creates": kind.creates,
        "snapshot": kind.snapshot,
        "deletes": kind.deletes,
        "by delivery": kind.by_delivery,
        "time not in the id": not (kind.fixed_time or kind.by_delivery),
    }
    return ", ".join(flag for flag, is_so in flags.items() if is_so) or "-"


def events() -> str:
    """Return the page of the event types."""
    kinds = EVENT_TYPES.values()
    attributes = (
        (f"`{name}`", "yes" if field.is_required() or field.default is not None else "no")
        for name, field in Event.model_fields.items()
    )
    used = {_of(kind.model): None for kind in kinds if kind.model is not models.UnrecognizedData}
    shapes = ((f"`{model.__name__}`", (model.__doc__ or "").split("\n")[0], _fields(model)) for model in used)
    return _page(
        "Events",
        "Every event is a CloudEvents 1.0 event in structured JSON mode on `kommo.events`. `identity` is what names "
        "one occurrence: a repeat of it has the same id. Data may also hold `account` (the account block of the body) "
        "and `changes` (`{field: {from, to}}`, where the body proves it).",
        "Flags: *creates* comes before all else of its entity at the same time; *snapshot* describes its entity whole; "
        "*deletes* ends it; *by delivery*: nothing in the body tells a repeat from a second occurrence; "
        "*time not in the id*: a repeat may carry another time.",
        "The same for programs, with a JSON Schema and an example of each: [asyncapi.json](asyncapi.json).",
        _table(
            ("type", "version", "meaning", "from", "identity", "data", "flags"),
            (
                (f"`{k.name}`", k.version, k.meaning, k.bodies, k.identity, _fields(k.model), _flags(k.name))
                for k in kinds
            ),
        ),
        "## Bodies",
        "One body for each type (brackets and spaces are percent-encoded on the wire). `kommo-streams decode` shows "
        "what becomes of it.",
        "```text\n" + "\n".join(f"{k.name}\n    {k.example}" for k in kinds) + "\n```",
        "## Attributes",
        "What each means is in [publish events](../how-to/publish-events.md).",
        _table(("attribute", "always there"), attributes),
        "## Data",
        "Names are Kommo's own. A number may be null (an empty text at Kommo) or a text (what Kommo sent where it is "
        "no number). Fields that are not listed pass through.",
        _table(("model", "what", "fields"), shapes),
    )


def action_page() -> str:
    """Return the page of the actions."""
    head = ("field", "type", "required")
    parts: list[str | list[str]] = [
        "What can be asked of Kommo. A command is a CloudEvents 1.0 event in structured JSON mode on the topic "
        "`kommo.commands`; `kommo-streams command send` writes one. Its record key is account/entity/id, such as "
        "`16700680/lead/30052055`, or `16700680/lead/new:ID` with the command's own id for what is new; another key is "
        "refused, since the order of an entity's commands would be lost. A command that cannot be read is a dead "
        "letter whose reason names the wrong field, and never what it holds.",
        "The same for programs, with a JSON Schema of each: [asyncapi.json](asyncapi.json).",
        "## The envelope",
        _table(("attribute", *head[1:]), iter(actions.attributes())),
        "- `id` makes that it is carried out once: a command of a known id is the same one, whatever else it says.\n"
        "- `type` is `kommo.command.` and the action's name; `accountid` the Kommo account, as text.\n"
        "- `subject`, if given, must be the entity: what follows the account in the key.\n"
        '- `after` names a command that must have succeeded before. An id of an entity may then be `"after"`: the one '
        "that it has made.\n"
        "- From `expires` on it is not begun any more.\n"
        "- `correlationid` (by default the id) is on all that comes of it; `causationid` is yours.\n"
        "- No text may contain U+0000, and no attribute a control character. Other fields than these are refused, as "
        'are other types: `"5"` is no number.',
    ]
    for name, model in ACTIONS.items():
        parts += [
            f"## {name}",
            f"{(model.__doc__ or '').strip()} {actions.RULES[name]}",
            _table(head, iter(actions.fields(name))),
            f"```text\n{json.dumps(actions.example(name), ensure_ascii=False, indent=2)}\n```",
        ]
    parts.append("## Parts of fields")
    for name, (what, rows) in actions.parts().items():
        parts += [f"### {name}", what, _table(head, iter(rows))]
    return _page("Actions", *parts)


def _kept(topic: Topic) -> str:
    if topic.compacted:
        return "the latest of each key"
    return "for ever" if topic.retention_ms < 0 else f"{topic.retention_ms} ms"


def topic_page() -> str:
    """Return the page of the topics, as the default settings declare them."""
    declared = topics(_defaults())
    rows = (
        (f"`{t.name}`", t.key, t.value, t.partitions, _kept(t), f"{t.max_message_bytes // 2**20} MiB", t.why)
        for t in declared
    )
    configs = declared[0].configs
    return _page(
        "Topics",
        f"On the cluster a name has `{PREFIX}KAFKA_PREFIX` before it and `{PREFIX}KAFKA_GENERATION` after it: "
        "`kommo.events.g1`. Every process makes what is missing at its start; a difference is said and left alone. "
        "Replication is 3 where there are three brokers or more, with two in sync.",
        _table(("topic", "key", "value", "partitions", "kept", "largest record", "why"), rows),
        "The partition of a key is murmur2, as in Kafka's Java client. Timestamps are "
        f"`{configs['message.timestamp.type']}`; Kommo's time is in the event. Partitions and retention are "
        f"settings: `{PREFIX}WEBHOOKS_PARTITIONS`, `{PREFIX}EVENTS_PARTITIONS`, `{PREFIX}WEBHOOKS_RETENTION_MS`.",
    )


def _defaults() -> Settings:
    return Settings.model_construct(**{name: field.default for name, field in Settings.model_fields.items()})


def _default(value: object) -> str:
    if value is None:
        return "not set"
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    return f"`{value}`" if value != "" else "empty"


def _accepts(annotation: object) -> str:
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    return f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""


def settings() -> str:
    """Return the page of the settings."""
    rows = (
        (f"`{PREFIX}{name.upper()}`", _default(field.default), f"{field.description}{_accepts(field.annotation)}")
        for name, field in Settings.model_fields.items()
    )
    return _page(
        "Settings",
        "Environment variables, read once at the start. `kommo-streams config` prints them with their present values, "
        "without secrets.",
        _table(("variable", "default", "meaning"), rows),
    )


def metric_page() -> str:
    """Return the page of the metrics."""
    kinds: dict[type, str] = {Counter: "counter", Gauge: "gauge", Histogram: "histogram", Summary: "summary"}
    known = [value for value in vars(metrics).values() if type(value) in kinds]
    rows = (
        (
            f"`{metric.describe()[0].name}{'_total' if isinstance(metric, Counter) else ''}`",
            kinds[type(metric)],
            ", ".join(f"`{label}`" for label in metric._labelnames) or "-",
            metric.describe()[0].documentation,
        )
        for metric in known
    )
    return _page(
        "Metrics",
        "`GET /metrics` of every process, in Prometheus' text format. What has labels appears with its first value; "
        "Python's own metrics are there too. No label ever names an account. A histogram has `_bucket`, `_sum` and "
        "`_count`.",
        _table(("metric", "kind", "labels", "meaning"), rows),
    )


_LIBRARIES = {"builtins": "Python", "asyncio": "Python", "ssl": "Python", "pydantic_core": "pydantic"}
_OWN = ("schemas", "runtime")


def _library(name: str) -> str:
    package = name.partition(".")[0]
    return "ours" if package in _OWN else _LIBRARIES.get(package, package)


def _exceptions(error_class: ErrorClass) -> str:
    """Return the types of a class, by library."""
    found: dict[str, list[str]] = {}
    for name, of in TYPES.items():
        if of is error_class:
            found.setdefault(_library(name), []).append(f"`{name.rpartition('.')[2]}`")
    # The server's refusal of a value and asyncpg's own have one name.
    return "; ".join(f"{library}: {', '.join(dict.fromkeys(names))}" for library, names in found.items()) or "-"


def _statuses(error_class: ErrorClass) -> str:
    """Return the statuses of answers that are of a class, neighbours together."""
    runs: list[list[int]] = []
    for status in range(300, 600):
        if class_of_status(status) is error_class:
            if runs and runs[-1][-1] == status - 1:
                runs[-1].append(status)
            else:
                runs.append([status])
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs) or "-"


def error_page() -> str:
    """Return the page of the error classes."""
    facts = (
        (f"`{c}`", f.meaning, f.retried, f.how, f.status, f.severity, "yes" if f.sentry else "no")
        for c, f in FACTS.items()
    )
    types = ((f"`{c}`", _exceptions(c), _statuses(c)) for c in FACTS)
    varying = ((f"`{name}`", how) for name, how in BY_STATUS.items())
    return _page(
        "Errors",
        "Every error is of one class: in dead letters (`error_class`), in log lines, in metrics, in HTTP answers. The "
        "class says what becomes of it.",
        _table(("class", "meaning", "tried again", "how", "HTTP status", "log level", "Sentry"), facts),
        "## What is of which class",
        "An error that carries a class of its own (`error_class`) has that one. Else the type of the exception "
        "decides, and a status it carries; never the words of its message. A type that is not listed is of its "
        "ancestor's class, and `internal` where none is listed. Of several errors at once the worst counts: one that "
        "no further try mends. The statuses are those of answers to our own requests.",
        _table(("class", "exceptions", "statuses"), types),
        "These have no class of their own:",
        _table(("exception", "class"), varying),
        "## Answers",
        f"Every HTTP door answers an error as `{CONTENT_TYPE}` (RFC 9457). `type` is `{TYPE}` and the class: a name to "
        "compare, not an address to open. It is never `about:blank`, for the class says more than the status does: a "
        "503 may be `database`, `external_service` or `rate_limit`. Further members may come; `parameters` names wrong "
        "query parameters.",
        _table(("type", "title"), ((f"`{TYPE}{c}`", title_of(c)) for c in FACTS)),
        _table(
            ("member", "meaning"),
            iter(
                (
                    ("`type`", "the class, as an URI"),
                    ("`title`", "what the class means"),
                    ("`status`", "the HTTP status, again"),
                    ("`detail`", "what is wrong here, for a person"),
                    ("`error_class`", "the class"),
                    ("`correlation_id`", "what to look for in the log; also in the header `X-Correlation-Id`"),
                )
            ),
        ),
        "The id is the request's own `X-Request-Id` (or `X-Amocrm-Requestid`) where that has 1 to 128 letters, digits "
        "and `. _ : + -`, and a new one elsewhere. Where the gateway could not store a delivery it is the delivery's "
        "id. An answer of 500 or more has a line in the log with this id.",
    )


def _commands(command: click.Command, name: str, parent: click.Context | None) -> Iterator[click.Context]:
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=100,
        max_content_width=100,
        **(command.context_settings if parent is None else {}),
    )
    yield context
    if isinstance(command, click.Group):
        for found in command.list_commands(context):
            child = command.get_command(context, found)
            if child is not None and not child.hidden:
                yield from _commands(child, found, context)


def _help(context: click.Context) -> str:
    return "\n".join(line.rstrip() for line in context.get_help().rstrip().split("\n"))


def command_page() -> str:
    """Return the page of the command line."""
    parts: list[str | list[str]] = [
        "Exit codes: 0 done, 1 failed, 2 wrong arguments or settings, 3 a server is away.",
    ]
    for context in _commands(cli, "kommo-streams", None):
        parts += [f"## {context.command_path}", f"```text\n{_help(context)}\n```"]
    return _page("Command line", *parts)


PAGES: dict[str, Callable[[], str]] = {
    "events.md": events,
    "actions.md": action_page,
    "topics.md": topic_page,
    "settings.md": settings,
    "metrics.md": metric_page,
    "errors.md": error_page,
    "cli.md": command_page,
    "asyncapi.json": lambda: asyncapi.text(_defaults()),
}


def pages() -> dict[str, str]:
    """Return every page by its file's name."""
    return {name: write() for name, write in PAGES.items()}


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
