"""The readers' output and the arithmetic's input: small values, without the texts of the messages they come from.

Times are milliseconds since the epoch, tokens whole numbers. Order of a list is the order in its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Emission = tuple[int, int]
"""Time and offset of a post's state. The larger one is the later state."""
Post = tuple[str, str]
"""Tenant and post id."""


@dataclass(frozen=True, slots=True)
class Input:
    """One publication. `id` is `stream-entry`, or `topic-partition-offset` of one that came by Kafka.

    `tenant_id` and `post_id` are empty in an entry that cannot be read. `judged_ms`: when the policy passed it on.
    """

    id: str
    tenant_id: str
    post_id: str
    at_ms: int
    pictures: tuple[str, ...] = ()
    relayed: bool = False
    judged_ms: int | None = None

    @property
    def post(self) -> Post:
        return self.tenant_id, self.post_id


@dataclass(frozen=True, slots=True)
class RowMedium:
    """One listed medium of a row and how it ended."""

    sha256: str
    status: str
    reason: str | None = None
    deferred: bool = False
    provider: str | None = None
    answer_key: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A post's row in Postgres. `analyzed`: at least one medium has an analysis."""

    tenant_id: str
    post_id: str
    status: str
    emission: Emission
    in_work: bool
    media: tuple[RowMedium, ...] = ()

    @property
    def post(self) -> Post:
        return self.tenant_id, self.post_id

    @property
    def analyzed(self) -> bool:
        return any(medium.provider for medium in self.media)

    @property
    def deferred(self) -> bool:
        return any(medium.deferred for medium in self.media)


@dataclass(frozen=True, slots=True)
class Event:
    """An event on the Redis output stream. `content` is a digest of its contents about each medium."""

    entry_id: str
    at_ms: int
    tenant_id: str
    post_id: str
    emission: Emission
    content: str
    deferred: bool = False

    @property
    def post(self) -> Post:
        return self.tenant_id, self.post_id


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. `fault`: why its origin is unknown, or what it lacks; empty if there is no fault."""

    id: str
    origin: str
    tenant_id: str | None
    post_id: str | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class GrantGiven:
    """A grant as it was sent on Kafka."""

    id: str
    tenant_id: str
    post_id: str
    sha256: str
    provider: str
    purpose: str
    estimate: int
    force: bool
    attempt: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Closing:
    """What the worker reported to the ledger about a grant. `tokens`: settled, or the estimate of a lost call."""

    grant_id: str
    tenant_id: str
    kind: Literal["settle", "lost", "release"]
    tokens: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class ChargeRow:
    """A row of token_charges: what a ledger charged for a grant in all. `at_ms`: when its first part was charged."""

    tenant_id: str
    ledger: str
    grant_id: str
    tokens: int
    at_ms: int
    cut_off: bool = False


@dataclass(frozen=True, slots=True)
class BilledCall:
    """A chat call the provider billed. `grant_id` is the X-Request-ID as sent; `pictures` are as uploaded."""

    grant_id: str
    at_ms: int
    tokens: int
    pictures: tuple[str, ...]
    outcome: str


@dataclass(frozen=True, slots=True)
class CallRecord:
    """The record in S3 of a grant's call. `version` names provider, model and prompt; empty while it is not done."""

    grant_id: str
    tenant_id: str
    done: bool
    tokens: int = 0
    verdict: str = ""
    version: str = ""
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class LedgerVersion:
    """One version of a tenant's row in the changelog of the budget table, in its order.

    `birth` distinguishes the ledger from earlier ones of the tenant. `open` are estimates, `closed` charges (None:
    released) by grant; `waiting` are tasks in the queue; `applied` is offset and time of the last applied command.
    `gap`: the version before it may be missing.
    """

    tenant_id: str
    place: str
    at_ms: int
    birth: str
    day: str
    limit: int
    spent: int
    loaded: bool
    open: Mapping[str, int]
    closed: Mapping[str, int | None]
    waiting: int = 0
    applied: tuple[int, int] = (0, 0)
    gap: bool = False

    @property
    def reserved(self) -> int:
        return sum(self.open.values())

    @property
    def ledger(self) -> str:
        """The ledger's name, as charges in Postgres have it."""
        return self.birth.partition("/")[2]


@dataclass(frozen=True)
class Progress:
    """Unfinished work: records by topic, with the Redis streams; and tenants whose tasks wait.

    `born`: when each tenant's ledger began (epoch milliseconds).
    """

    backlog: Mapping[str, int] = field(default_factory=dict)
    waiting: frozenset[str] = frozenset()
    born: Mapping[str, int] = field(default_factory=dict)

    def busy(self, *topics: str) -> bool:
        return any(self.backlog.get(topic) for topic in topics)
