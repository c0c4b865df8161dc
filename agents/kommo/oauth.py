"""OAuth 2.0 as Kommo speaks it (https://developers.kommo.com/docs/oauth-20).

POST /oauth2/access_token with {client_id, client_secret, grant_type, code | refresh_token, redirect_uri} gives
{token_type, expires_in (86400 s), access_token, refresh_token}. A code lives 20 minutes and works once. A refresh
token lives 3 months and is replaced at each use; if the answer is lost, the old one works until the new pair is used.
"""

from __future__ import annotations

import base64
import datetime as dt
from dataclasses import dataclass
from typing import Any, cast

import httpx
import orjson
from pydantic import SecretStr
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from agents.kommo.credentials import Credentials, Pair
from agents.kommo.limits import Address
from agents.kommo.problems import KommoError
from agents.kommo.wire import BeforeSend, Call, Reply, exchange
from runtime.integrations import read_integrations
from runtime.settings import PREFIX, Settings
from schemas.errors import ErrorClass

WHAT = "POST /oauth2/access_token"
ATTEMPTS = 3
MOST_SECONDS = 15.0  # of one attempt: three and their pauses are over before a claim is (credentials.CLAIM_SECONDS)

_BACKOFF = wait_random_exponential(0.2, max=2)


@dataclass(frozen=True, slots=True)
class Claims:
    """What an access token (a JWT) says of itself; its signature is Kommo's to check, not ours."""

    account_id: int | None = None
    user_id: int | None = None
    expires_at: dt.datetime | None = None


def claims_of(token: SecretStr) -> Claims:
    """Read the claims account_id, sub (the user) and exp (unix seconds); what is not there is None."""
    payload = token.get_secret_value().split(".")[1:2]
    try:
        said = orjson.loads(base64.urlsafe_b64decode(payload[0] + "=" * (-len(payload[0]) % 4)))
    except (ValueError, IndexError):
        return Claims()
    if not isinstance(said, dict):
        return Claims()
    expires = _whole(said.get("exp"))
    moment = None if expires is None or expires > 32_503_680_000 else dt.datetime.fromtimestamp(expires, dt.UTC)
    return Claims(_whole(said.get("account_id")), _whole(said.get("sub")), moment)


def _whole(value: Any) -> int | None:
    """Return a positive whole number, which a claim may hold as a text."""
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or not 0 < len(text) < 19:
        return None
    return int(text) or None


def integrations_of(settings: Settings) -> dict[str, SecretStr]:
    """Return client id (lower case) and secret of each integration in the settings."""
    text = settings.integrations.get_secret_value() if settings.integrations else ""
    return {client: SecretStr(secret) for client, secret in read_integrations(text).items()}


class OAuth:
    """Asks Kommo for token pairs, with the secrets of the integrations in the settings."""

    def __init__(self, http: httpx.AsyncClient, settings: Settings, address: Address) -> None:
        self._http = http
        self._secrets = integrations_of(settings)
        self._seconds = min(settings.kommo_timeout_seconds, MOST_SECONDS)
        self._address = address

    async def exchange_code(self, base_url: str, client_uuid: str, redirect_uri: str, code: SecretStr) -> Pair:
        """Return the pair that an authorization code gives, once. Raises KommoError."""
        return await self._ask(0, base_url, client_uuid, redirect_uri, "authorization_code", "code", code)

    async def refresh(self, credentials: Credentials, ready: BeforeSend | None = None) -> Pair:
        """Return a new pair; store it before it is used. Raises KommoError.

        A lost answer is asked for again with the same refresh token. Whatever fails, the request the token was
        wanted for has not left.
        """
        if credentials.client_uuid is None or credentials.redirect_uri is None or credentials.pair.refresh is None:
            raise KommoError(ErrorClass.AUTHENTICATION, f"{WHAT}: a long-lived token cannot be refreshed")
        retrying = AsyncRetrying(
            retry=retry_if_exception(_worth_another),
            wait=_BACKOFF,
            stop=stop_after_attempt(ATTEMPTS),
            reraise=True,
        )
        return await retrying(
            self._ask,
            credentials.account_id,
            credentials.base_url,
            credentials.client_uuid,
            credentials.redirect_uri,
            "refresh_token",
            "refresh_token",
            credentials.pair.refresh,
            ready,
        )

    async def _ask(
        self,
        account_id: int,
        base_url: str,
        client_uuid: str,
        redirect_uri: str,
        grant: str,
        name: str,
        given: SecretStr,
        ready: BeforeSend | None = None,
    ) -> Pair:
        secret = self._secrets.get(client_uuid.lower())
        if secret is None:
            raise KommoError(
                ErrorClass.AUTHENTICATION, f"{WHAT}: the integration {client_uuid} is not in {PREFIX}INTEGRATIONS"
            )
        era = await self._address.admit()
        try:
            reply = await exchange(
                self._http,
                Call(
                    account_id,
                    "POST",
                    WHAT,
                    f"{base_url}/oauth2/access_token",
                    _form(client_uuid, secret, redirect_uri, {"grant_type": grant, name: given.get_secret_value()}),
                ),
                seconds=self._seconds,
                ready=ready,
            )
        except BaseException:
            self._address.unanswered(era)
            raise
        problem = reply if isinstance(reply, KommoError) else None
        if isinstance(reply, Reply) and reply.status != 200:
            problem = KommoError.of_answer(WHAT, reply.status, reply.headers, reply.content)
        self._address.outcome(account_id, era, problem)
        if problem is None:
            return _pair(cast(Reply, reply))
        problem.left = False
        if problem.error_class in (ErrorClass.VALIDATION, ErrorClass.NOT_FOUND):
            problem.error_class = ErrorClass.AUTHENTICATION  # the code, the token or the account's address is wrong
        raise problem


def _worth_another(error: BaseException) -> bool:
    return isinstance(error, KommoError) and error.error_class is ErrorClass.EXTERNAL_SERVICE


def _form(client_uuid: str, secret: SecretStr, redirect_uri: str, grant: dict[str, str]) -> bytes:
    return orjson.dumps(
        {"client_id": client_uuid, "client_secret": secret.get_secret_value(), "redirect_uri": redirect_uri, **grant}
    )


def _pair(reply: Reply) -> Pair:
    now = dt.datetime.now(dt.UTC)
    try:
        said = orjson.loads(reply.content)
        access, refresh, seconds = said["access_token"], said["refresh_token"], float(said["expires_in"])
        expires_at = now + dt.timedelta(seconds=min(seconds, 366 * 86_400))
        right = isinstance(access, str) and isinstance(refresh, str) and bool(access) and bool(refresh)
        # What stands in a header must be one line of visible signs.
        right = right and access.isascii() and access.isprintable() and " " not in access
    except (ValueError, TypeError, KeyError, OverflowError):
        right = False
    if not right:
        problem = KommoError.unreadable(WHAT, reply.status, "an answer without a pair of tokens")
        problem.left = False
        raise problem
    return Pair(SecretStr(access), expires_at, SecretStr(refresh))
