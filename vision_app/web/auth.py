"""Authentication: each token of VISION_API_TOKENS belongs to one tenant or, with `*`, to all tenants.

A program sends the token with each request. A browser sends it once to the page's login and gets a session
(`sessions.py`), which the page accepts for everything and the API for reading.

If there are tokens, they are checked; the settings refuse tokens together with VISION_API_AUTH=off. Without tokens the
API is open; the settings refuse this on any address except loopback, unless VISION_API_AUTH=off allows it. An open API
refuses requests with foreign host names (`vision_app.hosts`).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping

from aiohttp import web

from vision_app.hosts import allowed_names, host_allowed
from vision_app.settings import Settings, parse_tokens
from vision_app.texts import say

from . import sessions
from .errors import ApiError, Handler, count_refused
from .rate import BURST_SECONDS, CALLER, Buckets, peer_of, refuse_if_too_often

ALL_TENANTS = "*"
TENANT = web.RequestKey("tenant", str)
SESSION_FORM = web.RequestKey("session_form", str)
"""What a form of the page must carry to be accepted; set for requests by session, and for all while the API is open."""
LOGIN, PAGES, STATIC = "/ui/login", "/ui", "/ui/static/"
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/docs", LOGIN, "/ui/preference"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})

WRONG_TOKENS_PER_SECOND = 5
"""Limit of guesses per address. At any rate, a token of 128 random bits cannot be guessed."""


def authentication(settings: Settings) -> object:
    """The middleware that assigns a request to a tenant and a caller, or answers 401."""
    tokens = digests(settings)
    enforced = bool(tokens)
    guesses = Buckets(WRONG_TOKENS_PER_SECOND, WRONG_TOKENS_PER_SECOND * BURST_SECONDS)
    open_form = secrets.token_hex(16)

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[TENANT] = ALL_TENANTS
        if request.path == LOGIN and request.method not in READING and enforced:
            refuse_if_too_often(guesses, peer_of(request))
        if request.path in OPEN_PATHS or request.path.startswith(STATIC):
            return await handler(request)
        if not enforced:
            request[CALLER], request[SESSION_FORM] = peer_of(request), open_form
            return await handler(request)
        given = _bearer(request.headers.get("Authorization", "")) or _of_session(request, tokens)
        tenant = tenant_of(given, tokens) if given else None
        if tenant is None:
            count_refused("unauthorized")
            refuse_if_too_often(guesses, peer_of(request))
            raise ApiError(
                401,
                "unauthorized",
                say("send Authorization: Bearer <token>, one of VISION_API_TOKENS"),
                headers={"WWW-Authenticate": "Bearer"},
            )
        request[TENANT], request[CALLER] = tenant, given.hex()
        return await handler(request)

    return authenticate


def digests(settings: Settings) -> dict[bytes, str]:
    """The SHA-256 digests of VISION_API_TOKENS, each with its tenant."""
    return {digest_of(token): tenant for token, tenant in parse_tokens(settings.vision_api_tokens).items()}


def _of_session(request: web.Request, tokens: Mapping[bytes, str]) -> bytes:
    """The digest of the token of the request's session; empty without one, or where sessions do not count."""
    of_page = request.path == PAGES or request.path.startswith(f"{PAGES}/")
    if not of_page and request.method not in READING:
        return b""
    cookie = request.cookies.get(sessions.COOKIE, "")
    digest = sessions.verify(cookie, tokens, time.time()) if cookie else None
    if digest is None:
        return b""
    request[SESSION_FORM] = sessions.form_token(digest, cookie)
    return digest


def known_host(settings: Settings) -> object:
    """The middleware that answers 421 to requests with a host name that is not ours, if the API is open."""
    allowed = allowed_names(settings.vision_allowed_hosts)
    is_open = not parse_tokens(settings.vision_api_tokens)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_open and not host_allowed(request.headers.get("Host"), allowed):
            count_refused("foreign_host")
            raise ApiError(
                421, "foreign_host", say("this is not a name of this server; add it to VISION_ALLOWED_HOSTS")
            )
        return await handler(request)

    return check


def tenant_asked(request: web.Request, named: str | None) -> str | None:
    """The tenant a request is about: the caller's own, or for `*` the one it names (None: any).

    A request for another tenant's data gets a 404, as if the data did not exist.
    """
    own = request[TENANT]
    if own == ALL_TENANTS:
        return named
    if named not in (None, own):
        raise ApiError(404, "not_found", say("there is nothing here that this token may see"))
    return own


def operator_for(request: web.Request, tenant: str | None = None) -> None:
    """Accept only a token for all tenants: a tenant may not change budgets or see the totals of all tenants."""
    tenant_asked(request, tenant)
    if request[TENANT] != ALL_TENANTS:
        raise ApiError(403, "forbidden", say("this needs a token for all tenants: token=* in VISION_API_TOKENS"))


@web.middleware
async def same_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse changes requested by a page of another site, which a browser on this machine would send here."""
    origin = request.headers.get("Origin")
    if request.method not in READING and origin is not None and origin.partition("://")[2] != request.host:
        count_refused("foreign_origin")
        raise ApiError(403, "foreign_origin", say("changes are only taken from programs and from pages of this server"))
    return await handler(request)


def _bearer(authorization: str) -> bytes:
    """The digest of the token in the header; empty if there is none."""
    scheme, _, given = authorization.partition(" ")
    return digest_of(given.strip()) if scheme.lower() == "bearer" and given.strip() else b""


def digest_of(token: str) -> bytes:
    """All digests have the same length, so comparing does not reveal a token's length. Headers may hold any byte."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def tenant_of(given: bytes, tokens: Mapping[bytes, str]) -> str | None:
    """The tenant of the token of this digest; None if there is no such token."""
    found = None
    for token, tenant in tokens.items():  # compares all tokens, each in constant time
        if hmac.compare_digest(token, given):
            found = tenant
    return found
