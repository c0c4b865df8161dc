"""Which class an error has: by the type of the exception and by a status it carries, never by words of its message.

Types are known by their qualified names, looked for along an exception's ancestors, so that no process imports a
library for the sake of its errors. tests/integration/runtime/test_classify.py sees that each name is still there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from runtime.logs import redact
from schemas.errors import ErrorClass

MAX_CHARACTERS = 300
"""Longest text of describe()."""

_VALIDATION, _AUTHENTICATION, _AUTHORIZATION = (
    ErrorClass.VALIDATION,
    ErrorClass.AUTHENTICATION,
    ErrorClass.AUTHORIZATION,
)
_EXTERNAL, _DATABASE, _INTERNAL = ErrorClass.EXTERNAL_SERVICE, ErrorClass.DATABASE, ErrorClass.INTERNAL

TYPES: dict[str, ErrorClass] = {
    # Our own. A newer program reads a newer event, so this one is at fault, not the event.
    "schemas.event.NewerEventError": _INTERNAL,
    "schemas.event.EventError": _VALIDATION,
    "schemas.delivery.DeliveryError": _VALIDATION,
    "schemas.command.CommandError": _VALIDATION,
    "schemas.form.FormError": _VALIDATION,
    "schemas.readers.ItemError": _VALIDATION,
    "runtime.settings.SettingsError": _VALIDATION,
    "runtime.errors.StartError": _VALIDATION,
    # A body, a message, a setting that is not what its model says.
    "pydantic_core._pydantic_core.ValidationError": _VALIDATION,
    # PostgreSQL: a value that no further try will make storable; all else may pass when the server is well again.
    "asyncpg.exceptions.DataError": _VALIDATION,
    "asyncpg.exceptions.NotNullViolationError": _VALIDATION,
    "asyncpg.exceptions.CheckViolationError": _VALIDATION,
    "asyncpg.exceptions.ProgramLimitExceededError": _VALIDATION,
    "asyncpg.exceptions.UntranslatableCharacterError": _VALIDATION,
    "asyncpg.exceptions._base.DataError": _VALIDATION,  # asyncpg itself cannot encode the value
    "asyncpg.exceptions._base.PostgresError": _DATABASE,
    "asyncpg.exceptions._base.InterfaceError": _DATABASE,
    "asyncpg.exceptions._base.InternalClientError": _DATABASE,
    "redis.exceptions.DataError": _VALIDATION,  # the client cannot encode the value
    "redis.exceptions.RedisError": _DATABASE,
    "redis.exceptions.RedisClusterException": _DATABASE,
    # Kafka.
    "aiokafka.errors.MessageSizeTooLargeError": _VALIDATION,
    "aiokafka.errors.RecordListTooLargeError": _VALIDATION,
    "aiokafka.errors.RecordTooLargeError": _VALIDATION,
    "aiokafka.errors.AuthenticationFailedError": _AUTHENTICATION,
    "aiokafka.errors.AuthenticationMethodNotSupported": _AUTHENTICATION,
    "aiokafka.errors.SaslAuthenticationFailed": _AUTHENTICATION,
    "aiokafka.errors.UnsupportedSaslMechanismError": _AUTHENTICATION,
    "aiokafka.errors.IllegalSaslStateError": _AUTHENTICATION,
    "aiokafka.errors.DelegationTokenExpired": _AUTHENTICATION,
    "aiokafka.errors.DelegationTokenNotFound": _AUTHENTICATION,
    "aiokafka.errors.TopicAuthorizationFailedError": _AUTHORIZATION,
    "aiokafka.errors.GroupAuthorizationFailedError": _AUTHORIZATION,
    "aiokafka.errors.ClusterAuthorizationFailedError": _AUTHORIZATION,
    "aiokafka.errors.TransactionalIdAuthorizationFailed": _AUTHORIZATION,
    "aiokafka.errors.DelegationTokenAuthorizationFailed": _AUTHORIZATION,
    "aiokafka.errors.KafkaError": _EXTERNAL,
    "aiokafka.errors.ConsumerStoppedError": _EXTERNAL,
    # HTTP as a client; an answer's status counts, see _BY_STATUS.
    "httpx.InvalidURL": _VALIDATION,
    "httpx.UnsupportedProtocol": _VALIDATION,
    "httpx.LocalProtocolError": _INTERNAL,  # what we sent, or meant to send, is no HTTP
    "httpx.RequestError": _EXTERNAL,
    # Mail. What is refused at the greeting is not refused for the sake of this mail.
    "aiosmtplib.errors.SMTPConnectResponseError": _EXTERNAL,
    "aiosmtplib.errors.SMTPHeloError": _EXTERNAL,
    "aiosmtplib.errors.SMTPException": _EXTERNAL,
    # Networks. A server behind a Unix socket that is away shows as a missing file, so files are no class of their own.
    "builtins.OSError": _EXTERNAL,
    "builtins.TimeoutError": _EXTERNAL,
    "asyncio.exceptions.IncompleteReadError": _EXTERNAL,
    "ssl.SSLError": _EXTERNAL,
}
"""Qualified name of a type: the class of its instances, and of its subclasses that have no line of their own."""

_STATUSES: dict[int, ErrorClass] = {
    401: _AUTHENTICATION,
    402: _AUTHORIZATION,  # Kommo: the account is not paid
    403: _AUTHORIZATION,
    404: ErrorClass.NOT_FOUND,
    410: ErrorClass.NOT_FOUND,
    408: _EXTERNAL,
    421: _EXTERNAL,
    425: _EXTERNAL,
    429: ErrorClass.RATE_LIMIT,
}

_SMTP_AUTHENTICATION = (530, 534, 535, 538)  # https://www.rfc-editor.org/rfc/rfc4954#section-6


def class_of_status(status: int) -> ErrorClass:
    """Return the class of an HTTP status that a server answered us with."""
    # A redirect that is not followed is no fault of the request: a page about maintenance, most often.
    return _STATUSES.get(status, _VALIDATION if 400 <= status < 500 else _EXTERNAL)


def _class_of_reply(code: int) -> ErrorClass:
    """Return the class of a mail server's reply: 4xx is for now, 5xx for good."""
    if code in _SMTP_AUTHENTICATION:
        return _AUTHENTICATION
    return _VALIDATION if 500 <= code < 600 else _EXTERNAL


