"""Access tokens of GigaChat: one request for all waiting calls, renewal before expiry, shared failures."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from vision_app.providers.base import AccountBlocked, InputFault, ProviderError, ProviderOutage
from vision_app.providers.gigachat_wire import Reply, error_of, token_of
from vision_app.settings import Settings
from vision_app.texts import say

log = structlog.get_logger(__name__)

RENEW_AHEAD_SECONDS = 60.0  # at most; for a token with a shorter life, a quarter of its life
DEFAULT_LIFE_SECONDS = 1800.0  # the documented lifetime, used when the stated expiry is implausible
MAX_LIFE_SECONDS = 24 * 3600.0
FAILURE_SHARED_SECONDS = 1.0  # callers that come this soon after a failed request get its error; they send no request

Post = Callable[[dict[str, str], dict[str, str]], Awaitable[Reply]]
"""Sends headers and form fields to the token endpoint. Raises ProviderOutage when no complete answer came."""


@dataclass(frozen=True)
class _Token:
    text: str
    renew_at: float  # monotonic clock, like expires_at
    expires_at: float


class AccessTokens:
    """The current token of one account, for concurrent callers."""

    def __init__(self, settings: Settings, post: Post) -> None:
        self._settings = settings
        self._post = post
        self._token: _Token | None = None
        self._renewal: asyncio.Task[_Token] | None = None
        self._failure: tuple[ProviderError, float] | None = None

    async def get(self, failed: str | None = None) -> str:
        """A token different from `failed` (the one that was just refused).

        Raises AccountBlocked when the credentials are refused, RateLimited, ProviderOutage.
        """
        token, now = self._token, time.monotonic()
        if token is not None and token.text != failed and now < token.expires_at:
            if now >= token.renew_at and not self._recent_failure(now):
                self._renew()
            return token.text
        if failure := self._recent_failure(now):
            raise failure
        # Shielded: a cancelled caller must not cancel the request for the others.
        return (await asyncio.shield(self._renew())).text

    async def close(self) -> None:
        """Cancel a request in flight."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    def _recent_failure(self, now: float) -> ProviderError | None:
        if self._failure is None or now >= self._failure[1]:
            return None
        return self._failure[0].with_traceback(None)

    def _renew(self) -> asyncio.Task[_Token]:
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._request(), name="gigachat-token")
            self._renewal.add_done_callback(_retrieved)
        return self._renewal

    async def _request(self) -> _Token:
        try:
            self._token = await self._ask()
        except ProviderError as fault:
            pause = getattr(fault, "retry_after_seconds", None) or 0.0
            self._failure = (fault, time.monotonic() + max(pause, FAILURE_SHARED_SECONDS))
            log.warning("gigachat_token_failed", error=str(fault))
            raise
        self._failure = None
        return self._token

    async def _ask(self) -> _Token:
        key = self._settings.gigachat_authorization.get_secret_value()
        if not key:
            raise AccountBlocked(say("set GIGACHAT_CREDENTIALS or GIGACHAT_CLIENT_ID and GIGACHAT_CLIENT_SECRET"), 401)
        headers = {"Authorization": f"Basic {key}", "RqUID": str(uuid.uuid4())}
        reply = await self._post(headers, {"scope": self._settings.gigachat_scope})
        if not reply.ok:
            raise _refused(reply)
        answer = token_of(reply)
        if answer is None:
            raise ProviderOutage(say("the token endpoint answered without a token; check GIGACHAT_AUTH_URL"))
        return _lasting(*answer, server_now=reply.server_time or datetime.now(UTC))


def _lasting(text: str, expires: float, server_now: datetime) -> _Token:
    """Measures the expiry by the server's clock, because ours may be wrong."""
    life = expires - server_now.timestamp()
    if not 0 < life <= MAX_LIFE_SECONDS:
        log.warning("gigachat_token_expiry_implausible", life_seconds=round(life), assumed=DEFAULT_LIFE_SECONDS)
        life = DEFAULT_LIFE_SECONDS
    now = time.monotonic()
    return _Token(text, now + life - min(RENEW_AHEAD_SECONDS, life / 4), now + life)


def _refused(reply: Reply) -> ProviderError:
    """The error of a refused token request. No picture is involved: every 4xx except 429 is about the account."""
    error = error_of(reply)
    if "SSL certificate" in reply.message:  # nginx' own page: it takes the handshake and refuses the request
        text = say("GigaChat refuses our client certificate, or wants one (HTTP {status})", status=reply.status)
        return AccountBlocked(say("{text}; check GIGACHAT_CERT_FILE and GIGACHAT_KEY_FILE", text=text), reply.status)
    if isinstance(error, InputFault) or reply.status == 401:
        text = say("the credentials are refused (HTTP {status}: {message})", status=reply.status, message=reply.message)
        return AccountBlocked(say("{text}; check GIGACHAT_CREDENTIALS and GIGACHAT_SCOPE", text=text), reply.status)
    return error


def _retrieved(task: asyncio.Task[_Token]) -> None:
    """Mark the error of a renewal as retrieved. It was logged, and possibly no caller waits for it."""
    if not task.cancelled():
        task.exception()
