"""The closed vocabulary of errors."""

from __future__ import annotations

from enum import StrEnum


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
