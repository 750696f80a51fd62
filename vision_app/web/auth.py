"""Who may ask for what: each token of VISION_API_TOKENS is bound to one tenant or, as `*`, to all.

Without tokens the API is open; the settings refuse that on any address but loopback, unless VISION_API_AUTH=off says
that something in front authenticates.
"""

from __future__ import annotations

import hmac

from aiohttp import web

from vision_app.settings import Settings

from .errors import ApiError, Handler

ALL_TENANTS = "*"
TENANT = web.RequestKey("tenant", str)
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})


def authentication(settings: Settings) -> object:
    """The middleware that binds a request to a tenant, or answers 401."""
    tokens = parse_tokens(settings.vision_api_tokens.get_secret_value())
    enforced = bool(tokens) and settings.vision_api_auth == "on"

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[TENANT] = ALL_TENANTS
        if enforced and request.path not in OPEN_PATHS:
            request[TENANT] = _tenant_of(request.headers.get("Authorization", ""), tokens)
        return await handler(request)

    return authenticate


def tenant_asked(request: web.Request, named: str | None) -> str | None:
    """The tenant a request is about: the caller's own, or for `*` the one it names (None: any).

    Another tenant's data is answered with 404, as if it were not there.
    """
    own = request[TENANT]
    if own == ALL_TENANTS:
        return named
    if named not in (None, own):
        raise ApiError(404, "not_found", "there is nothing here that this token may see")
    return own


def operator_for(request: web.Request, tenant: str) -> None:
    """Let only a token for all tenants through: what a tenant may spend is not the tenant's to decide."""
    tenant_asked(request, tenant)
    if request[TENANT] != ALL_TENANTS:
        raise ApiError(403, "forbidden", "this needs a token for all tenants: token=* in VISION_API_TOKENS")


@web.middleware
async def same_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse changes asked for by a page of another site, which a browser on this machine would send here."""
    origin = request.headers.get("Origin")
    if request.method not in READING and origin is not None and origin.partition("://")[2] != request.host:
        raise ApiError(403, "foreign_origin", "changes are only taken from programs and from pages of this server")
    return await handler(request)


def parse_tokens(text: str) -> dict[str, str]:
    """`token=tenant,token=*` as a mapping of tokens to tenants."""
    pairs = (item.strip().rpartition("=") for item in text.split(",") if item.strip())
    return {token: tenant for token, _, tenant in pairs if token and tenant}


def _tenant_of(authorization: str, tokens: dict[str, str]) -> str:
    scheme, _, given = authorization.partition(" ")
    found = None
    for token, tenant in tokens.items():  # all are compared, each in constant time
        if hmac.compare_digest(token.encode(), given.strip().encode()):
            found = tenant
    if scheme.lower() != "bearer" or found is None:
        raise ApiError(401, "unauthorized", "send Authorization: Bearer <token>, one of VISION_API_TOKENS")
    return found
