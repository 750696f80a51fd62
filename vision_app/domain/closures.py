"""The closed grants of a ledger: their ids and what is remembered of them. Pure.

A grant is charged once, even if its end is reported late or repeatedly. The cost of a settled grant is final, so it is
remembered only as long as repeats are likely. A released or lost grant may still turn out to be billed, so it is
remembered longer. If its end is reported again, a forgotten settled grant is not charged, but a forgotten unsettled
grant is. If the bounds do not tell which it was, it is charged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from .budget_rows import Bounds, BudgetRow, ClosedGrant


def grant_id(tenant_id: str, ledger: str, number: int, offset: int) -> str:
    """The id of the grant that the command at `offset` gives to the task with this number in the queue.

    Every new ledger has another name, so an id is never given twice, even if a ledger was lost or a clock stepped back.
    Number and offset belong to one task, so a command decided again under other rules gives its id to no other task.
    """
    return f"{_prefix(tenant_id, ledger)}{number}-{offset}"


def number_of(grant_id: str, tenant_id: str, ledger: str) -> int | None:
    """The number in the queue of a grant of this ledger; None for a grant of an earlier, lost ledger."""
    prefix = _prefix(tenant_id, ledger)
    number = grant_id.removeprefix(prefix).partition("-")[0]
    return int(number) if grant_id.startswith(prefix) and number.isascii() and number.isdigit() else None


def _prefix(tenant_id: str, ledger: str) -> str:
    return f"{hashlib.sha256(tenant_id.encode()).hexdigest()[:8]}-{ledger}-"


class Closures:
    """The remembered closed grants, oldest first, and the bounds of the forgotten ones.

    `settled_below` is one more than the largest number of a forgotten settled grant. `doubtful_below` is one more than
    the largest number of a forgotten unsettled grant or of a task that was passed over, which may still be granted.
    """

    def __init__(self, row: BudgetRow, bounds: Bounds) -> None:
        self._bounds = bounds
        self._tenant, self._ledger = row.tenant_id, row.ledger
        self.closed = list(row.closed)
        self.settled_below, self.doubtful_below = row.settled_below, row.doubtful_below

    def of(self, grant_id: str) -> ClosedGrant | None:
        return next((grant for grant in self.closed if grant.id == grant_id), None)

    def settled_long_ago(self, grant_id: str) -> bool:
        """Whether a grant that is neither open nor remembered was charged finally.

        False for a grant of a lost ledger. False also for a grant of a decision that was never stored: the worker died,
        and the command was decided again under other rules. The cost of both was not charged yet.
        """
        number = number_of(grant_id, self._tenant, self._ledger)
        return number is not None and self.doubtful_below <= number < self.settled_below

    def doubt(self, number: int) -> None:
        """From now on charge a forgotten grant up to this number again, instead of taking it as settled."""
        self.doubtful_below = max(self.doubtful_below, number + 1)

    def add(self, closed: ClosedGrant) -> int:
        """Remember a closed grant. Returns the tokens to charge: only those not charged before."""
        known = self.of(closed.id)
        before = (known.charged or 0) if known else 0
        self.closed = [grant for grant in self.closed if grant.id != closed.id]
        self.closed.append(closed)
        self._forget()
        return max(0, (closed.charged or 0) - before)

    def _forget(self) -> None:
        settled = [grant for grant in self.closed if grant.settled][: -self._bounds.settled_remembered]
        unsettled = [grant for grant in self.closed if not grant.settled][: -self._bounds.unsettled_remembered]
        self.settled_below = self._above(self.settled_below, settled)
        self.doubtful_below = self._above(self.doubtful_below, unsettled)
        gone = {grant.id for grant in [*settled, *unsettled]}
        self.closed = [grant for grant in self.closed if grant.id not in gone]

    def _above(self, bound: int, gone: Iterable[ClosedGrant]) -> int:
        numbers = [number_of(grant.id, self._tenant, self._ledger) for grant in gone]
        return max([bound, *(number + 1 for number in numbers if number is not None)])
