"""Sending mail through a server of one's own: Kommo's API can send none."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from urllib.parse import unquote, urlsplit

import aiosmtplib
from email_validator import validate_email

from runtime.classify import classify, describe
from runtime.errors import StartError
from runtime.settings import PREFIX, Settings
from schemas.actions import SendEmail
from schemas.errors import ErrorClass

_SECONDS = 15.0
_TEXT_SECONDS = 60.0  # a server may look at a mail for long before it takes it
_READY, _TAKEN = 354, 250
_PORTS = {"smtp": 587, "smtps": 465}
_LINE_END = re.compile(rb"\r\n|\r|\n")
_LEADING_DOT = re.compile(rb"(?m)^\.")


class MailError(Exception):
    """A mail was not sent, or it is not known whether: `left` says that it may have been."""

    def __init__(self, error_class: ErrorClass, message: str, *, left: bool) -> None:
        super().__init__(message)
        self.error_class, self.left = error_class, left


class Mailer:
    """Speaks SMTP to one server; with a user name only over TLS (implicit for smtps://, STARTTLS for smtp://)."""

    def __init__(self, settings: Settings) -> None:
        """Read the settings. Raises StartError where they are wrong; use `of` where there may be none."""
        assert settings.smtp_url is not None  # noqa: S101 - see of()
        try:
            parts = urlsplit(settings.smtp_url.get_secret_value())
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise StartError(f"{PREFIX}SMTP_URL must be like smtp://USER:PASSWORD@HOST:587 or smtps://...")
        sender = settings.mail_from or ""
        if not sender.isprintable() or "@" not in parseaddr(sender)[1]:  # a line break would begin another header
            raise StartError(f"{PREFIX}SMTP_URL needs {PREFIX}MAIL_FROM: NAME <ADDRESS>, in one line")
        self._sender = sender
        self._secure = parts.scheme == "smtps"
        self._host, self._port = parts.hostname, port or _PORTS[parts.scheme]
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None

    @classmethod
    def of(cls, settings: Settings) -> Mailer | None:
        """Return a mailer; None where no server is set."""
        return None if settings.smtp_url is None else cls(settings)

    async def send(self, mail: SendEmail, *, message_id: str, before_send: Callable[[], Awaitable[None]]) -> None:
        """Send a mail to all its recipients, or to none. Raises MailError, and what `before_send` raises.

        `before_send` is awaited when the server is ready for the mail. A server that refuses a recipient gets no text:
        only from the text's end on may the mail have been sent.
        """
        text = self._message(mail, message_id).as_bytes(policy=SMTP)
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            use_tls=self._secure,
            start_tls=None if self._user is None else not self._secure,
            timeout=_SECONDS,
        )
        left = False
        try:
            await client.connect()
            if self._user is not None:
                await client.login(self._user, self._password or "")
            await client.mail(parseaddr(self._sender)[1])
            for recipient in dict.fromkeys(map(_ascii, [*mail.to, *mail.cc])):
                await client.rcpt(recipient)
            await before_send()
            ready = await client.execute_command(b"DATA")
            if ready.code != _READY:
                raise aiosmtplib.SMTPDataError(ready.code, ready.message)
            left = True
            await _say(client, text)
            left = False
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            refused = isinstance(error, aiosmtplib.SMTPResponseException)  # the server said no: it has nothing
            raise MailError(classify(error), f"mail: {describe(error)}", left=left and not refused) from None
        finally:
            client.close()

    def _message(self, mail: SendEmail, message_id: str) -> EmailMessage:
        message = EmailMessage()
        message["Message-ID"] = message_id  # of the command: a mail that came twice can be known by it
        message["Date"] = dt.datetime.now(dt.UTC)
        message["From"] = self._sender
        message["To"] = ", ".join(map(_ascii, mail.to))
        if mail.cc:
            message["Cc"] = ", ".join(map(_ascii, mail.cc))
        if mail.reply_to is not None:
            message["Reply-To"] = _ascii(mail.reply_to)
        message["Subject"] = mail.subject
        message.set_content(mail.text)
        return message


async def _say(client: aiosmtplib.SMTP, text: bytes) -> None:
    """Write a mail's text after DATA; that the library does both in one call would not tell which of them failed."""
    if client.protocol is None:
        raise aiosmtplib.SMTPServerDisconnected("Connection lost")
    lines = _LEADING_DOT.sub(b"..", _LINE_END.sub(b"\r\n", text))
    client.protocol.write(lines.removesuffix(b"\r\n") + b"\r\n.\r\n")
    answer = await client.protocol.read_response(timeout=_TEXT_SECONDS)
    if answer.code != _TAKEN:
        raise aiosmtplib.SMTPDataError(answer.code, answer.message)


def _ascii(address: str) -> str:
    """Return an address as every mail server takes it: its domain in ASCII (RFC 5891)."""
    return validate_email(address, check_deliverability=False).ascii_email or address
