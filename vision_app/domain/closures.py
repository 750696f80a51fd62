"""Grants of a ledger that are closed: what they are called and what is remembered of them. Pure.

A grant is charged once, however often and late its end is reported. Of a settled one the cost is known for good, so it
is remembered only as long as repeats are likely; one that was released or lost may still turn out to be paid, so it is
remembered longer. What is forgotten of the former is never charged again, what is forgotten of the latter always is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from .budget_rows import BudgetRow, ClosedGrant

SETTLED_REMEMBERED = 32
UNSETTLED_REMEMBERED = 64
"""About 70 bytes of the row each."""


def grant_id(tenant_id: str, ledger: str, number: int, offset: int) -> str:
    """The id of the grant given to the task of this number in the queue, by the command at this offset.

    `ledger` differs from birth to birth, so a lost ledger never gives an id twice, whatever the clock does. Number and
    offset are the task's own: a command that is decided again under other rules gives no id to another task.
    """
    return f"{_prefix(tenant_id, ledger)}{number}-{offset}"


def number_of(grant_id: str, tenant_id: str, ledger: str) -> int | None:
    """The number in the queue of a grant of this ledger; None for one of another, which was lost."""
    prefix = _prefix(tenant_id, ledger)
    number = grant_id.removeprefix(prefix).partition("-")[0]
    return int(number) if grant_id.startswith(prefix) and number.isascii() and number.isdigit() else None


def _prefix(tenant_id: str, ledger: str) -> str:
    return f"{hashlib.sha256(tenant_id.encode()).hexdigest()[:8]}-{ledger}-"


class Closures:
    """The closed grants that are remembered, oldest first, and below which numbers some were forgotten.

    `settled_below`, `doubtful_below`: one more than the largest number of a settled or an unsettled grant that was
    forgotten; of a task that was passed over in the queue, which may yet be granted, the latter, too.
    """

    def __init__(self, row: BudgetRow) -> None:
        self._tenant, self._ledger = row.tenant_id, row.ledger
        self.closed = list(row.closed)
        self.settled_below, self.doubtful_below = row.settled_below, row.doubtful_below

    def of(self, grant_id: str) -> ClosedGrant | None:
        return next((grant for grant in self.closed if grant.id == grant_id), None)

    def settled_long_ago(self, grant_id: str) -> bool:
        """Whether a grant that is neither open nor remembered was charged for good.

        False for a grant of a ledger that was lost, and for one that was given by a decision that came to nothing (the
        worker died, and other rules held when the command was decided again): their cost is real.
        """
        number = number_of(grant_id, self._tenant, self._ledger)
        return number is not None and self.doubtful_below <= number < self.settled_below

    def doubt(self, number: int) -> None:
        """From now on grants up to this number, if forgotten, are charged again rather than taken as settled."""
        self.doubtful_below = max(self.doubtful_below, number + 1)

    def add(self, closed: ClosedGrant) -> int:
        """Remember a closure; what it was charged before is not charged again. Returns the tokens to charge."""
        known = self.of(closed.id)
        before = (known.charged or 0) if known else 0
        self.closed = [grant for grant in self.closed if grant.id != closed.id]
        self.closed.append(closed)
        self._forget()
        return max(0, (closed.charged or 0) - before)

    def _forget(self) -> None:
        settled = [grant for grant in self.closed if grant.settled][:-SETTLED_REMEMBERED]
        unsettled = [grant for grant in self.closed if not grant.settled][:-UNSETTLED_REMEMBERED]
        self.settled_below = self._above(self.settled_below, settled)
        self.doubtful_below = self._above(self.doubtful_below, unsettled)
        gone = {grant.id for grant in [*settled, *unsettled]}
        self.closed = [grant for grant in self.closed if grant.id not in gone]

    def _above(self, bound: int, gone: Iterable[ClosedGrant]) -> int:
        numbers = [number_of(grant.id, self._tenant, self._ledger) for grant in gone]
        return max([bound, *(number + 1 for number in numbers if number is not None)])
