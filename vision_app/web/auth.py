"""Authentication: each token of VISION_API_TOKENS belongs to one tenant or, with `*`, to all tenants.

If there are tokens, they are checked; the settings refuse tokens together with VISION_API_AUTH=off. Without tokens the
API is open; the settings refuse this on any address except loopback, unless VISION_API_AUTH=off allows it. An open API
refuses requests with foreign host names (`vision_app.hosts`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from aiohttp import web

from vision_app.hosts import allowed_names, host_allowed
from vision_app.settings import Settings, parse_tokens

from .errors import ApiError, Handler, count_refused
from .rate import BURST_SECONDS, CALLER, Buckets, peer_of, refuse_if_too_often

ALL_TENANTS = "*"
TENANT = web.RequestKey("tenant", str)
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})

WRONG_TOKENS_PER_SECOND = 5
"""Limit of guesses per address. At any rate, a token of 128 random bits cannot be guessed."""


def authentication(settings: Settings) -> object:
    """The middleware that assigns a request to a tenant and a caller, or answers 401."""
    tokens = {_digest(token): tenant for token, tenant in parse_tokens(settings.vision_api_tokens).items()}
    enforced = bool(tokens)
    guesses = Buckets(WRONG_TOKENS_PER_SECOND, WRONG_TOKENS_PER_SECOND * BURST_SECONDS)

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[TENANT] = ALL_TENANTS
        if request.path in OPEN_PATHS:
            return await handler(request)
        if not enforced:
            request[CALLER] = peer_of(request)
            return await handler(request)
        given = _bearer(request.headers.get("Authorization", ""))
        tenant = _tenant_of(given, tokens) if given else None
        if tenant is None:
            count_refused("unauthorized")
            refuse_if_too_often(guesses, peer_of(request))
            raise ApiError(
                401,
                "unauthorized",
                "send Authorization: Bearer <token>, one of VISION_API_TOKENS",
                headers={"WWW-Authenticate": "Bearer"},
            )
        request[TENANT], request[CALLER] = tenant, given.hex()
        return await handler(request)

    return authenticate


def known_host(settings: Settings) -> object:
    """The middleware that answers 421 to requests with a host name that is not ours, if the API is open."""
    allowed = allowed_names(settings.vision_allowed_hosts)
    is_open = not parse_tokens(settings.vision_api_tokens)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_open and not host_allowed(request.headers.get("Host"), allowed):
            count_refused("foreign_host")
            raise ApiError(421, "foreign_host", "this is not a name of this server; add it to VISION_ALLOWED_HOSTS")
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
        raise ApiError(404, "not_found", "there is nothing here that this token may see")
    return own


def operator_for(request: web.Request, tenant: str | None = None) -> None:
    """Accept only a token for all tenants: a tenant may not change budgets or see the totals of all tenants."""
    tenant_asked(request, tenant)
    if request[TENANT] != ALL_TENANTS:
        raise ApiError(403, "forbidden", "this needs a token for all tenants: token=* in VISION_API_TOKENS")


@web.middleware
async def same_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse changes requested by a page of another site, which a browser on this machine would send here."""
    origin = request.headers.get("Origin")
    if request.method not in READING and origin is not None and origin.partition("://")[2] != request.host:
        count_refused("foreign_origin")
        raise ApiError(403, "foreign_origin", "changes are only taken from programs and from pages of this server")
    return await handler(request)


def _bearer(authorization: str) -> bytes:
    """The digest of the token in the header; empty if there is none."""
    scheme, _, given = authorization.partition(" ")
    return _digest(given.strip()) if scheme.lower() == "bearer" and given.strip() else b""


def _digest(token: str) -> bytes:
    """All digests have the same length, so comparing does not reveal a token's length. Headers may hold any byte."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _tenant_of(given: bytes, tokens: Mapping[bytes, str]) -> str | None:
    found = None
    for token, tenant in tokens.items():  # compares all tokens, each in constant time
        if hmac.compare_digest(token, given):
            found = tenant
    return found
