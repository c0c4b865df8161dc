"""Structured logs that never block the event loop and never carry a secret."""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import sys
import time
from collections.abc import Iterator
from logging.handlers import QueueHandler, QueueListener
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from runtime.metrics import LOG_LINES_DROPPED
from runtime.settings import Settings, use_console

QUEUE_LINES = 10_000

FAILURE = "failure"
"""A line's exception for those who count and report (runtime/sentry.py); it is not written, the line says it."""

# Whoever puts a secret into a line by mistake, it stays out. What stands before it, in the group, is kept.
_SECRETS = re.compile(
    "|".join(
        (
            r"(/webhooks/|signature=)[^\s\"'?#&]+",  # webhook addresses
            r"(kst_[0-9a-f]+_)[\w-]+",  # dashboard tokens
            r"(://[^/\s:@]*:)[^@\s/]+(?=@)",  # passwords in URLs
            r"(\beyJ)[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?",  # JSON Web Tokens, as Kommo's access tokens are
            r"(\bdef502)[0-9a-f]{32,}",  # Kommo's refresh tokens and authorization codes
            r"((?i:\b(?:bearer|basic)) +)[\w.~+/=-]{16,}",  # header Authorization
            r"((?i:(?:password|client_secret|access_token|refresh_token|api_key))[\"']?\s{0,4}[:=]\s{0,4}[\"']?)"
            r"[^\s\"'&,;}]+",
        )
    )
)


def redact(text: str) -> str:
    """Return the text with every secret this project knows the form of replaced by ***."""
    return _SECRETS.sub(lambda match: f"{match[match.lastindex or 0]}***", text)


def _redact_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = redact(value)
    return event


def _console(stream: TextIO) -> Processor:
    # Plain tracebacks: the rich ones print local variables, and so secrets.
    return structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _take_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if event.get("exc_info") is True:
        event["exc_info"] = sys.exc_info()  # now: the thread that writes the line knows nothing of it
    return event


def _drop_failure(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event.pop(FAILURE, None)
    return event


class _WholeRecordQueueHandler(QueueHandler):
    """Hands records to the writing thread as they are; a full queue drops the line and counts it."""

    def prepare(self, record: logging.LogRecord) -> Any:
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            LOG_LINES_DROPPED.inc()


class _OncePerSeconds(logging.Filter):
    """Lets the same line of a library through once in some seconds: an outage is no reason for a flood."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.name, record.getMessage()[:200])
        now = time.monotonic()
        if now - self._last.get(key, -self._seconds) < self._seconds:
            return False
        if len(self._last) > 1000:
            self._last.clear()
        self._last[key] = now
        return True


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    import orjson

    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


@contextlib.contextmanager
def logging_to(settings: Settings, stream: TextIO = sys.stderr, **bound: str) -> Iterator[None]:
    """Write every log line of this process to the stream, from a thread of its own, until the context ends.

    `bound` (for example process="ingest") is on every line. Lines of libraries take the same form.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.stdlib.ExtraAdder(),
    ]
    render = _console(stream) if use_console(settings) else _json
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _drop_failure,
            structlog.processors.format_exc_info,  # before the next: messages of errors hold secrets too
            _redact_line,
            render,
        ],
    )
    configured = structlog.get_config()
    structlog.configure(
        processors=[*shared, _take_exception, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    writer = logging.StreamHandler(stream)
    writer.setFormatter(formatter)
    lines: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_LINES)
    listener = QueueListener(lines, writer)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    root.handlers[:] = [_queue_handler(lines)]
    root.setLevel(settings.log_level)
    _quiet_libraries()
    structlog.contextvars.bind_contextvars(**bound)
    listener.start()
    try:
        yield
    finally:
        listener.stop()
        root.handlers[:], root.level = before
        structlog.configure(**configured)


def _queue_handler(lines: queue.Queue[logging.LogRecord]) -> logging.Handler:
    handler = _WholeRecordQueueHandler(lines)
    repeats = _OncePerSeconds(5)
    handler.addFilter(lambda record: isinstance(record.msg, dict) or repeats.filter(record))  # a dict is a line of ours
    return handler


def _quiet_libraries() -> None:
    # The access log would carry webhook tokens; the others say at INFO what only a debugger wants.
    logging.getLogger("uvicorn.access").disabled = True
    for name in ("uvicorn", "aiokafka", "httpx", "httpcore", "asyncio", "kafka", "faust", "mode"):
        logging.getLogger(name).setLevel(logging.WARNING)


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound
