"""The closed vocabulary of errors, and the facts of each class in one table.

Which class an exception has is decided by its type and status, never by the words of its message: runtime/classify.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Retried = Literal["never", "later"]
Severity = Literal["warning", "error"]


class ErrorClass(StrEnum):
    """Why something failed; `internal` is what nobody foresaw."""

    VALIDATION = "validation"
    AUTHENTICATION = "authentication"
    AUTHORIZATION = "authorization"
    NOT_FOUND = "not_found"
    RATE_LIMIT = "rate_limit"
    EXTERNAL_SERVICE = "external_service"
    DATABASE = "database"
    INTERNAL = "internal"

    @property
    def facts(self) -> Facts:
        """Return the class's row of the table."""
        return FACTS[self]


@dataclass(frozen=True, slots=True)
class Facts:
    """What holds for all errors of one class.

    `retried`: whether the same thing may succeed later; `how` says it for a person. `status` is the HTTP status of our
    own doors where a door has no better one. `severity` is the level of the log line, `sentry` whether Sentry hears.
    """

    meaning: str
    retried: Retried
    how: str
    status: int
    severity: Severity
    sentry: bool


FACTS: dict[ErrorClass, Facts] = {
    ErrorClass.VALIDATION: Facts(
        "The input is wrong: it cannot be read, a field is not what it must be, or a store refuses its value.",
        "never",
        "The same input fails the same way: it is answered, or set aside, at once.",
        400,
        "warning",
        False,
    ),
    ErrorClass.AUTHENTICATION: Facts(
        "Who asks is not known: a token is missing, wrong, expired or revoked.",
        "later",
        "At Kommo: with a refreshed token at once, then seldom, until a person has connected the account again.",
        401,
        "error",
        True,
    ),
    ErrorClass.AUTHORIZATION: Facts(
        "Who asks is known and may not: a right is missing, the account is not paid, another tenant's thing is named.",
        "never",
        "A person must give the right first; then the dead letter can be tried again.",
        403,
        "warning",
        False,
    ),
    ErrorClass.NOT_FOUND: Facts(
        "What is spoken of is not there (any more).",
        "never",
        "The same thing stays away.",
        404,
        "warning",
        False,
    ),
    ErrorClass.RATE_LIMIT: Facts(
        "Too much in too short a time: at Kommo (429, or a blocked address), or at one of our own doors.",
        "later",
        "In place, since it certainly did not happen; then when the answer says (Retry-After), or with backoff.",
        429,
        "warning",
        False,
    ),
    ErrorClass.EXTERNAL_SERVICE: Facts(
        "A server beside us fails or does not answer: Kommo (5xx, a timeout, a reset), Kafka, a mail server.",
        "later",
        "In place where it certainly did not happen or only reads; else with backoff, after a look at what happened.",
        503,
        "warning",
        False,
    ),
    ErrorClass.DATABASE: Facts(
        "PostgreSQL or Redis fails or does not answer.",
        "later",
        "Until it is back; what is under way is not acknowledged meanwhile.",
        503,
        "error",
        True,
    ),
    ErrorClass.INTERNAL: Facts(
        "What nobody foresaw: a fault of this program.",
        "never",
        "It is set aside whole, loudly, to be tried again when the program is mended.",
        500,
        "error",
        True,
    ),
}
