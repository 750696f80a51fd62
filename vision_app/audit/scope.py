"""The tenants and the time of an account: which material the readers take and which they skip."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import quote

MARGIN_MS = 60_000
"""How much earlier than inputs events and dead letters are looked for: the clocks of Redis and Kafka may differ."""
GRANT_MARGIN_MS = 60 * 60 * 1000
"""A call within the time may have been granted before it; a grant open for longer is reported by the worker."""


@dataclass(frozen=True)
class Scope:
    """`since_ms` inclusive, `until_ms` exclusive: inputs published while the account is taken are left out."""

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
        """Whether a record with this key may belong to the account. Keys begin with the tenant; this saves decoding."""
        return self.tenants is None or (key or b"").partition(b":")[0] in self._keys

    def within(self, at_ms: int) -> bool:
        return self.since_ms <= at_ms < self.until_ms
