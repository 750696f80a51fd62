"""AWS Signature Version 4 of requests to single objects: what botocore's `S3SigV4Auth` computes, and cheaper.

botocore takes the headers apart by the rules of e-mail and derives the day's key anew for each request. A test compares
both for any request (`tests/unit/test_s3_signature.py`); `scripts/step_costs.py` prints what each costs.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Protocol
from urllib.parse import urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "s3"
TERMINATOR = "aws4_request"
NOT_SIGNED = frozenset({"expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"})
"""Headers that proxies may change."""
NOTHING_SHA256 = sha256(b"").hexdigest()
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Keys(Protocol):
    """An access key, as botocore freezes it. `token` is None unless the keys are temporary."""

    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def token(self) -> str | None: ...


class Signer:
    """Signs requests without a query string to one bucket."""

    def __init__(self, region: str, bucket_url: str) -> None:
        """`bucket_url`: the address before the keys of its objects."""
        self._region = region
        self._host, self._folder = _host_and_path(bucket_url)
        self._day: tuple[str, str] = ("", "")  # date and secret of `_day_key`
        self._day_key = b""

    def signed(
        self, keys: Keys, method: str, key: str, headers: Mapping[str, str], body: bytes, at: datetime | None = None
    ) -> dict[str, str]:
        """The headers to send: the given ones, and those of the signature.

        `key`: of the object, encoded for a URL. `at`: the time of the request, with a zone; now, if it is not given.
        """
        time = (at or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        date, digest = time[:8], sha256(body).hexdigest() if body else NOTHING_SHA256
        sent = {**headers, "X-Amz-Date": time, "X-Amz-Content-SHA256": digest}
        if keys.token:
            sent["X-Amz-Security-Token"] = keys.token
        lines = {name.lower(): " ".join(value.split()) for name, value in sent.items()}
        lines["host"] = self._host
        names = sorted(lines.keys() - NOT_SIGNED)
        named = ";".join(names)
        canonical = "\n".join(
            (method, self._folder + key, "", *(f"{name}:{lines[name]}" for name in names), "", named, digest)
        )
        scope = f"{date}/{self._region}/{SERVICE}/{TERMINATOR}"
        text = f"{ALGORITHM}\n{time}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key_of(date, keys.secret_key), text.encode(), "sha256").hex()
        sent["Authorization"] = (
            f"{ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={named}, Signature={signature}"
        )
        return sent

    def _key_of(self, date: str, secret: str) -> bytes:
        """The key derived for a day. Derived anew when the day or the secret changes."""
        if self._day != (date, secret):
            key = f"AWS4{secret}".encode()
            for part in (date, self._region, SERVICE, TERMINATOR):
                key = hmac.digest(key, part.encode(), "sha256")
            self._day, self._day_key = (date, secret), key
        return self._day_key


def _host_and_path(url: str) -> tuple[str, str]:
    """The `Host` header as HTTP clients send it, without the scheme's own port, and the path."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    if parts.port is not None and parts.port != _DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{parts.port}"
    return host, parts.path or "/"
