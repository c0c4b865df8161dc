"""Errors are counted, each once; those that need a person go to Sentry as well, if a DSN is set.

An error comes here by a line of the log that has it, ours or a library's, or by report(). Without a DSN the package
sentry-sdk is not imported. It is used as a client and nothing more: none of its integrations, which would read
requests, arguments and local variables.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from runtime.classify import classify
from runtime.errors import StartError
from runtime.logs import FAILURE
from runtime.metrics import ERRORS
from runtime.scrub import MAX_MESSAGE_CHARACTERS, Scrubber
from runtime.settings import PREFIX, Settings
from schemas.errors import ErrorClass

FLUSH_SECONDS = 2.0
"""Longest a process that ends waits for Sentry."""
REPEAT_SECONDS = 60.0
"""An error of one type, class and place goes to Sentry once in this time, and then says how often it was there."""
MOST_A_MINUTE = 30

_MOST_KINDS = 1000
_COUNTED, _SENT = "_kommo_streams_counted", "_kommo_streams_sent"
_ITS_OWN = ("sentry_sdk", "urllib3")  # the loggers of what carries errors to Sentry
_TOLD_ELSEWHERE = {"exc_info", FAILURE, "error", "error_class", "correlation_id", "event"}
_OF_EVERY_LINE = {"level", "logger", "time", "process"}
_PERSONAL = ("account", "user", "phone", "email", "name")

Kind = tuple[str, str, str, int]

# Personal data is off by default, and the option that says so is deprecated: the tests see that there is none.
_NOTHING_BUT_ERRORS = {
    "default_integrations": False,
    "auto_enabling_integrations": False,
    "include_local_variables": False,
    "max_request_body_size": "never",
    "max_breadcrumbs": 0,
    "send_client_reports": False,
    "auto_session_tracking": False,
    "enable_backpressure_handling": False,
    "spotlight": False,
    "debug": False,
}


class Throttle:
    """Lets errors through: of one kind one in REPEAT_SECONDS, of all together MOST_A_MINUTE. An outage is no flood."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[Kind, tuple[float, int]] = {}  # when it went through last, and how many did not since
        self._passed: deque[float] = deque(maxlen=MOST_A_MINUTE)

    def admit(self, kind: Kind) -> int | None:
        """Return how many of this kind were held back before this one, or None where this one is."""
        now = self._clock()
        last, held = self._kinds.get(kind, (-REPEAT_SECONDS, 0))
        full = len(self._passed) == MOST_A_MINUTE and now - self._passed[0] < 60
        if now - last < REPEAT_SECONDS or full:
            self._kinds[kind] = (last, held + 1)
            return None
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        self._kinds[kind] = (now, 0)
        self._passed.append(now)
        return held


class _Sentry:
    """The client of Sentry's SDK, and what this process is."""

    def __init__(self, settings: Settings, process: str, dsn: str) -> None:
        try:
            from sentry_sdk import Client
            from sentry_sdk.utils import BadDsn, event_from_exception
        except ImportError:
            raise StartError(
                f"{PREFIX}SENTRY_DSN is set and the package sentry-sdk is missing: install `kommo-streams[worker]`, "
                "or unset it"
            ) from None
        self._read: Callable[..., tuple[Any, Any]] = event_from_exception
        self._process = process
        self._throttle = Throttle()
        # An event takes some 10 ms to put together (source lines are read), which the event loop does not have.
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="sentry")
        options: dict[str, Any] = {
            "environment": settings.sentry_environment,
            "release": _release(),
            "sample_rate": settings.sentry_sample_rate,
            "before_send": Scrubber(settings),
            **_NOTHING_BUT_ERRORS,
        }
        try:
            self._client: Any = Client(dsn, **options)
        except BadDsn:
            raise StartError(f"{PREFIX}SENTRY_DSN is no DSN: Sentry shows it under Client Keys of a project") from None

    def send(
        self, error: BaseException, error_class: ErrorClass, part: str, tags: Mapping[str, str], extra: dict[str, Any]
    ) -> None:
        """Queue an event, if it is not one too many."""
        held = self._throttle.admit((type(error).__qualname__, error_class.value, *_place(error)))
        if held is None:
            return
        told: dict[str, Any] = {
            "logger": part,
            "level": error_class.facts.severity,
            "tags": {"process": self._process, "error_class": error_class.value, **tags},
            "extra": {**extra, **({"held_back_before": held} if held else {})},
        }
        self._builder.submit(self._build, error, told)

    def _build(self, error: BaseException, told: dict[str, Any]) -> None:
        event, hint = self._read(error, client_options=self._client.options)
        self._client.capture_event(event | told, hint=hint)  # which queues it again, for the thread that sends

    def close(self) -> None:
        """Send what is queued, for at most FLUSH_SECONDS."""
        begun = time.monotonic()
        self._builder.shutdown()
        self._client.close(timeout=max(0.1, FLUSH_SECONDS - (time.monotonic() - begun)))


