"""One way to log that something failed: its class, its level and its one line come from the error itself."""

from __future__ import annotations

import logging
from typing import Any

import structlog

from runtime.classify import classify, describe
from runtime.logs import FAILURE
from schemas.errors import ErrorClass

_LEVELS = {"warning": logging.WARNING, "error": logging.ERROR}


def log_failure(log: structlog.stdlib.BoundLogger, line: str, error: BaseException, **fields: Any) -> ErrorClass:
    """Write a line about an error, at the level of its class, and return the class.

    The line has `error_class` and `error` (one line, no secrets); a traceback only where the class is internal. The
    error is counted, and Sentry hears of it if its class says so, once, however often it is logged.
    """
    found = classify(error)
    more = {"exc_info": error} if found is ErrorClass.INTERNAL else {}
    level = _LEVELS[found.facts.severity]
    log.log(level, line, error_class=found.value, error=describe(error), **{FAILURE: error}, **more, **fields)
    return found
