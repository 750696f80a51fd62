"""The money side of a tenant's budget: limit, spending, and grants from opening to closing. Pure; no clock, no I/O.

`LedgerDraft` holds those fields of the row while one command changes them. Which task gets a grant, and when, is
decided in `budget_queue.py`; how long closed grants are remembered, in `closures.py`.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from vision_app.messages import Charged, Grant, Load, Lost, MediaTask, Provider, Settle

from .budget_decision import BudgetDecision
from .budget_rows import BudgetRow, BudgetRules, ClosedGrant, OpenGrant, Parked
from .closures import Closures, grant_id
from .moment import Moment, end_of

LOST_AFTER_MS = 24 * 60 * 60 * 1000
"""A grant that has been open for this long is charged, because its end may never be reported."""
KEPT_TASK_BYTES = 4096
"""A larger task is not kept in the row while its grant is open; the row has to stay small."""


class _About(NamedTuple):
    """What a charge was for, as far as it is known."""

    post_id: str | None = None
    sha256: str | None = None
    prompt_key: str | None = None

    @classmethod
    def of(cls, task: MediaTask) -> _About:
        return cls(task.post_id, task.medium.sha256, task.prompt_key)


class LedgerDraft:
    """The money fields of one tenant's row, while one command is applied. Amounts are tokens."""

    __slots__ = (
        "_at",
        "_decision",
        "_ledger",
        "_rules",
        "_tenant_id",
        "closures",
        "day",
        "limit",
        "limit_set",
        "loaded",
        "open",
        "pause_set",
        "paused",
        "reset",
        "spent",
    )

    def __init__(self, row: BudgetRow, at: Moment, rules: BudgetRules, decision: BudgetDecision) -> None:
        self._tenant_id, self._ledger = row.tenant_id, row.ledger
        self._at, self._rules, self._decision = at, rules, decision
        self.day = row.day
        self.loaded = row.loaded
        self.limit = row.limit
        self.limit_set = row.limit_set
        self.reset = row.reset
        self.spent = row.spent
        self.paused = row.paused
        self.pause_set = row.pause_set
        self.open = dict(row.open)
        self.closures = Closures(row, rules.bounds)

    # -- the day and what an operator sets

    def roll_over(self) -> bool:
        """Start the command's day if it is later than the row's. Returns whether a new day began."""
        if self._at.day <= self.day:
            return False
        self.day = self._at.day
        self.spent = 0
        self.reset = False
        return True

    def reset_spending(self) -> None:
        self.spent = 0
        self.reset = True

    def set_limit(self, limit: int | None) -> None:
        self.limit = limit
        self.limit_set = True

    def set_paused(self, paused: bool) -> None:
        self.paused = paused
        self.pause_set = True

    def load(self, command: Load) -> None:
        """Add what Postgres knows of the tenant, once. Values that an operator set since the ledger began are kept."""
        if self.loaded:
            return
        self.loaded = True
        if command.day == self.day and not self.reset:
            self.spent += command.spent
        if not self.limit_set:
            self.limit = command.limit
        if not self.pause_set:
            self.paused = command.paused

    # -- questions about money

    @property
    def effective_limit(self) -> int:
        return self._rules.limit if self.limit is None else self.limit

    @property
    def reserved(self) -> int:
        return sum(grant.estimate for grant in self.open.values())

    @property
    def reset_at(self) -> datetime:
        """When the row's day ends. The command's day may be earlier, because a broker's clock may step back."""
        return end_of(self.day)

    @property
    def has_free_slot(self) -> bool:
        return len(self.open) < self._rules.max_concurrent

    def can_reserve(self, entry: Parked) -> bool:
        """Whether the estimate fits into what is neither spent nor reserved."""
        return self.spent + self.reserved + entry.estimate <= self.effective_limit

    def is_exhausted_for(self, entry: Parked) -> bool:
        """Whether the estimate no longer fits today, even if every open grant costs nothing."""
        return self.spent + entry.estimate > self.effective_limit

    def exceeds_limit(self, entry: Parked) -> bool:
        """Whether the estimate is larger than the limit of a whole day."""
        return entry.estimate > self.effective_limit

    def needs_higher_limit(self, entry: Parked) -> bool:
        """Whether the estimate is larger than the limit of a whole day and OCR is not allowed instead."""
        return self.exceeds_limit(entry) and not self.may_use_ocr(entry)

    def may_use_ocr(self, entry: Parked) -> bool:
        """Whether policy and medium allow OCR. A repair is never done by OCR."""
        return self._rules.ocr_fallback and entry.task.ocr_allowed and entry.purpose == "answer"

    # -- grants

    def open_grant(self, number: int, entry: Parked, provider: Provider) -> None:
        """Reserve the estimate and send the grant to the task with this number in the queue. OCR reserves nothing."""
        name = grant_id(self._tenant_id, self._ledger, number, self._at.offset)
        estimate = entry.estimate if provider == "gigachat" else 0
        kept = entry if len(entry.encode()) <= KEPT_TASK_BYTES else None
        self.open[name] = OpenGrant(estimate=estimate, provider=provider, since_ms=self._at.time_ms, waiting=kept)
        task = entry.task.at(granted=self._at.time_ms)
        self._decision.send.append(
            Grant(id=name, provider=provider, purpose=entry.purpose, estimate=estimate, task=task)
        )

    def settle(self, command: Settle) -> None:
        """Charge a grant once. If its call was charged as lost and cost more, charge the difference."""
        grant_id, tokens = command.grant_id, command.tokens
        if self._is_settled_and_forgotten(grant_id):
            self._decision.observe("late_settle", grant_id=grant_id, tokens=tokens)
            return
        known = self.closures.of(grant_id)
        charged = max(tokens, (known.charged or 0) if known else 0)
        if known and known.settled and known.charged == charged:
            self._decision.observe("duplicate", grant_id=grant_id)
            return
        requeued = bool(known and known.requeued)
        about = _About(command.post_id, command.sha256, command.prompt_key)
        self._close(ClosedGrant(id=grant_id, charged=charged, requeued=requeued, settled=True), about)

    def release(self, grant_id: str) -> None:
        """Close an open grant that cost nothing. Only an OCR grant is then settled: a call may still be reported."""
        if grant_id in self.open:
            is_ocr = self.open[grant_id].provider == "ocr_fallback"
            self._close(ClosedGrant(id=grant_id, charged=None, settled=is_ocr))

    def charge_lost(self, command: Lost) -> bool:
        """Charge the estimate of a call that was cut off. Returns whether its task has to be queued again."""
        if self._is_settled_and_forgotten(command.grant_id):
            self._decision.observe("late_lost", grant_id=command.grant_id)
            return True
        known = self.closures.of(command.grant_id)
        if known and known.requeued:
            self._decision.observe("duplicate", grant_id=command.grant_id)
            return False
        estimate = self.open[command.grant_id].estimate if command.grant_id in self.open else command.estimate
        already_charged = known.charged if known else None
        charged = estimate if already_charged is None else already_charged
        settled = bool(known and known.settled)
        closed = ClosedGrant(id=command.grant_id, charged=charged, requeued=True, settled=settled)
        self._close(closed, _About.of(command.task), cut_off=True)
        self._decision.observe("lost", grant_id=command.grant_id, tokens=estimate)
        return True

    def stale_grants(self) -> list[str]:
        """The ids of the grants that have been open for `LOST_AFTER_MS` or longer."""
        return [name for name, grant in self.open.items() if self._at.time_ms - grant.since_ms >= LOST_AFTER_MS]

    def expire_grant(self, grant_id: str) -> Parked | None:
        """Charge the estimate of an open grant. Returns the entry to queue again; None if the row does not have it."""
        grant = self.open[grant_id]
        closed = ClosedGrant(id=grant_id, charged=grant.estimate, requeued=grant.waiting is not None)
        self._close(closed, _About.of(grant.waiting.task) if grant.waiting else _About(), cut_off=True)
        self._decision.observe("forgotten", grant_id=grant_id, tokens=grant.estimate)
        return grant.waiting

    def _is_settled_and_forgotten(self, grant_id: str) -> bool:
        """Whether the grant was charged for good so long ago that the row no longer remembers it."""
        known = grant_id in self.open or self.closures.of(grant_id) is not None
        return not known and self.closures.settled_long_ago(grant_id)

    def _close(self, closed: ClosedGrant, about: _About = _About(), *, cut_off: bool = False) -> None:  # noqa: B008 - immutable
        """Close a grant, and charge what was not charged before. Tell the owner's accounts of every charge."""
        self.open.pop(closed.id, None)
        charge = self.closures.add(closed)
        self.spent += charge
        if charge:
            self._decision.charges.append(
                Charged(
                    tenant_id=self._tenant_id,
                    ledger=self._ledger,
                    grant_id=closed.id,
                    tokens=closed.charged or 0,
                    at_ms=self._at.time_ms,
                    cut_off=cut_off,
                    post_id=about.post_id,
                    sha256=about.sha256,
                    prompt_key=about.prompt_key,
                )
            )
