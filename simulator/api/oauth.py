"""OAuth 2.0 as Kommo has it: codes, pairs of tokens that are replaced at each refresh, long-lived tokens.

Facts of https://developers.kommo.com/docs/oauth-20: a code lives 20 minutes and serves once; an access token (JWT)
24 hours; a refresh token 3 months and is replaced at each use, but the old one works until the new pair is used, so
that an answer that was lost does no harm; redirect_uri must be the integration's own, on a refresh too. All tokens are
signed with a key made from the simulator's seed, so they are valid across its restarts.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from simulator.api.clock import ApiClock
from simulator.api.errors import bad_grant, unauthorized

CODE_SECONDS: Final = 20 * 60
ACCESS_SECONDS: Final = 86_400
REFRESH_SECONDS: Final = 90 * 86_400
LONG_LIVED_SECONDS: Final = 365 * 86_400

_HEADER: Final = {"typ": "JWT", "alg": "HS256"}  # Kommo's own is RS256: who has no key verifies neither
_MOST_CACHED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Integration:
    """What a client must present."""

    client_id: str = "5f3a0c9e-1b7d-4c55-9a61-0d6a3f8e2b14"
    client_secret: str = "simulated-integration-secret"  # noqa: S105 of a simulation
    redirect_uri: str = "https://integration.example/oauth"


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose a token is: the account, the user, until when (unix seconds), and of which pair of which family it is."""

    account: int
    user: int
    expires_at: float
    family: str
    number: int
    generation: int


