"""OAuth of the simulated gateway: client credentials in, bearer tokens out, and the owner of a token.

No cryptography: a token is a random string known to this process. A restart makes all of them unknown, which the
client sees as an expired token.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import time
import uuid
from collections import deque
from dataclasses import dataclass

from aiohttp import web

from vision_app.simulator.config import SCOPES, SimulatorConfig
from vision_app.simulator.errors import ApiError, api_error, oauth_error


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. `label` is X-Client-ID, which separates files within one client."""

    client_id: str
    label: str
    scope: str

    @property
    def owner(self) -> tuple[str, str]:
        return self.client_id, self.label


@dataclass(frozen=True, slots=True)
class _Token:
    client_id: str
    scope: str
    expires_at: float


class Tokens:
    """Issued tokens and the limiter of token requests."""

    def __init__(self, config: SimulatorConfig) -> None:
        self._config = config
        self._tokens: dict[str, _Token] = {}
        self._requests: dict[str, deque[float]] = {}

    def issue(self, client_id: str, scope: str, ttl_seconds: float) -> tuple[str, int]:
        """A new token and its expiry in milliseconds since the epoch."""
        now = time.time()
        self._tokens = {text: token for text, token in self._tokens.items() if token.expires_at > now}
        text = secrets.token_urlsafe(48)
        expires_at = now + ttl_seconds
        self._tokens[text] = _Token(client_id, scope, expires_at)
        return text, int(expires_at * 1000)

    def revoke(self, client_id: str | None = None) -> int:
        """Make the tokens of one client, or of all, invalid. Returns how many."""
        doomed = [text for text, token in self._tokens.items() if client_id in (None, token.client_id)]
        for text in doomed:
            del self._tokens[text]
        return len(doomed)

    def caller(self, request: web.Request) -> Caller:
        """The sender of `request`. Raises ApiError 401."""
        kind, _, text = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not text:
            raise api_error(401, "Unauthorized")
        token = self._tokens.get(text.strip())
        if token is None or token.expires_at <= time.time():
            raise api_error(401, "Token has expired")
        return Caller(token.client_id, request.headers.get("X-Client-ID", ""), token.scope)

    def admit(self, client_id: str) -> None:
        """Count a token request. Raises ApiError 429 above the limit for the last second."""
        now = time.monotonic()
        recent = self._requests.setdefault(client_id, deque())
        while recent and recent[0] <= now - 1:
            recent.popleft()
        if len(recent) >= self._config.oauth_per_second:
            raise oauth_error(429, 429, "Too many requests")
        recent.append(now)


def client_of(request: web.Request, config: SimulatorConfig) -> str:
    """The client id in the Authorization header of a token request. Raises ApiError."""
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() not in ("basic", "bearer"):
        raise _undecodable()
    try:
        pair = base64.b64decode(key.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _undecodable() from None
    client_id, separator, secret = pair.partition(":")
    if not separator or not client_id or not secret:
        raise _undecodable()
    if not _known(client_id, secret, config):
        raise oauth_error(401, 6, "credentials doesn't match db data")
    return client_id


def check_rquid(request: web.Request) -> None:
    """RqUID must be a uuid4. Raises ApiError 400 (the body is invented)."""
    try:
        version = uuid.UUID(request.headers.get("RqUID", "")).version
    except ValueError:
        version = None
    if version != 4:
        raise oauth_error(400, 2, "RqUID header must be a uuid4")


def check_scope(scope: str) -> None:
    if not scope:
        raise oauth_error(400, 5, "scope is empty")
    if scope not in SCOPES:
        raise oauth_error(400, 1, "scope data format invalid")


def _known(client_id: str, secret: str, config: SimulatorConfig) -> bool:
    accounts = list(config.accounts)
    if config.client_id is not None:
        accounts.append((config.client_id, config.client_secret or ""))
    given = f"{client_id}:{secret}".encode()
    return not accounts or any(hmac.compare_digest(given, f"{one}:{its}".encode()) for one, its in accounts)


def _undecodable() -> ApiError:
    return oauth_error(400, 4, "Can't decode 'Authorization' header")
