"""Mails go through a real SMTP server: whole, to all or to none, and it is known whether one may have left."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, cast

import pytest
import trustme
from aiosmtpd.smtp import SMTP as Server
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from pydantic import SecretStr

import agents.mail
from agents.mail import Mailer, MailError
from runtime.errors import StartError
from runtime.settings import Settings
from schemas.actions import SendEmail
from schemas.errors import ErrorClass

MESSAGE_ID = "<7d0b3f6e-30a5-4a4f-9c53-0e1b6c7f2a10@kommo-streams>"
SENDER = "Продажи <sales@example.org>"


@dataclass
class Post:
    """A mail server that keeps what it takes. What a test sets makes it refuse, or break the connection off."""

    port: int = 0
    mails: list[Envelope] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    refuses: dict[str, str] = field(default_factory=dict)
    ends_at: str = ""
    text_reply: str = "250 OK"
    text_gone: bool = False
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    server: Any = None

    async def handle_MAIL(
        self, _server: Server, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self._maybe_end("MAIL")
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, _server: Server, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self._maybe_end("RCPT")
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Server, session: Session, envelope: Envelope) -> str:
        if self.text_reply.startswith("250"):
            self.mails.append(envelope)
            self.sessions.append(session)
        if self.text_gone:
            self.server.transport.abort()
        return self.text_reply

    def authenticate(self, *_: Any) -> AuthResult:
        told = cast(LoginPassword, _[-1])
        self.logins.append((told.login, told.password))
        return AuthResult(success=told == LoginPassword(b"user@example.org", b"p@ss:word"), handled=False)

    def _maybe_end(self, command: str) -> None:
        if self.ends_at == command:
            self.server.transport.abort()

    def read(self) -> EmailMessage:
        """The only mail that it took, as a reader's program shows it."""
        [envelope] = self.mails
        assert isinstance(envelope.content, bytes)
        return cast(EmailMessage, email.message_from_bytes(envelope.content, policy=email.policy.default))


class _Protocol(Server):
    """Ends the connection at DATA where the test says so."""

    async def smtp_DATA(self, arg: str) -> None:
        if self.event_handler.ends_at == "DATA":
            self.transport.abort()
            return
        if self.event_handler.ends_at == "DATA refused":
            await self.push("451 later")
            return
        await super().smtp_DATA(arg)


@contextlib.asynccontextmanager
async def serving(
    post: Post, *, tls: ssl.SSLContext | None = None, start_tls: ssl.SSLContext | None = None, **told: Any
) -> AsyncIterator[Post]:
    """Let it serve on a port of this machine; `tls` from the first byte, `start_tls` on request."""

    def made() -> Server:
        post.server = _Protocol(
            post,
            loop=asyncio.get_running_loop(),
            hostname="mail.test",
            enable_SMTPUTF8=True,
            tls_context=start_tls,
            **told,
        )
        return cast(Server, post.server)

    listening = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0, ssl=tls)
    post.port = listening.sockets[0].getsockname()[1]
    try:
        yield post
    finally:
        listening.close()
        await listening.wait_closed()


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    async with serving(Post()) as made:
        yield made


def mailer(post: Post, *, user: str = "", scheme: str = "smtp", sender: str = SENDER) -> Mailer:
    made = Mailer.of(Settings(smtp_url=SecretStr(f"{scheme}://{user}localhost:{post.port}"), mail_from=sender))
    assert made is not None
    return made


def mail(**told: Any) -> SendEmail:
    whole = {"entity_type": "lead", "entity_id": 1, "to": ["ana@example.com"], "subject": "Offer", "text": "Dear Ana"}
    return SendEmail(**{**whole, **told})