class OAuth:
    """Gives out tokens and knows them again. `journal` is told what must be known after a restart."""

    def __init__(
        self, seed: int, clock: ApiClock, integration: Integration, journal: Callable[[dict[str, Any]], None]
    ) -> None:
        self.integration = integration
        self._key = hashlib.sha256(f"kommo-streams simulate-api {seed}".encode()).digest()
        self._clock = clock
        self._journal = journal
        self._spent: set[str] = set()  # codes
        self._issued: defaultdict[str, int] = defaultdict(int)  # by family: the newest pair
        self._used: defaultdict[str, int] = defaultdict(int)  # by family: the newest pair that was used
        self._generations: defaultdict[int, int] = defaultdict(int)  # by account: tokens of older ones are revoked
        self._known: dict[str, Bearer] = {}

    def restore(self, entry: Mapping[str, Any]) -> None:
        """Take note of what the journal was told."""
        if "code" in entry:
            self._spent.add(entry["code"])
        elif "revoked" in entry:
            self._generations[entry["revoked"]] = entry["generation"]
        else:
            family = entry["family"]
            self._issued[family] = max(self._issued[family], entry["issued"])
            self._used[family] = max(self._used[family], entry["used"])

    def long_lived(self, account: int, user: int, seconds: float = LONG_LIVED_SECONDS) -> str:
        """Return an access token that needs no refresh."""
        return self._access(account, user, seconds, "", 0)

    def code(self, account: int, user: int) -> str:
        """Return an authorization code, as the redirect after an installation carries it."""
        expires_at = self._clock.now() + CODE_SECONDS
        return self._seal({"kind": "code", "id": uuid.uuid4().hex, "account": account, "user": user, "exp": expires_at})

    def revoke(self, account: int) -> None:
        """Revoke all tokens of an account that were given out so far, as when the integration is switched off."""
        self._generations[account] += 1
        self._journal({"revoked": account, "generation": self._generations[account]})

    def bearer(self, token: str) -> Bearer:
        """Return whose an access token is, and take note that its pair is in use. Raises Refused (401)."""
        bearer = self._known.get(token) or self._read(token)
        if bearer.expires_at <= self._clock.now() or bearer.generation < self._generations[bearer.account]:
            raise unauthorized()
        if bearer.number > self._used[bearer.family]:
            self._use(bearer.family, bearer.number)
        return bearer

    def account_of(self, body: Mapping[str, Any]) -> int:
        """Return the account that a request for tokens is about; 0 where it does not say."""
        claims = self._open(body.get("code") or body.get("refresh_token"))
        return int(claims["account"]) if claims else 0

    def exchange(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"token_type", "expires_in", "access_token", "refresh_token"}. Raises Refused."""
        own = self.integration
        for name, known in (("client_id", own.client_id), ("client_secret", own.client_secret)):
            if body.get(name) != known:
                raise bad_grant(f"Check the `{name}` parameter")
        if body.get("redirect_uri") != own.redirect_uri:
            raise bad_grant("Invalid redirect URI")
        if body.get("grant_type") == "authorization_code":
            return self._first(body.get("code"))
        if body.get("grant_type") == "refresh_token":
            return self._next(body.get("refresh_token"))
        raise bad_grant("Check the `grant_type` parameter")

    def _first(self, code: Any) -> dict[str, Any]:
        claims = self._open(code)
        if claims is None or claims["kind"] != "code":
            raise bad_grant("Cannot decrypt the authorization code")
        if claims["exp"] <= self._clock.now():
            raise bad_grant("Authorization code has expired")
        if claims["id"] in self._spent:
            raise bad_grant("Authorization code has been revoked")
        self._spent.add(claims["id"])
        self._journal({"code": claims["id"]})
        return self._pair(claims["account"], claims["user"], claims["id"])

    def _next(self, token: Any) -> dict[str, Any]:
        claims = self._open(token)
        if claims is None or claims["kind"] != "refresh":
            raise bad_grant("Cannot decrypt the refresh token", 401)
        if claims["exp"] <= self._clock.now():
            raise bad_grant("Token has expired", 401)
        family, number = claims["family"], claims["number"]
        stale = claims["generation"] < self._generations[claims["account"]]
        if stale or number < self._used[family]:
            raise bad_grant("Token has been revoked", 401)
        self._use(family, number)
        return self._pair(claims["account"], claims["user"], family)

    def _use(self, family: str, number: int) -> None:
        self._used[family] = max(self._used[family], number)
        self._journal({"family": family, "issued": self._issued[family], "used": self._used[family]})

    def _pair(self, account: int, user: int, family: str) -> dict[str, Any]:
        number = self._issued[family] = self._issued[family] + 1
        self._journal({"family": family, "issued": number, "used": self._used[family]})
        refresh: dict[str, Any] = {"kind": "refresh", "account": account, "user": user, "family": family}
        refresh |= {"number": number, "generation": self._generations[account]}
        return {
            "token_type": "Bearer",
            "expires_in": ACCESS_SECONDS,
            "access_token": self._access(account, user, ACCESS_SECONDS, family, number),
            "refresh_token": self._seal(refresh | {"exp": self._clock.now() + REFRESH_SECONDS}),
        }

    def _access(self, account: int, user: int, seconds: float, family: str, number: int) -> str:
        now = int(self._clock.now())
        claims: dict[str, Any] = {"aud": self.integration.client_id, "jti": uuid.uuid4().hex, "iat": now, "nbf": now}
        claims |= {"exp": now + seconds, "sub": str(user), "grant_type": "", "account_id": account}
        claims |= {"base_domain": "kommo.com", "version": 2, "scopes": ["crm", "notifications"]}
        claims |= {"family": family, "number": number, "generation": self._generations[account]}
        signed = f"{_encode(orjson.dumps(_HEADER))}.{_encode(orjson.dumps(claims))}"
        return f"{signed}.{self._signature(signed)}"

    def _read(self, token: str) -> Bearer:
        signed, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(signed).encode()):
            raise unauthorized()
        claims = orjson.loads(_decode(signed.partition(".")[2]))
        if "account_id" not in claims:
            raise unauthorized()
        bearer = Bearer(
            claims["account_id"],
            int(claims["sub"]),
            claims["exp"],
            claims["family"],
            claims["number"],
            claims["generation"],
        )
        if len(self._known) >= _MOST_CACHED:
            self._known.clear()
        self._known[token] = bearer
        return bearer

    def _seal(self, claims: dict[str, Any]) -> str:
        told = _encode(orjson.dumps(claims))
        return f"def50200{told}.{self._signature(told)}"

    def _open(self, sealed: Any) -> dict[str, Any] | None:
        if not isinstance(sealed, str):
            return None
        told, _, signature = sealed.removeprefix("def50200").partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(told).encode()):
            return None
        claims: dict[str, Any] = orjson.loads(_decode(told))
        return claims

    def _signature(self, text: str) -> str:
        return _encode(hmac.digest(self._key, text.encode(), "sha256"))


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
