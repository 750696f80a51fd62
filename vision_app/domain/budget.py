"""What a tenant may spend: reservations, the queue of those who wait, and the day's ledger. Pure; no clock, no I/O.

`decide` takes the tenant's row and one command and returns the new row, what to send, and what to put into or take
out of the table of parked tasks. The rules that hold after every command, whatever came before:

* nothing is granted while spent + reserved + estimate would exceed the limit;
* at most `max_concurrent` grants are open, OCR grants included;
* a grant is charged once, whatever is repeated; what cannot be known is charged as the estimate;
* the queue is first in, first out; no parked task is forgotten. One whose estimate exceeds the whole day's limit is
  deferred and passed over: it keeps its place and goes on once the limit allows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vision_app.messages import (
    Deferred,
    Drop,
    Grant,
    Load,
    Lost,
    MediaTask,
    Message,
    Pause,
    Provider,
    Purpose,
    Release,
    Reserve,
    Reset,
    Resume,
    SetLimit,
    Settle,
    Skipped,
    Wake,
)

from . import gaps
from .budget_rows import BudgetRow, ClosedGrant, OpenGrant, Parked, Rules, effective_limit, outlived, queue, view
from .closures import Closures, grant_id
from .moment import Applied, Moment, end_of

__all__ = ["BudgetRow", "Decision", "Parked", "Rules", "decide", "effective_limit", "outlived", "queue", "view"]

ANNOUNCED_PER_COMMAND = 100
"""How many waiting tasks are told at once that the money is gone; a Wake to itself goes on with the rest."""
LOST_AFTER_MS = 24 * 60 * 60 * 1000
KEPT_TASK_BYTES = 4096
"""A larger task is not kept in the row while its grant is open; the row has to stay small."""


@dataclass
class Decision:
    """What one command leads to. `row` None: nothing to store. Observations are for metrics and the log."""

    row: BudgetRow | None
    send: list[Message] = field(default_factory=list)
    park: dict[int, Parked] = field(default_factory=dict)
    unpark: list[int] = field(default_factory=list)
    load: bool = False
    observed: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


ParkedView = Callable[[int], Parked | None]


def decide(
    row: BudgetRow | None, command: Any, at: Moment, rules: Rules, parked: ParkedView, ledger: str = "0"
) -> Decision:
    """Apply one command of the tenant. `parked` looks up a waiting task by its number.

    `ledger` is the name of the ledger if this command opens one. It has to differ from those of all before it; no
    grant is given under it until the row that holds it is stored.
    """
    if row is None:
        if isinstance(command, Wake):
            return Decision(None)
        row = BudgetRow(tenant_id=command.tenant_id, born_ms=at.time_ms, ledger=ledger, applied=Applied(), day=at.day)
    if row.applied.covers(at):
        return Decision(None, observed=[("duplicate", {})])
    work = _Ledger(row, at, rules, parked)
    work.roll_over()
    work.follow_rules()
    work.apply(command)
    work.serve_queue()
    return work.decision()


class _Ledger:
    """One command's worth of work on a row; lives for one call of `decide`."""

    def __init__(self, row: BudgetRow, at: Moment, rules: Rules, parked: ParkedView) -> None:
        self.at, self.rules, self._stored = at, rules, parked
        self.fields: dict[str, Any] = {name: getattr(row, name) for name in BudgetRow.model_fields}
        self.row = row
        self.open = dict(row.open)
        self.closures = Closures(row)
        self.holes = list(row.holes)
        self.announced = 0  # by this command
        self.out = Decision(None)

    # -- the command

    def apply(self, command: Any) -> None:
        match command:
            case Reserve():
                self.enqueue(command.task, command.estimate, command.purpose)
            case Settle():
                self.settle(command.grant_id, command.tokens)
            case Lost():
                self.lose(command)
            case Release():
                self.release(command.grant_id)
            case Reset():
                self.fields |= {"spent": 0, "reset": True}
                self.tell_again()
            case SetLimit():
                self.fields |= {"limit": command.limit, "limit_set": True}
                self.tell_again()
            case Pause() | Resume():
                self.fields |= {"paused": isinstance(command, Pause), "pause_set": True}
            case Drop():
                self.drop(command)
            case Load():
                self.load(command)
            case Wake():
                self.lose_the_forgotten()
            case _:
                raise TypeError(f"no budget command: {type(command).__name__}")

    def roll_over(self) -> None:
        if self.at.day > self.fields["day"]:
            self.fields |= {"day": self.at.day, "spent": 0, "reset": False}
            self.tell_again()

    def follow_rules(self) -> None:
        """Another limit or policy came with a deployment or a policy file, not by a command."""
        if outlived(self.row, self.rules):
            self.tell_again()

    def tell_again(self) -> None:
        """Announce the next exhaustion to all that wait, and try again those that were passed over."""
        self.fields["told"] = self.fields["passed"] = self.fields["first"]

    def settle(self, grant_id: str, tokens: int) -> None:
        """Charge a grant once. A call that was charged as lost and turns out dearer pays the difference."""
        if self.settled_long_ago(grant_id):
            self.observe("late_settle", grant_id=grant_id, tokens=tokens)
            return
        known = self.closures.of(grant_id)
        charged = max(tokens, (known.charged or 0) if known else 0)
        if known and known.settled and known.charged == charged:
            self.observe("duplicate", grant_id=grant_id)
            return
        self.close(ClosedGrant(id=grant_id, charged=charged, requeued=bool(known and known.requeued), settled=True))

    def release(self, grant_id: str) -> None:
        if grant_id in self.open:
            free = self.open[grant_id].provider == "ocr_fallback"  # nothing can ever be owed for it
            self.close(ClosedGrant(id=grant_id, charged=None, settled=free))

    def lose(self, command: Lost) -> None:
        if self.settled_long_ago(command.grant_id):  # charged already; the task still needs a grant
            self.observe("late_lost", grant_id=command.grant_id)
            self.enqueue(command.task, command.estimate, command.purpose)
            return
        known = self.closures.of(command.grant_id)
        if known and known.requeued:
            self.observe("duplicate", grant_id=command.grant_id)
            return
        estimate = self.open[command.grant_id].estimate if command.grant_id in self.open else command.estimate
        paid = known.charged if known else None
        charged, settled = estimate if paid is None else paid, bool(known and known.settled)
        self.close(ClosedGrant(id=command.grant_id, charged=charged, requeued=True, settled=settled))
        self.observe("lost", grant_id=command.grant_id, tokens=estimate)
        self.enqueue(command.task, command.estimate, command.purpose)

    def lose_the_forgotten(self) -> None:
        """A grant open for a day is charged, and its task waits again: nobody may ever report how it ended."""
        for name, grant in list(self.open.items()):
            if self.at.time_ms - grant.since_ms < LOST_AFTER_MS:
                continue
            again = grant.waiting
            self.close(ClosedGrant(id=name, charged=grant.estimate, requeued=again is not None))
            self.observe("forgotten", grant_id=name, tokens=grant.estimate)
            if again is not None:
                self.enqueue(again.task, again.estimate, again.purpose)

    def load(self, command: Load) -> None:
        if self.fields["loaded"]:
            return
        self.fields["loaded"] = True
        if command.day == self.fields["day"] and not self.fields["reset"]:
            self.fields["spent"] += command.spent
        if not self.fields["limit_set"]:
            self.fields["limit"] = command.limit
        if not self.fields["pause_set"]:
            self.fields["paused"] = command.paused

    # -- grants

    def settled_long_ago(self, grant_id: str) -> bool:
        known = grant_id in self.open or self.closures.of(grant_id) is not None
        return not known and self.closures.settled_long_ago(grant_id)

    def close(self, closed: ClosedGrant) -> None:
        self.open.pop(closed.id, None)
        self.fields["spent"] += self.closures.add(closed)

    def grant(self, number: int, waiting: Parked, provider: Provider) -> None:
        name = grant_id(self.row.tenant_id, self.row.ledger, number, self.at.offset)
        estimate = waiting.estimate if provider == "gigachat" else 0
        kept = waiting if len(waiting.encode()) <= KEPT_TASK_BYTES else None
        self.open[name] = OpenGrant(estimate=estimate, provider=provider, since_ms=self.at.time_ms, waiting=kept)
        task = waiting.task.at(granted=self.at.time_ms)
        self.out.send.append(Grant(id=name, provider=provider, purpose=waiting.purpose, estimate=estimate, task=task))

    # -- the queue

    def enqueue(self, task: MediaTask, estimate: int, purpose: Purpose) -> None:
        waiting = Parked(task=task, estimate=estimate, purpose=purpose, since_ms=self.at.time_ms)
        queued = self.fields["next"] - self.fields["first"] - gaps.size(self.holes)
        dear = self.fields["loaded"] and self.too_dear(waiting)
        if queued >= (self.rules.max_queue // 2 if dear else self.rules.max_queue):  # room for those that may go on
            self.observe("blocked", reason="queue_full")
            self.answer(waiting, Skipped(reason="budget", details={"queue_full": True, "retryable": True}))
            return
        number = self.fields["next"]
        self.fields["next"] = number + 1
        self.out.park[number] = waiting

    def waiting(self, number: int) -> Parked | None:
        return self.out.park.get(number) or self._stored(number)

    def serve_queue(self) -> None:
        """Grant from the head on while money and slots last; then tell those whom no money is left for."""
        self.out.load = not self.fields["loaded"]
        if self.fields["loaded"] and not self.fields["paused"]:
            self.serve_heads()
            self.announce()

    def serve_heads(self) -> None:
        while (number := self.head()) < self.fields["next"]:
            head = self.waiting(number)
            if head is None:
                self.observe("missing_parked", number=number)
                self.skip_number(number)
            elif not self.serve(number, head):
                break

    def head(self) -> int:
        """The first number that is served: those that wait before it are dearer than the whole limit."""
        return gaps.past(self.holes, max(self.fields["first"], self.fields["passed"]))

    def move_head(self, number: int) -> None:
        first = self.fields["first"] = gaps.past(self.holes, number)
        self.fields["told"] = max(self.fields["told"], first)
        self.fields["passed"] = max(self.fields["passed"], first)

    def serve(self, number: int, head: Parked) -> bool:
        """Grant the task at the head or pass over it; False if it has to wait."""
        if self.too_dear(head):
            return self.pass_over(number, head)
        slot = len(self.open) < self.rules.max_concurrent
        dear = head.estimate > self.limit()
        fits = dear or self.fields["spent"] + self.reserved() + head.estimate <= self.limit()
        if fits and slot:
            self.grant(number, head, "ocr_fallback" if dear else "gigachat")
            self.leave(number)
        return fits and slot

    def too_dear(self, waiting: Parked) -> bool:
        """The estimate exceeds the whole day's limit and OCR will not do: only another limit helps."""
        return waiting.estimate > self.limit() and not self.may_ocr(waiting)

    def pass_over(self, number: int, waiting: Parked) -> bool:
        """Let those behind go first, once its post has heard; False if this command has told enough of them."""
        if number >= self.fields["told"]:
            if self.announced >= ANNOUNCED_PER_COMMAND:
                return False
            self.defer(waiting)
            self.fields["told"] = number + 1
            self.announced += 1
        self.fields["passed"] = number + 1
        self.closures.doubt(number)  # it will be granted after larger numbers
        return True

    def defer(self, waiting: Parked) -> None:
        self.observe("blocked", reason="daily_limit")
        details = {"spent": self.fields["spent"], "limit": self.limit(), "estimated_tokens": waiting.estimate}
        self.answer(waiting, Deferred(reason="budget", retry_at=self.reset_at(), details=details))

    def announce(self) -> None:
        """If what is spent leaves no room for the head, each waiting task gets OCR or hears when it may go on."""
        self.fields["told"] = gaps.past(self.holes, self.fields["told"])
        while self.fields["told"] < self.fields["next"] and self.exhausted():
            number = self.fields["told"]
            if self.announced >= ANNOUNCED_PER_COMMAND:
                self.out.send.append(Wake(tenant_id=self.row.tenant_id))
                break
            task = self.waiting(number)
            if task is not None and not self.tell(number, task):
                break
            self.fields["told"] = gaps.past(self.holes, number + 1)
            self.serve_heads()  # a head that got OCR may have stood in the way of others
            self.announced += 1
        if self.announced:
            self.observe("exhausted", tasks=self.announced, reset_at=self.reset_at().isoformat())

    def exhausted(self) -> bool:
        head = self.waiting(number) if (number := self.head()) < self.fields["next"] else None
        return head is not None and self.fields["spent"] + head.estimate > self.limit()

    def tell(self, number: int, waiting: Parked) -> bool:
        """Give OCR or defer; False if OCR has to wait for a slot."""
        if self.may_ocr(waiting):
            if len(self.open) >= self.rules.max_concurrent:
                return False
            self.observe("blocked", reason="daily_limit")  # from the provider; OCR is what is left
            self.grant(number, waiting, "ocr_fallback")
            self.leave(number)
        else:
            self.defer(waiting)
        return True

    def drop(self, command: Drop) -> None:
        """Answer waiting tasks as skipped; a hundred per command, a `Drop` to itself goes on with the rest."""
        end = min(self.fields["next"], self.fields["next"] if command.before is None else command.before)
        number = gaps.past(self.holes, max(command.first, self.fields["first"]))
        for _ in range(ANNOUNCED_PER_COMMAND):
            if number >= end:
                return
            self.drop_one(number)
            number = gaps.past(self.holes, number)
        if number < end:
            self.out.send.append(Drop(tenant_id=self.row.tenant_id, first=number, before=end))

    def drop_one(self, number: int) -> None:
        task = self.waiting(number)
        if task is None:
            self.observe("missing_parked", number=number)
        else:
            self.answer(task, Skipped(reason="budget", details={"dropped": True, "retryable": True}))
            self.take_out(number)
        self.skip_number(number)

    def leave(self, number: int) -> None:
        self.take_out(number)
        self.skip_number(number)

    def skip_number(self, number: int) -> None:
        self.holes = gaps.with_gap(self.holes, number)
        self.move_head(self.fields["first"])

    def may_ocr(self, waiting: Parked) -> bool:
        return self.rules.ocr_fallback and waiting.task.ocr_allowed and waiting.purpose == "answer"

    def take_out(self, number: int) -> None:
        if self.out.park.pop(number, None) is None:
            self.out.unpark.append(number)

    # -- results

    def limit(self) -> int:
        return self.rules.limit if self.fields["limit"] is None else int(self.fields["limit"])

    def reserved(self) -> int:
        return sum(grant.estimate for grant in self.open.values())

    def reset_at(self) -> datetime:
        """When the row's day ends; not the command's, whose clock may be behind."""
        return end_of(self.fields["day"])

    def answer(self, waiting: Parked, outcome: Skipped | Deferred) -> None:
        self.out.send.append(waiting.task.outcome(outcome))

    def observe(self, what: str, **details: Any) -> None:
        self.out.observed.append((what, details))

    def decision(self) -> Decision:
        self.fields |= {
            "open": self.open,
            "closed": self.closures.closed,
            "settled_below": self.closures.settled_below,
            "doubtful_below": self.closures.doubtful_below,
            "told_limit": self.limit(),
            "told_ocr": self.rules.ocr_fallback,
            "holes": gaps.above(self.holes, self.fields["first"]),
            "applied": self.row.applied.then(self.at),
        }
        self.out.row = BudgetRow.model_validate(self.fields)
        return self.out
