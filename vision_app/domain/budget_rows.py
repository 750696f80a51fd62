"""The row of a tenant's budget, the rules of the deployment, and the view for operators. `budget.py` changes a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from vision_app.messages import MediaTask, Message, Provider, Purpose

from . import gaps
from .moment import Applied, Moment, end_of


@dataclass(frozen=True)
class Bounds:
    """How much one command does, and how much a row remembers.

    `announced_per_command`: tasks that one command answers at most; a `Wake` or `Drop` to itself goes on with the rest.
    `settled_remembered`, `unsettled_remembered`: closed grants, about 70 bytes of the row each.
    """

    announced_per_command: int = 100
    settled_remembered: int = 32
    unsettled_remembered: int = 64


@dataclass(frozen=True)
class BudgetRules:
    """What the deployment and the policy allow; `limit` is tokens per tenant and UTC day."""

    limit: int
    max_concurrent: int = 3
    max_queue: int = 1000
    ocr_fallback: bool = False  # the policy wants OCR when the money is gone, and OCR is available
    bounds: Bounds = field(default_factory=Bounds)


class Parked(Message):
    """A task that waits for money or for a slot."""

    task: MediaTask
    estimate: int
    purpose: Purpose = "answer"
    since_ms: int


class OpenGrant(Message):
    """`waiting` is queued again if the grant's end is never reported; None if it is too large for the row."""

    estimate: int
    provider: Provider
    since_ms: int
    waiting: Parked | None = None


class ClosedGrant(Message):
    """`charged` is tokens, None when it was released; `requeued`: a repeated Lost must not queue the task again.

    `settled`: its cost was reported, so that it is final.
    """

    id: str
    charged: int | None
    requeued: bool = False
    settled: bool = False


class BudgetRow(Message):
    """A tenant's ledger, in tokens.

    `ledger` is its name, different from the tenant's earlier ledgers. `first` and `next` bound the queue's numbers;
    `holes` are numbers of entries that left out of turn. `told` is the next number to tell that the money is gone;
    `told_limit` and `told_ocr` are the rules at that time. `passed` is the next number to serve: waiting entries before
    it exceed the limit of a whole day. `limit_set`, `reset`, `pause_set`: an operator set it, so a later `Load` does
    not change it. `settled_below` and `doubtful_below` bound the memory of closed grants (`closures.py`).
    """

    tenant_id: str
    born_ms: int
    ledger: str = ""
    applied: Applied
    day: str
    loaded: bool = False
    limit: int | None = None
    limit_set: bool = False
    reset: bool = False
    spent: int = 0
    paused: bool = False
    pause_set: bool = False
    open: dict[str, OpenGrant] = Field(default_factory=dict)
    closed: list[ClosedGrant] = Field(default_factory=list)
    settled_below: int = 0
    doubtful_below: int = 0
    first: int = 0
    next: int = 0
    told: int = 0
    passed: int = 0
    holes: list[tuple[int, int]] = Field(default_factory=list)
    told_limit: int | None = None
    told_ocr: bool = False

    @property
    def reserved(self) -> int:
        return sum(grant.estimate for grant in self.open.values())

    @property
    def waiting(self) -> int:
        return self.next - self.first - gaps.size(self.holes)


def outlived(row: BudgetRow, rules: BudgetRules) -> bool:
    """Whether limit or OCR changed since the row was written: then waiting tasks may go on or get another answer."""
    return (row.told_limit, row.told_ocr) != (effective_limit(row, rules), rules.ocr_fallback)


def effective_limit(row: BudgetRow, rules: BudgetRules) -> int:
    return rules.limit if row.limit is None else row.limit


def view(row: BudgetRow, at: Moment, rules: BudgetRules) -> Mapping[str, Any]:
    """What an operator sees. After midnight it shows the new day, even if no command has rolled the row over yet."""
    spent = row.spent if row.day >= at.day else 0
    limit = effective_limit(row, rules)
    return {
        "tenant_id": row.tenant_id,
        "day": max(row.day, at.day),
        "limit": limit,
        "default_limit": row.limit is None,
        "spent": spent,
        "reserved": row.reserved,
        "remaining": max(0, limit - spent - row.reserved),
        "waiting": row.waiting,
        "open_grants": len(row.open),
        "paused": row.paused,
        "loaded": row.loaded,
        "reset_at": end_of(max(row.day, at.day)).isoformat(),
    }


def queue(row: BudgetRow, start: int, count: int) -> list[int]:
    """The numbers of the first `count` waiting tasks from `start` on."""
    numbers: list[int] = []
    number = gaps.past(row.holes, max(start, row.first))
    while number < row.next and len(numbers) < count:
        numbers.append(number)
        number = gaps.past(row.holes, number + 1)
    return numbers
