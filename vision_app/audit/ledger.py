"""Checks the tenants' ledgers version by version: every token is accounted for and the limit always held. Pure.

A row may change only as its own entries explain: spent rises by the charges of the grants closed in that step, falls to
zero at a reset or a new day, and takes the value from Postgres when it is loaded. Compaction may have removed versions;
the versions before and after such a gap are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from vision_app.texts import say

from .figures import Peak
from .material import LedgerVersion


@dataclass(frozen=True, slots=True)
class SeenCharge:
    """The highest charge of a grant in one ledger, and when it was first seen; `exact`: it was made then."""

    tokens: int
    at_ms: int
    exact: bool


@dataclass
class LedgerBook:
    """The result of one tenant's versions. `older`: how many came after a newer one; they do not count.

    `charged`: the highest charge seen for each grant. A ledger that was lost (its successor is born later) may have
    charged a grant that is charged again by its successor; `before_loss` is what the lost ones charged. `by_ledger` has
    the charges by ledger (its name) and grant, `names` the ledgers that were seen. Of versions from before `since_ms`
    (epoch milliseconds) only the charges are read; their faults are not part of this account.
    """

    since_ms: int = 0
    charged: dict[str, int] = field(default_factory=dict)
    before_loss: dict[str, int] = field(default_factory=dict)
    by_ledger: dict[tuple[str, str], SeenCharge] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    released: set[str] = field(default_factory=set)
    peak: Peak | None = None
    overspend: int = 0
    versions: int = 0
    born_ms: int | None = None  # when the earliest ledger seen was born
    gaps: int = 0
    older: int = 0
    faults: list[str] = field(default_factory=list)
    last: LedgerVersion | None = None

    def add(self, version: LedgerVersion) -> None:
        if self.last and _older(version, self.last):
            self.older += 1
            return
        if self.last and self.last.birth != version.birth:
            self._begin_anew()
        before = None if version.gap or version.at_ms < self.since_ms else self.last
        self.gaps += bool(version.gap and (self.versions or version.closed))  # a new row has closed nothing
        self.versions += 1
        if self.born_ms is None:
            self.born_ms = int(version.birth.partition("/")[0])
        fault = before is not None and self._change(before, version)
        if version.at_ms >= self.since_ms:
            self._limit(before, version, fault)
        for grant, charge in version.closed.items():
            if charge is None:
                self.released.add(grant)
            else:
                self.charged[grant] = max(charge, self.charged.get(grant, 0))
                self._see(version, grant, charge)
        self.names.add(version.ledger)
        self.last = version

    def total(self, grant: str) -> int | None:
        """The total charge of a grant; None if no version shows a charge."""
        if grant not in self.charged and grant not in self.before_loss:
            return None
        return self.charged.get(grant, 0) + self.before_loss.get(grant, 0)

    def _see(self, version: LedgerVersion, grant: str, charge: int) -> None:
        key = (version.ledger, grant)
        known = self.by_ledger.get(key)
        if known is None:
            self.by_ledger[key] = SeenCharge(charge, version.at_ms, exact=not version.gap)
        elif charge > known.tokens:
            self.by_ledger[key] = replace(known, tokens=charge)

    def _begin_anew(self) -> None:
        for grant, charge in self.charged.items():
            self.before_loss[grant] = self.before_loss.get(grant, 0) + charge
        self.charged, self.last = {}, None

    def _change(self, before: LedgerVersion, now: LedgerVersion) -> bool:
        """Whether spent changed in a way that the row itself does not explain."""
        charged = sum((charge or 0) - (before.closed.get(grant) or 0) for grant, charge in now.closed.items())
        base = before.spent if now.day == before.day else 0
        taken_over = now.loaded and not before.loaded and now.spent >= base + charged
        if now.spent == base + charged or now.spent == charged or taken_over:
            return False
        self.faults.append(
            say(
                "at {place} spent went from {before} to {now}, but the grants closed there cost {charged}",
                place=now.place,
                before=before.spent,
                now=now.spent,
                charged=charged,
            )
        )
        return True

    def _limit(self, before: LedgerVersion | None, now: LedgerVersion, fault: bool) -> None:
        peak = Peak(now.spent, now.reserved, now.limit, now.at_ms)
        over = peak.total - peak.limit
        if self.peak is None or over > self.peak.total - self.peak.limit:
            self.peak = peak
        if before is None or over <= 0:
            return
        given = sum(estimate for grant, estimate in now.open.items() if grant not in before.open)
        if given or fault:
            self.overspend = max(self.overspend, over)
            why = say("{given} tokens were granted", given=given) if given else say("spent rose")
            self.faults.append(
                say(
                    "at {place} {why} although {total} of {limit} tokens were taken then",
                    place=now.place,
                    why=why,
                    total=peak.total,
                    limit=peak.limit,
                )
            )


def _older(version: LedgerVersion, last: LedgerVersion) -> bool:
    """Whether a worker wrote it late, after it had lost the partition. The recovery of the ledger skips it, too."""
    same = version.birth == last.birth and version.applied != last.applied
    return same and version.applied[0] <= last.applied[0] and version.applied[1] <= last.applied[1]


class Ledgers:
    """All tenants' books; versions are added one by one, in the order of the changelog."""

    def __init__(self, since_ms: int = 0) -> None:
        self._since_ms = since_ms
        self._books: dict[str, LedgerBook] = {}

    def add(self, version: LedgerVersion) -> None:
        self._books.setdefault(version.tenant_id, LedgerBook(self._since_ms)).add(version)

    def __getitem__(self, tenant_id: str) -> LedgerBook:
        """A tenant without versions has an empty book."""
        return self._books.get(tenant_id) or LedgerBook()

    def __iter__(self) -> Iterator[str]:
        return iter(self._books)

    @property
    def born(self) -> dict[str, int]:
        """When each tenant's ledger began, in epoch milliseconds."""
        lasts = {tenant: book.last for tenant, book in self._books.items() if book.last}
        return {tenant: int(last.birth.partition("/")[0]) for tenant, last in lasts.items() if last.birth[:1].isdigit()}

    @property
    def waiting(self) -> frozenset[str]:
        """Tenants with tasks in the queue."""
        return frozenset(tenant for tenant, book in self._books.items() if book.last and book.last.waiting)