def _release() -> str | None:
    try:
        return f"kommo-streams@{version('kommo-streams')}"
    except PackageNotFoundError:
        return None


def _place(error: BaseException) -> tuple[str, int]:
    """Return where an error was raised: file and line."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return ("", 0) if at is None else (at.tb_frame.f_code.co_filename, at.tb_lineno)


_sentry: _Sentry | None = None


def report(
    error: BaseException,
    *,
    error_class: ErrorClass | None = None,
    correlation_id: str = "",
    part: str = "",
    **tags: str,
) -> None:
    """Count an error that no line of the log has, and tell Sentry if its class says so. Never raises, never waits.

    `part` is the module that met it, `tags` are few and short; none may name an account or a person.
    """
    with contextlib.suppress(Exception):
        _note(error, error_class or classify(error), part, correlation_id, tags, {})


def _note(
    error: BaseException,
    error_class: ErrorClass,
    part: str,
    correlation_id: str,
    tags: Mapping[str, str],
    extra: dict[str, Any],
    *,
    loud: bool = True,
) -> None:
    if not isinstance(error, Exception | BaseExceptionGroup):
        return  # a cancelled task, a key pressed
    if _first(error, _COUNTED):
        ERRORS.labels(error_class.value, part).inc()
    if _sentry is not None and loud and error_class.facts.sentry and _first(error, _SENT):
        named = {"correlation_id": correlation_id} if correlation_id else {}
        _sentry.send(error, error_class, part, {**tags, **named}, extra)


def _first(error: BaseException, mark: str) -> bool:
    """Return whether this is done with an error for the first time: one error may be met, and logged, many times."""
    if getattr(error, mark, False):
        return False
    with contextlib.suppress(AttributeError, TypeError):  # one that takes no mark counts each time
        setattr(error, mark, True)
    return True


class _Lines(logging.Handler):
    """Sees each line that has an exception before it is written, and in the thread that met it."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            line = record.msg if isinstance(record.msg, dict) else {"event": str(record.msg), **_exception_of(record)}
            error = line.get(FAILURE) or _error(line.get("exc_info"))
            if error is None or record.name.startswith(_ITS_OWN):
                return
            named = line.get("error_class")
            error_class = ErrorClass(named) if named else classify(error)
            loud = record.levelno >= logging.ERROR
            correlation_id = str(line.get("correlation_id") or "")
            _note(error, error_class, record.name, correlation_id, {}, _extra(line), loud=loud)


def _exception_of(record: logging.LogRecord) -> dict[str, Any]:
    return {"exc_info": record.exc_info} if record.exc_info else {}


def _error(exc_info: Any) -> BaseException | None:
    found = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    return found if isinstance(found, BaseException) else None


def _extra(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a line of the log says beside the error: plain values, nothing that may name a person."""
    fields = {
        name: value
        for name, value in line.items()
        if name not in _TOLD_ELSEWHERE | _OF_EVERY_LINE
        and not any(word in name for word in _PERSONAL)
        and isinstance(value, str | int | float)
    }
    return {"line": str(line.get("event", "")).partition("\n")[0][:MAX_MESSAGE_CHARACTERS], **fields}


@contextlib.contextmanager
def reporting(settings: Settings, process: str) -> Iterator[None]:
    """Count this process's errors, and send those to Sentry that it hears of, while the context lasts.

    Within logging_to(). At the end what is under way has FLUSH_SECONDS. Raises StartError: the DSN is none, or the
    package is missing.
    """
    global _sentry
    dsn = settings.sentry_dsn.get_secret_value() if settings.sentry_dsn is not None else ""
    before = _sentry
    _sentry = _Sentry(settings, process, dsn) if dsn else None
    root, handler = logging.getLogger(), _Lines()
    root.handlers.insert(0, handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        ended, _sentry = _sentry, before
        if ended is not None:
            with contextlib.suppress(Exception):
                ended.close()