class Ready:
    """Counts how often it is asked for the right to send, and may raise."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked = 0
        self.error = error

    async def __call__(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


async def fails(
    post: Post, told: SendEmail | None = None, *, before: Ready | None = None, **settings: Any
) -> MailError:
    with pytest.raises(MailError) as caught:
        await mailer(post, **settings).send(told or mail(), message_id=MESSAGE_ID, before_send=before or Ready())
    return caught.value


# What arrives


async def test_a_mail_arrives_whole(post: Post) -> None:
    ready = Ready()
    told = mail(
        to=["ana@example.com", "Eva@Example.com"],
        cc=["boss@example.org", "ana@example.com"],
        reply_to="ask@example.org",
        subject="Предложение № 5 «кухня» 😀",
        text="Здравствуйте!\n\n.\n..две точки\nС уважением\n" + "длинная строка " * 200,
    )
    await mailer(post).send(told, message_id=MESSAGE_ID, before_send=ready)
    [envelope] = post.mails
    assert envelope.mail_from == "sales@example.org"
    assert envelope.rcpt_tos == ["ana@example.com", "Eva@example.com", "boss@example.org"]
    read = post.read()
    assert read["Message-ID"] == MESSAGE_ID
    assert read["Subject"] == "Предложение № 5 «кухня» 😀"
    assert read["From"] == SENDER
    assert read["To"] == "ana@example.com, Eva@example.com"
    assert (read["Cc"], read["Reply-To"]) == ("boss@example.org, ana@example.com", "ask@example.org")
    assert read["Date"].datetime.tzinfo is not None
    assert read.get_content_type() == "text/plain"
    assert read.get_content().rstrip("\n") == told.text.rstrip("\n")
    assert ready.asked == 1
    assert post.sessions[0].ssl is None
    names = [name.lower() for name in read]
    assert sorted(names) == sorted(set(names))


async def test_only_what_is_said_is_in_the_head(post: Post) -> None:
    await mailer(post).send(mail(), message_id=MESSAGE_ID, before_send=Ready())
    read = post.read()
    assert not {"cc", "bcc", "reply-to", "sender"} & {name.lower() for name in read}


@pytest.mark.parametrize(
    "text",
    ["x", ".", "\n.\n", "a\r\nb", "a\rb", "\r\n.\r\nMAIL FROM:<x@example.com>\r\n", "a\u2028b\x85c\x0bd", "x" * 20_000],
)
async def test_no_text_ends_the_mail_early(post: Post, text: str) -> None:
    await mailer(post).send(mail(text=text), message_id=MESSAGE_ID, before_send=Ready())
    lines = post.read().get_content().replace("\r\n", "\n").rstrip("\n")
    assert lines == text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")


@pytest.mark.parametrize("subject", ["a" * 255, "ж" * 255, 'Re: a, b; <c@d.e> "f" =?utf-8?q?x?= y', "  two  spaces  "])
async def test_a_subject_stays_one_header(post: Post, subject: str) -> None:
    await mailer(post).send(mail(subject=subject), message_id=MESSAGE_ID, before_send=Ready())
    read = post.read()
    assert "".join(read["Subject"].split()) == "".join(subject.replace("=?utf-8?q?x?=", "x").split())
    assert read["To"] == "ana@example.com"


async def test_a_subject_with_a_line_break_never_gets_as_far_as_the_server(post: Post) -> None:
    # The model refuses it; if it did not, the mail would not be written.
    told = mail().model_copy(update={"subject": "Offer\r\nBcc: eve@example.com"})
    with pytest.raises(ValueError, match=r"newline|linefeed"):
        await mailer(post).send(told, message_id=MESSAGE_ID, before_send=Ready())
    assert post.mails == []


async def test_a_sender_with_a_line_break_is_refused_at_the_start(post: Post) -> None:
    with pytest.raises(StartError, match="in one line"):
        mailer(post, sender="Sales\r\nBcc: eve@example.com <sales@example.org>")


async def test_a_domain_of_other_letters_goes_in_ascii(post: Post) -> None:
    await mailer(post).send(
        mail(to=["info@пример.рф"], reply_to="info@müller.de"), message_id=MESSAGE_ID, before_send=Ready()
    )
    assert post.mails[0].rcpt_tos == ["info@xn--e1afmkfd.xn--p1ai"]
    assert post.read()["To"] == "info@xn--e1afmkfd.xn--p1ai"
    assert post.read()["Reply-To"] == "info@xn--mller-kva.de"


# What does not


@pytest.mark.parametrize(
    ("reply", "error_class"),
    [("550 no such user", ErrorClass.VALIDATION), ("451 come back later", ErrorClass.EXTERNAL_SERVICE)],
)
async def test_one_refused_recipient_and_nobody_gets_it(post: Post, reply: str, error_class: ErrorClass) -> None:
    post.refuses = {"boss@example.org": reply}
    ready = Ready()
    error = await fails(post, mail(to=["ana@example.com"], cc=["boss@example.org"]), before=ready)
    assert (error.left, error.error_class) == (False, error_class)
    assert (post.mails, ready.asked) == ([], 0)


async def test_a_server_that_is_not_there(post: Post) -> None:
    async with serving(Post()) as gone:
        pass
    error = await fails(gone)
    assert (error.left, error.error_class) == (False, ErrorClass.EXTERNAL_SERVICE)


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
async def test_a_server_that_goes_before_the_text(post: Post, command: str) -> None:
    post.ends_at = command
    error = await fails(post)
    assert (error.left, error.error_class) == (False, ErrorClass.EXTERNAL_SERVICE)
    assert post.mails == []


async def test_a_server_that_does_not_want_a_text_now(post: Post) -> None:
    post.ends_at = "DATA refused"
    error = await fails(post)
    assert (error.left, error.error_class) == (False, ErrorClass.EXTERNAL_SERVICE)


async def test_a_connection_cut_before_the_answer_leaves_it_open(post: Post) -> None:
    post.text_gone = True
    error = await fails(post)
    assert (error.left, error.error_class) == (True, ErrorClass.EXTERNAL_SERVICE)
    assert len(post.mails) == 1


async def test_an_answer_that_does_not_come_leaves_it_open(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents.mail, "_TEXT_SECONDS", 0.05)

    async def hang(*_: Any) -> str:
        await asyncio.sleep(30)
        return "250 OK"

    monkeypatch.setattr(post, "handle_DATA", hang)
    error = await fails(post)
    assert (error.left, error.error_class) == (True, ErrorClass.EXTERNAL_SERVICE)


@pytest.mark.parametrize(
    ("reply", "error_class"),
    [("554 spam", ErrorClass.VALIDATION), ("452 no room", ErrorClass.EXTERNAL_SERVICE)],
)
async def test_a_text_that_is_refused_has_not_left(post: Post, reply: str, error_class: ErrorClass) -> None:
    post.text_reply = reply
    error = await fails(post)
    assert (error.left, error.error_class) == (False, error_class)


async def test_without_the_right_to_send_nothing_is_sent(post: Post) -> None:
    class Lost(Exception):
        pass

    ready = Ready(Lost())
    with pytest.raises(Lost):
        await mailer(post).send(mail(), message_id=MESSAGE_ID, before_send=ready)
    assert (post.mails, ready.asked) == ([], 1)
    # The connection was given up: the server is free for the next one.
    await mailer(post).send(mail(), message_id=MESSAGE_ID, before_send=Ready())
    assert len(post.mails) == 1


# Who sends, and over what


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The authority is one of this machine's."""
    with authority.cert_pem.tempfile() as file:
        monkeypatch.setenv("SSL_CERT_FILE", file)
        yield


