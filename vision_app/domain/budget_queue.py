"""The queue side of a tenant's budget: which tasks wait, which is granted next, what posts are told. Pure; no I/O.

`QueueDraft` holds those fields of the row while one command changes them. It asks the ledger (`budget_ledger.py`)
whether there is money. The entries themselves are stored outside of the row, one per number.

The queue's numbers, from the first to the next free one:

    first <= passed   entries before `passed` exceed the limit of a whole day, so serving goes on behind them
    first <= told     the posts of entries before `told` know that the money is gone
    holes             numbers whose entries left out of turn
"""

from __future__ import annotations

from vision_app.messages import Deferred, Drop, MediaTask, Purpose, Skipped, Wake

from . import gaps
from .budget_decision import BudgetDecision, ParkedView
from .budget_ledger import LedgerDraft
from .budget_rows import BudgetRow, BudgetRules, Parked
from .moment import Moment


class QueueDraft:
    """The queue fields of one tenant's row, while one command is applied."""

    __slots__ = (
        "_at",
        "_decision",
        "_ledger",
        "_notified",
        "_rules",
        "_stored",
        "_tenant_id",
        "first",
        "holes",
        "next",
        "passed",
        "told",
    )

    def __init__(
        self,
        row: BudgetRow,
        at: Moment,
        rules: BudgetRules,
        stored: ParkedView,
        ledger: LedgerDraft,
        decision: BudgetDecision,
    ) -> None:
        self._tenant_id, self._at, self._rules = row.tenant_id, at, rules
        self._stored, self._ledger, self._decision = stored, ledger, decision
        self._notified = 0  # tasks that this command deferred or gave OCR because the money is gone
        self.first = row.first
        self.next = row.next
        self.told = row.told
        self.passed = row.passed
        self.holes = list(row.holes)

    # -- the end of the queue

    def enqueue(self, task: MediaTask, estimate: int, purpose: Purpose) -> None:
        """Park the task at the end, or answer it as skipped if the queue is full.

        Tasks that need a higher limit may fill only half of the queue, so that room is left for the others.
        """
        entry = Parked(task=task, estimate=estimate, purpose=purpose, since_ms=self._at.time_ms)
        only_half = self._ledger.loaded and self._ledger.needs_higher_limit(entry)
        room = self._rules.max_queue // 2 if only_half else self._rules.max_queue
        if self.next - self.first - gaps.size(self.holes) >= room:
            self._decision.observe("blocked", reason="queue_full")
            self._answer(entry, Skipped(reason="budget", details={"queue_full": True, "retryable": True}))
            return
        self._decision.park[self.next] = entry
        self.next += 1

    # -- the head of the queue

    def serve(self) -> None:
        """Grant from the head on while money and slots last. Then tell the posts of the others if the money is gone."""
        self._grant_from_head()
        self._announce_exhaustion()

    def reset_notifications(self) -> None:
        """Try every entry again from the first on, and tell its post again if the money is gone."""
        self.told = self.passed = self.first

    def _grant_from_head(self) -> None:
        while (number := self._head()) < self.next:
            entry = self._entry(number)
            if entry is None:
                self._decision.observe("missing_parked", number=number)
                self._skip(number)
            elif not self._serve_head(number, entry):
                break

    def _head(self) -> int:
        """The number that is served next. Entries that wait before it exceed the limit of a whole day."""
        return gaps.past(self.holes, max(self.first, self.passed))

    def _serve_head(self, number: int, entry: Parked) -> bool:
        """Grant the entry or pass over it. Returns False if it has to wait."""
        if self._ledger.needs_higher_limit(entry):
            return self._pass_over(number, entry)
        use_ocr = self._ledger.exceeds_limit(entry)
        if not self._ledger.has_free_slot or not (use_ocr or self._ledger.can_reserve(entry)):
            return False
        self._ledger.open_grant(number, entry, "ocr_fallback" if use_ocr else "gigachat")
        self._remove(number)
        return True

    def _pass_over(self, number: int, entry: Parked) -> bool:
        """Defer the entry, unless its post was told already, and serve later entries first.

        Returns False if this command has answered as many as it may.
        """
        if number >= self.told:
            if self._notified >= self._rules.bounds.announced_per_command:
                return False
            self._defer(entry)
            self.told = number + 1
            self._notified += 1
        self.passed = number + 1
        self._ledger.closures.doubt(number)  # its grant will come after those of larger numbers
        return True

    # -- when the money is gone

    def _announce_exhaustion(self) -> None:
        """If spending leaves no room for the head, give each entry OCR or tell its post when it may go on."""
        self.told = gaps.past(self.holes, self.told)
        while self.told < self.next and self._is_exhausted():
            number = self.told
            if self._notified >= self._rules.bounds.announced_per_command:
                self._decision.send.append(Wake(tenant_id=self._tenant_id))
                break
            entry = self._entry(number)
            if entry is not None and not self._give_ocr_or_defer(number, entry):
                break
            self.told = gaps.past(self.holes, number + 1)
            self._grant_from_head()  # if the head got OCR, later entries may fit
            self._notified += 1
        if self._notified:
            self._decision.observe("exhausted", tasks=self._notified, reset_at=self._ledger.reset_at.isoformat())

    def _is_exhausted(self) -> bool:
        head = self._entry(number) if (number := self._head()) < self.next else None
        return head is not None and self._ledger.is_exhausted_for(head)

    def _give_ocr_or_defer(self, number: int, entry: Parked) -> bool:
        """Returns False if OCR is allowed but no slot is free."""
        if not self._ledger.may_use_ocr(entry):
            self._defer(entry)
            return True
        if not self._ledger.has_free_slot:
            return False
        self._decision.observe("blocked", reason="daily_limit")  # the limit blocks the provider, not OCR
        self._ledger.open_grant(number, entry, "ocr_fallback")
        self._remove(number)
        return True

    def _defer(self, entry: Parked) -> None:
        """Tell the post when the entry may go on. It keeps its place."""
        self._decision.observe("blocked", reason="daily_limit")
        spent, limit = self._ledger.spent, self._ledger.effective_limit
        details = {"spent": spent, "limit": limit, "estimated_tokens": entry.estimate}
        self._answer(entry, Deferred(reason="budget", retry_at=self._ledger.reset_at, details=details))

    # -- what an operator drops

    def drop(self, first: int, before: int | None) -> None:
        """Answer the entries numbered `first` ≤ n < `before` as skipped; None: to the end of the queue.

        One command drops `announced_per_command` of them; a `Drop` to itself goes on with the rest.
        """
        end = self.next if before is None else min(self.next, before)
        number = gaps.past(self.holes, max(first, self.first))
        for _ in range(self._rules.bounds.announced_per_command):
            if number >= end:
                return
            self._drop_one(number)
            number = gaps.past(self.holes, number)
        if number < end:
            self._decision.send.append(Drop(tenant_id=self._tenant_id, first=number, before=end))

    def _drop_one(self, number: int) -> None:
        entry = self._entry(number)
        if entry is None:
            self._decision.observe("missing_parked", number=number)
            self._skip(number)
        else:
            self._answer(entry, Skipped(reason="budget", details={"dropped": True, "retryable": True}))
            self._remove(number)

    # -- entries and numbers

    def _entry(self, number: int) -> Parked | None:
        return self._decision.park.get(number) or self._stored(number)

    def _answer(self, entry: Parked, outcome: Skipped | Deferred) -> None:
        self._decision.send.append(entry.task.outcome(outcome))

    def _remove(self, number: int) -> None:
        """Take the entry out of the queue. One that this command parked is not stored yet and needs no deletion."""
        if self._decision.park.pop(number, None) is None:
            self._decision.unpark.append(number)
        self._skip(number)

    def _skip(self, number: int) -> None:
        """Mark the number as a hole and move the queue's bounds past the holes."""
        self.holes = gaps.with_gap(self.holes, number)
        self.first = gaps.past(self.holes, self.first)
        self.told = max(self.told, self.first)
        self.passed = max(self.passed, self.first)
