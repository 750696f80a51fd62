"""Counts per tenant while material is checked, and makes the account from the counts. Does not know the material."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .figures import Account, ChargesOfDay, Complaints, Difference, Peak, TenantAccount, Waits, merged, total


@dataclass
class TenantTally:
    """The counts of one tenant so far; names are those of `figures.Figures`."""

    counts: Counter[str] = field(default_factory=Counter)
    skipped_because: Counter[str] = field(default_factory=Counter)
    extra_because: Counter[str] = field(default_factory=Counter)
    waits: list[int] = field(default_factory=list)
    peak: Peak | None = None

    def account(self, tenant_id: str) -> TenantAccount:
        return TenantAccount(
            **self.counts,
            tenant_id=tenant_id,
            skipped_because=dict(self.skipped_because.most_common()),
            extra_because=dict(self.extra_because.most_common()),
            waits=Waits.of(self.waits),
            peak=self.peak,
        )


class Tally:
    """All tenants' counts, the complaints, and notes about what could not be checked."""

    def __init__(self) -> None:
        self._tenants: dict[str, TenantTally] = {}
        self._complaints = Complaints()
        self.notes: list[str] = []
        self.differences: list[Difference] = []
        self.charges: list[ChargesOfDay] = []

    def of(self, tenant_id: str) -> TenantTally:
        return self._tenants.setdefault(tenant_id, TenantTally())

    def complain(self, kind: str, sentence: str) -> None:
        """`kind` is a plural that stands after a number; the sentence says what is wrong, for whom, where to look."""
        self._complaints.add(kind, sentence)

    def account(self, **about: Any) -> Account:
        """Freeze it. `about` are the fields of `Account` that are not counted here."""
        tenants = {name: tally.account(name) for name, tally in sorted(self._tenants.items())}
        return Account(
            **{**total(tenants.values()), **about},
            waits=Waits.of(wait for tally in self._tenants.values() for wait in tally.waits),
            skipped_because=merged(account.skipped_because for account in tenants.values()),
            extra_because=merged(account.extra_because for account in tenants.values()),
            tenants=tenants,
            differences=self.differences,
            charges=self.charges,
            discrepancies=self._complaints.sentences(),
            discrepancies_total=self._complaints.total,
            notes=self.notes,
        )