def _authenticating(post: Post, *, tls_is_known: bool = True) -> dict[str, Any]:
    """What makes aiosmtpd ask for a login; that a line is encrypted from the first byte it does not see."""
    return {"authenticator": post.authenticate, "auth_required": tls_is_known, "auth_require_tls": tls_is_known}


USER = "user%40example.org:p%40ss%3Aword@"


@pytest.mark.usefixtures("trusted")
async def test_with_a_user_it_is_starttls_and_the_login_is_decoded(server_tls: ssl.SSLContext) -> None:
    post = Post()
    async with serving(post, start_tls=server_tls, **_authenticating(post)):
        await mailer(post, user=USER).send(mail(), message_id=MESSAGE_ID, before_send=Ready())
    assert post.logins == [(b"user@example.org", b"p@ss:word")]
    assert post.sessions[0].ssl is not None


@pytest.mark.usefixtures("trusted")
async def test_smtps_is_encrypted_from_the_first_byte(server_tls: ssl.SSLContext) -> None:
    post = Post()
    async with serving(post, tls=server_tls, **_authenticating(post, tls_is_known=False)):
        await mailer(post, user=USER, scheme="smtps").send(mail(), message_id=MESSAGE_ID, before_send=Ready())
    assert (len(post.mails), len(post.logins)) == (1, 1)


@pytest.mark.usefixtures("trusted")
async def test_a_refused_login(server_tls: ssl.SSLContext) -> None:
    post = Post()
    async with serving(post, start_tls=server_tls, **_authenticating(post)):
        error = await fails(post, user="user%40example.org:wrong@")
    assert (error.left, error.error_class) == (False, ErrorClass.AUTHENTICATION)
    assert "wrong" not in str(error)
    assert post.mails == []


async def test_no_password_goes_over_an_open_line() -> None:
    post = Post()
    async with serving(post, **_authenticating(post, tls_is_known=False)):  # it has no STARTTLS, and would take one
        error = await fails(post, user=USER)
    assert error.left is False
    assert (post.logins, post.mails) == ([], [])


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_a_certificate_that_nobody_knows_ends_it(server_tls: ssl.SSLContext, scheme: str) -> None:
    post = Post()
    tls = {"tls": server_tls} if scheme == "smtps" else {"start_tls": server_tls}
    async with serving(post, **tls, **_authenticating(post, tls_is_known=scheme == "smtp")):
        error = await fails(post, user=USER, scheme=scheme)
    assert (error.left, error.error_class) == (False, ErrorClass.EXTERNAL_SERVICE)
    assert (post.logins, post.mails) == ([], [])


# The settings


def test_without_a_server_there_is_no_mailer() -> None:
    assert Mailer.of(Settings()) is None


@pytest.mark.parametrize(
    ("url", "sender"),
    [
        ("localhost:25", SENDER),
        ("http://localhost", SENDER),
        ("smtp://", SENDER),
        ("smtp://localhost", None),
        ("smtp://localhost", "Sales"),
        ("smtp://localhost:port", SENDER),
    ],
)
def test_wrong_settings_are_said_at_the_start(url: str, sender: str | None) -> None:
    with pytest.raises(StartError, match="KOMMO_STREAMS_SMTP_URL"):
        Mailer.of(Settings(smtp_url=SecretStr(url), mail_from=sender))


def test_the_ports_are_those_of_submission() -> None:
    for url, port in (("smtp://mail.example.com", 587), ("smtps://mail.example.com", 465), ("smtp://h:2525", 2525)):
        made = Mailer.of(Settings(smtp_url=SecretStr(url), mail_from=SENDER))
        assert vars(made)["_port"] == port
