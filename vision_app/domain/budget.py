"""What a tenant may spend: reservations, the queue of waiting tasks, and the day's ledger. Pure; no clock, no I/O.

`decide` takes the tenant's row and one command and returns the new row, what to send, and what to put into or take
out of the table of parked tasks. After every command these rules hold:

* nothing is granted while spent + reserved + estimate would exceed the limit;
* at most `max_concurrent` grants are open, OCR grants included;
* a grant is charged once, also when messages are repeated; an unknown cost is charged at the estimate;
* the queue is first in, first out; no parked task is forgotten. A task whose estimate exceeds the limit of a whole day
  is deferred and passed over. It keeps its place and is granted once the limit allows it.

The money side is in `budget_ledger.py`, the queue side in `budget_queue.py`, the row's fields in `budget_rows.py`.
"""

from __future__ import annotations

from vision_app.messages import (
    BudgetCommand,
    Drop,
    Load,
    Lost,
    Pause,
    Release,
    Reserve,
    Reset,
    Resume,
    SetLimit,
    Settle,
    Wake,
)

from . import gaps
from .budget_decision import BudgetDecision, ParkedView
from .budget_ledger import LOST_AFTER_MS, LedgerDraft
from .budget_queue import QueueDraft
from .budget_rows import Bounds, BudgetRow, BudgetRules, Parked, effective_limit, outlived, queue, view
from .moment import Applied, Moment

__all__ = [
    "LOST_AFTER_MS",
    "Bounds",
    "BudgetDecision",
    "BudgetRow",
    "BudgetRules",
    "Parked",
    "decide",
    "effective_limit",
    "outlived",
    "queue",
    "view",
]


def decide(
    row: BudgetRow | None, command: BudgetCommand, at: Moment, rules: BudgetRules, parked: ParkedView, ledger: str = "0"
) -> BudgetDecision:
    """Apply one command of the tenant. `parked` looks up a waiting task by its number.

    `ledger` is the name of the ledger if this command opens one. It must differ from the names of all earlier ledgers.
    No grant is given under it until the row that holds it is stored.
    """
    if row is None:
        if isinstance(command, Wake):
            return BudgetDecision(None)
        row = BudgetRow(tenant_id=command.tenant_id, born_ms=at.time_ms, ledger=ledger, applied=Applied(), day=at.day)
    if row.applied.covers(at):
        return BudgetDecision(None, observed=[("duplicate", {})])
    decision = BudgetDecision(None)
    ledger_draft = LedgerDraft(row, at, rules, decision)
    queue_draft = QueueDraft(row, at, rules, parked, ledger_draft, decision)
    if ledger_draft.roll_over() or outlived(row, rules):
        queue_draft.reset_notifications()
    _apply(command, ledger_draft, queue_draft)
    if ledger_draft.loaded and not ledger_draft.paused:
        queue_draft.serve()
    decision.load = not ledger_draft.loaded
    decision.row = _new_row(row, at, rules, ledger_draft, queue_draft)
    return decision


def _apply(command: BudgetCommand, ledger_draft: LedgerDraft, queue_draft: QueueDraft) -> None:
    match command:
        case Reserve():
            queue_draft.enqueue(command.task, command.estimate, command.purpose)
        case Settle():
            ledger_draft.settle(command)
        case Lost():
            if ledger_draft.charge_lost(command):
                queue_draft.enqueue(command.task, command.estimate, command.purpose)
        case Release():
            ledger_draft.release(command.grant_id)
        case Reset():
            ledger_draft.reset_spending()
            queue_draft.reset_notifications()
        case SetLimit():
            ledger_draft.set_limit(command.limit)
            queue_draft.reset_notifications()
        case Pause() | Resume():
            ledger_draft.set_paused(isinstance(command, Pause))
        case Drop():
            queue_draft.drop(command.first, command.before)
        case Load():
            ledger_draft.load(command)
        case Wake():
            _expire_stale_grants(ledger_draft, queue_draft)
        case _:
            raise TypeError(f"no budget command: {type(command).__name__}")


def _expire_stale_grants(ledger_draft: LedgerDraft, queue_draft: QueueDraft) -> None:
    """Charge each grant that has been open for a day and queue its task again. Its end may never be reported."""
    for grant_id in ledger_draft.stale_grants():
        entry = ledger_draft.expire_grant(grant_id)
        if entry is not None:
            queue_draft.enqueue(entry.task, entry.estimate, entry.purpose)


def _new_row(
    row: BudgetRow, at: Moment, rules: BudgetRules, ledger_draft: LedgerDraft, queue_draft: QueueDraft
) -> BudgetRow:
    """The row after the command. It sets every field: a field left out would fall back to its default."""
    return BudgetRow(
        tenant_id=row.tenant_id,
        born_ms=row.born_ms,
        ledger=row.ledger,
        applied=row.applied.then(at),
        day=ledger_draft.day,
        loaded=ledger_draft.loaded,
        limit=ledger_draft.limit,
        limit_set=ledger_draft.limit_set,
        reset=ledger_draft.reset,
        spent=ledger_draft.spent,
        paused=ledger_draft.paused,
        pause_set=ledger_draft.pause_set,
        open=ledger_draft.open,
        closed=ledger_draft.closures.closed,
        settled_below=ledger_draft.closures.settled_below,
        doubtful_below=ledger_draft.closures.doubtful_below,
        first=queue_draft.first,
        next=queue_draft.next,
        told=queue_draft.told,
        passed=queue_draft.passed,
        holes=gaps.above(queue_draft.holes, queue_draft.first),
        told_limit=ledger_draft.effective_limit,
        told_ocr=rules.ocr_fallback,
    )
