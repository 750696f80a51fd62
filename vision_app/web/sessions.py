"""Sessions of the page: a cookie that proves that its browser has sent one of VISION_API_TOKENS.

Nothing is stored. The cookie is signed with the token's digest, so every worker accepts it, and it ends when the token
is removed from the settings or after LIFETIME_SECONDS. The cookie does not contain the token.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection

COOKIE = "vision_session"
LIFETIME_SECONDS = 12 * 3600
_NAME_CHARS = 16


def issue(digest: bytes, now: float) -> str:
    """A cookie for the token of this SHA-256 digest. `now`: seconds since the epoch."""
    expires = int(now) + LIFETIME_SECONDS
    return f"{digest.hex()[:_NAME_CHARS]}.{expires}.{_sign(digest, 'session', expires)}"


def verify(cookie: str, digests: Collection[bytes], now: float) -> bytes | None:
    """The digest of the token that the cookie was issued for; None if it is forged, expired or of no such token."""
    name, _, rest = cookie.partition(".")
    expires, _, signature = rest.partition(".")
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12) or int(expires) < now:
        return None
    for digest in digests:
        expected = _sign(digest, "session", int(expires)).encode()
        if digest.hex()[:_NAME_CHARS] == name and hmac.compare_digest(expected, signature.encode("utf-8", "replace")):
            return digest
    return None


def form_token(digest: bytes, cookie: str) -> str:
    """What a form of this session must carry, so that other sites cannot send it."""
    return hmac.new(digest, b"form|" + cookie.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _sign(digest: bytes, purpose: str, expires: int) -> str:
    return hmac.new(digest, f"{purpose}|{expires}".encode(), hashlib.sha256).hexdigest()
