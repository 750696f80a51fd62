"""Which tenants and which time an account is about: what the readers take and what they pass over."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import quote

MARGIN_MS = 60_000
"""Events and dead letters are looked for so much earlier than inputs: the clocks of Redis and Kafka may differ."""
GRANT_MARGIN_MS = 60 * 60 * 1000
"""A call within the time may have been granted before it; a grant open for longer is reported by the worker."""


@dataclass(frozen=True)
class Scope:
    """`since_ms` inclusive, `until_ms` exclusive: what is published while the account is taken is left out."""

    since_ms: int
    until_ms: int
    tenants: frozenset[str] | None = None
    _keys: frozenset[bytes] = field(init=False, repr=False, default=frozenset())

    def __post_init__(self) -> None:
        keys = frozenset(quote(tenant, safe="").encode() for tenant in self.tenants or ())
        object.__setattr__(self, "_keys", keys)

    @classmethod
    def of(cls, since_ms: int, until_ms: int, tenants: Collection[str] | None) -> Scope:
        return cls(since_ms, until_ms, None if tenants is None else frozenset(tenants))

    def takes(self, tenant_id: str) -> bool:
        return self.tenants is None or tenant_id in self.tenants

    def takes_key(self, key: bytes | None) -> bool:
        """Whether a record of this Kafka key, which begins with the tenant, can be of interest. Saves decoding it."""
        return self.tenants is None or (key or b"").partition(b":")[0] in self._keys

    def within(self, at_ms: int) -> bool:
        return self.since_ms <= at_ms < self.until_ms
