"""The result of an account: figures per tenant and in total, and each discrepancy as a sentence. No arithmetic.

Counts of inputs are of publications: a post that was published twice counts twice. Tokens are GigaChat's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from vision_app.texts import say

SENTENCES_PER_KIND = 20
"""Up to this many discrepancies of one kind are listed; the rest are only counted."""


@dataclass(frozen=True)
class Figures:
    """Counts of a tenant, or of all tenants together."""

    inputs: int = 0
    posts: int = 0
    ended: int = 0  # analyzed + skipped + deferred + failed + dead_lettered
    analyzed: int = 0
    skipped: int = 0
    deferred: int = 0  # answered "later"; still waiting for money
    forgotten: int = 0  # of deferred: no ledger knows them any more
    failed: int = 0
    dead_lettered: int = 0
    missing: int = 0  # neither ended nor under way
    under_way: int = 0
    events: int = 0
    duplicate_events: int = 0  # one emission twice, or a second final event for one input
    rows_without_event: int = 0
    rows_not_judged: int = 0  # older than the output stream, so nobody knows whether they were announced
    events_without_row: int = 0
    letters: int = 0
    letters_wrong: int = 0  # without an origin, or in only one of the two places
    records_missing: int = 0  # billed calls without a record in S3
    answers_missing: int = 0  # a row names an answer that is not in S3
    documents_missing: int = 0
    graph_missing: int = 0  # a picture of an analyzed post that the graph does not show
    calls: int = 0  # billed by the provider; with the real provider: recorded as paid
    extra_calls: int = 0  # beyond one per tenant, picture and version
    extra_unexplained: int = 0
    extra_tokens: int = 0  # billed for extra_calls
    tokens_billed: int = 0
    tokens_ledger: int = 0
    tokens_lost: int = 0  # of tokens_ledger: charged for calls that were cut off, beyond what was billed for them
    tokens_unexplained: int = 0  # difference between bill and ledger, call by call, without a reason
    tokens_postgres: int = 0  # charged according to token_charges, from which `vision cost` is made
    charges_missing: int = 0  # of a ledger, that token_charges does not have, or with fewer tokens
    charges_extra: int = 0  # in token_charges, that no ledger made, or with more tokens
    charges_under_way: int = 0  # that differ while work goes on
    grants_open: int = 0  # neither settled nor released
    overspend: int = 0  # tokens granted beyond the limit


Number = TypeVar("Number", int, float)


def percentile(values: Sequence[Number], share: float) -> Number:
    """The value that a share (0 to 1) of the values does not exceed; 0 if there are none."""
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))] if ordered else 0


@dataclass(frozen=True)
class Waits:
    """From publication to final event, in milliseconds."""

    count: int = 0
    p50_ms: int = 0
    p95_ms: int = 0
    max_ms: int = 0

    @classmethod
    def of(cls, waits: Iterable[int]) -> Waits:
        known = list(waits)
        return cls(len(known), percentile(known, 0.5), percentile(known, 0.95), max(known, default=0))


@dataclass(frozen=True)
class Peak:
    """The moment when a tenant's ledger came closest to its limit, or exceeded it most, in tokens."""

    spent: int
    reserved: int
    limit: int
    at_ms: int

    @property
    def total(self) -> int:
        return self.spent + self.reserved


@dataclass(frozen=True)
class Difference:
    """A grant whose charge differs from its bill, and the reason.

    `lost`: the worker reported the call as cut off; `given up`: cut off at the last allowed attempt; `ledger lost`: a
    new ledger charged it again; `unexplained`: also a discrepancy.
    """

    grant_id: str
    tenant_id: str
    billed: int
    charged: int
    because: str


@dataclass(frozen=True)
class ChargesOfDay:
    """A UTC day of a tenant on which the charges in Postgres are not those of its ledger, and how many of them differ.

    Tokens are those of the charges that could be compared.
    """

    tenant_id: str
    day: str
    tokens_ledger: int
    tokens_postgres: int
    missing: int
    extra: int
    under_way: int


@dataclass(frozen=True)
class TenantAccount(Figures):
    """A tenant's figures. `extra_because` counts the calls beyond one per picture by their reason."""

    tenant_id: str = ""
    skipped_because: Mapping[str, int] = field(default_factory=dict)
    extra_because: Mapping[str, int] = field(default_factory=dict)
    waits: Waits = field(default_factory=Waits)
    peak: Peak | None = None


@dataclass(frozen=True)
class Account(Figures):
    """All tenants together. `notes` say what could not be checked, or not with certainty; they are no discrepancies."""

    since_ms: int = 0
    taken_ms: int = 0
    seconds: float = 0.0  # how long taking it took
    bill_available: bool = False
    waits: Waits = field(default_factory=Waits)
    skipped_because: Mapping[str, int] = field(default_factory=dict)
    extra_because: Mapping[str, int] = field(default_factory=dict)
    tenants: Mapping[str, TenantAccount] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    charges: list[ChargesOfDay] = field(default_factory=list)
    discrepancies: list[str] = field(default_factory=list)
    discrepancies_total: int = 0  # also those that are only counted in `discrepancies`
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.discrepancies

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"clean": self.clean, **asdict(self)}


def total(tenants: Iterable[TenantAccount]) -> dict[str, int]:
    """The sum of every count over all tenants, by name."""
    accounts = list(tenants)
    return {one.name: sum(getattr(account, one.name) for account in accounts) for one in fields(Figures)}


def merged(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums of counts by name, the largest first."""
    together: Counter[str] = Counter()
    for count in counts:
        together.update(count)
    return dict(together.most_common())


class Complaints:
    """Collects discrepancies by kind, and lists only the first of each kind."""

    def __init__(self) -> None:
        self._told: dict[str, list[str]] = {}
        self._more: Counter[str] = Counter()
        self.total = 0

    def add(self, kind: str, sentence: str) -> None:
        """`kind` is a plural that stands after a number: `inputs without an end`."""
        self.total += 1
        told = self._told.setdefault(kind, [])
        if len(told) < SENTENCES_PER_KIND:
            told.append(sentence)
        else:
            self._more[kind] += 1

    def sentences(self) -> list[str]:
        lines: list[str] = []
        for kind, told in self._told.items():
            lines += told
            if self._more[kind]:
                lines.append(say("and {more} more {kind}", more=self._more[kind], kind=kind))
        return lines