def _all_refused(error: Any) -> ErrorClass:
    """Return the class of a mail no recipient of which was taken: for now, if that holds for any of them."""
    replies = {_class_of_reply(refused.code) for refused in error.recipients}
    return _VALIDATION if replies == {_VALIDATION} else _EXTERNAL


_BY_STATUS: dict[str, tuple[str, Callable[[Any], ErrorClass]]] = {
    "httpx.HTTPStatusError": ("by its status", lambda error: class_of_status(error.response.status_code)),
    "starlette.exceptions.HTTPException": ("by its status", lambda error: class_of_status(error.status_code)),
    "aiosmtplib.errors.SMTPResponseException": ("by its code", lambda error: _class_of_reply(error.code)),
    "aiosmtplib.errors.SMTPRecipientsRefused": ("by its codes", _all_refused),
}

BY_STATUS: dict[str, str] = {name: how for name, (how, _) in _BY_STATUS.items()}
"""Qualified name of a type whose instances have a class each, and what it goes by."""

# Of errors that come together the one counts that most decides what to do: what no further try mends comes first.
_WORST_FIRST = (
    _INTERNAL,
    _VALIDATION,
    _AUTHORIZATION,
    ErrorClass.NOT_FOUND,
    _AUTHENTICATION,
    _DATABASE,
    _EXTERNAL,
    ErrorClass.RATE_LIMIT,
)


def classify(error: BaseException) -> ErrorClass:
    """Return the class of an exception: what it says itself (`error_class`), else by its type; internal if unknown.

    Of a group the worst member counts. What an exception was raised from does not: whoever translated an error into
    another type meant that one, and what nobody translated says it with its own type.
    """
    own = getattr(error, "error_class", None)
    if isinstance(own, ErrorClass):
        return own
    if isinstance(error, BaseExceptionGroup):
        return min((classify(member) for member in _members(error)), key=_WORST_FIRST.index, default=_INTERNAL)
    for ancestor in type(error).__mro__:
        name = f"{ancestor.__module__}.{ancestor.__qualname__}"
        if name in _BY_STATUS:
            return _BY_STATUS[name][1](error)
        if name in TYPES:
            return TYPES[name]
    return _INTERNAL


def _members(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    """Return the members that say something: a cancelled task only followed the one that failed."""
    return [member for member in group.exceptions if isinstance(member, Exception | BaseExceptionGroup)]


@contextlib.contextmanager
def failing_as(error_class: ErrorClass) -> Iterator[None]:
    """Give errors of the network a class of their own while the context lasts: here it is known whose network it is."""
    try:
        yield
    except OSError as error:
        vars(error).setdefault("error_class", error_class)
        raise


def describe(error: BaseException) -> str:
    """Return one line for a person: type and message, without secrets, at most MAX_CHARACTERS.

    Further lines of a message are left out: PostgreSQL puts whole rows there.
    """
    return _short(redact(_told(error)))


def _told(error: BaseException) -> str:
    name = type(error).__name__
    if isinstance(error, BaseExceptionGroup):
        return f"{name}: {'; '.join(_told(member) for member in _members(error)[:3])}"
    try:
        message = _wrong_fields(error) or str(error).strip().partition("\n")[0].strip()
    except Exception:  # noqa: BLE001 an error that cannot say what it is has a type all the same
        message = ""
    return f"{name}: {message}" if message else name


def _wrong_fields(error: BaseException) -> str:
    """Return what pydantic finds wrong, each with its field, never with what was there; of other errors nothing."""
    if type(error).__module__ != "pydantic_core._pydantic_core" or not hasattr(error, "errors"):
        return ""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg']}" for item in found[:5])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_CHARACTERS else f"{line[: MAX_CHARACTERS - 3]}..."
