"""The ledger against the bill: every call is charged, in spite of crashes, repeats and late messages.

Besides the budget core, the machine simulates `vision_app/analysis/analyst.py` (one call per grant, its record,
redelivery after a crash at any point, workers that go on although their partition moved) and a provider with a bill.
The core is compared with that bill, with a list of what was reported of each grant, and with the tasks without an
answer. Queues are not checked here; they are in test_budget_properties.py.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.examples import examples
from vision_app.domain import budget as core
from vision_app.domain.moment import Moment
from vision_app.messages import (
    Deferred,
    Drop,
    Grant,
    Load,
    Lost,
    MediaOutcome,
    MediaTask,
    Medium,
    Pause,
    Release,
    Reserve,
    Reset,
    Resume,
    SetLimit,
    Settle,
    Wake,
)

EVENING = int(datetime(2026, 11, 22, 22, tzinfo=UTC).timestamp() * 1000)
HOUR = 3_600_000
TENANT = "t"
ATTEMPTS = 3
REMEMBERED = 2  # small, so that short runs reach it
BOUNDS = core.Bounds(settled_remembered=REMEMBERED, unsettled_remembered=3 * REMEMBERED)

CLEAN = ["answered", "answered", "answered", "dearer", "refused", "missing"]
CUT = ["lost", "lost billed", "crash", "crash billed", "crash when stored", "crash when told", "moves on", "uploads on"]


@dataclass
class UnderWay:
    """A call that goes on in a worker whose partition has moved."""

    grant: Grant
    tokens: int
    begun: bool


class BillMachine(RuleBasedStateMachine):
    @initialize(
        slots=st.integers(1, 3),
        ocr=st.booleans(),
        disaster=st.sampled_from(["ledger", "calls"]),
        loaded=st.sampled_from([True, True, True, False]),
        dear=st.sampled_from([False, False, True]),
    )
    def start(self, slots: int, ocr: bool, disaster: str, loaded: bool, dear: bool) -> None:
        self.dear = dear  # whether some tasks exceed the day's limit: then charges are only bounded from below
        self.disaster = disaster  # if both were lost, a call that was cut off could not be known
        self.budget_rules = core.BudgetRules(
            limit=100, max_concurrent=slots, max_queue=8, ocr_fallback=ocr, bounds=BOUNDS
        )
        self.row: core.BudgetRow | None = None
        self.parked: dict[int, core.Parked] = {}
        self.inbox: list[tuple[Moment, Any]] = []
        self.cursor = self.committed = self.births = 0
        self.clock = EVENING
        self.names = count()
        self.calls: list[Grant] = []  # the un-acknowledged records of vision.analysis
        self.records: dict[str, int | None] = {}  # grant to its tokens, None: begun
        self.abroad: list[UnderWay] = []
        self.answers: set[str] = set()
        self.bill: Counter[str] = Counter()
        self.reported: dict[str, int] = {}
        self.charged = 0
        self.exact = True
        self.granted: dict[str, tuple[str, int, int]] = {}  # grant to its task, estimate and time
        self.opened: set[str] = set()
        self.unanswered: set[str] = set()
        self.behind = False
        if loaded:
            self.send(Load(tenant_id=TENANT, day="2026-11-22", spent=0))

    # -- the broker and the actor's shell

    def send(self, command: Any) -> None:
        self.clock += 7
        self.inbox.append((Moment(time_ms=self.clock, offset=len(self.inbox)), command))
        if not self.behind:
            self.deliver_all()

    @rule(behind=st.booleans())
    def lag(self, behind: bool) -> None:
        """From now on commands are handled at once, or only when `deliver` says so."""
        self.behind = behind
        if not behind:
            self.deliver_all()

    @precondition(lambda self: self.cursor < len(self.inbox))
    @rule(crash=st.sampled_from([None, None, "sent", "entries", "row"]))
    def deliver(self, crash: str | None) -> None:
        self.handle(crash)

    def deliver_all(self) -> None:
        while self.cursor < len(self.inbox):
            self.handle(None)

    def handle(self, crash: str | None) -> None:
        """Apply a command in the order of `streams/actor.py`, with a crash between two effects."""
        at, command = self.inbox[self.cursor]
        self.births += self.row is None
        decision = core.decide(self.row, command, at, self.budget_rules, self.parked.get, f"ledger{self.births}")
        for message in decision.send:
            self.take(message)
        if crash != "sent":
            self.parked |= decision.park
        if crash not in ("sent", "entries") and decision.row is not None:
            self.follow(at, command, decision)
            self.row = decision.row
        if crash is not None:
            self.cursor = self.committed
            return
        for number in decision.unpark:
            self.parked.pop(number, None)
        self.cursor += 1

    @rule()
    def commit(self) -> None:
        self.committed = self.cursor

    def take(self, message: Any) -> None:
        match message:
            case Grant():
                task, *_ = self.granted.setdefault(message.id, (message.task.post_id, message.estimate, self.clock))
                assert task == message.task.post_id, "one id for two tasks"
                self.calls.append(message)
            case MediaOutcome():
                if not isinstance(message.outcome, Deferred):
                    self.unanswered.discard(message.post_id)
            case _:
                self.clock += 7
                self.inbox.append((Moment(time_ms=self.clock, offset=len(self.inbox)), message))

    # -- tenants and operators

    @rule(
        estimates=st.lists(st.sampled_from([5, 20, 40, 90, 120]), min_size=1, max_size=5),
        ocr=st.booleans(),
        twice=st.sampled_from([False, False, True]),
        again=st.booleans(),
    )
    def reserve(self, estimates: list[int], ocr: bool, twice: bool, again: bool) -> None:
        for estimate in estimates if self.dear else (min(estimate, 30) for estimate in estimates):
            name = f"n{next(self.names)}"
            medium = Medium(sha256="twin" if again else name)
            task = MediaTask(tenant_id=TENANT, post_id=name, trace_id="x", medium=medium, dispatch=1, ocr_allowed=ocr)
            self.unanswered.add(name)
            for _ in range(1 + twice):
                self.send(Reserve(tenant_id=TENANT, task=task, estimate=estimate))

    @rule(
        command=st.one_of(
            st.sampled_from([None, None, 30, 300]).map(lambda limit: SetLimit(tenant_id=TENANT, limit=limit)),
            st.sampled_from([Reset, Pause, Resume, Resume, Drop, Wake, Wake]).map(lambda c: c(tenant_id=TENANT)),
            st.just(Load(tenant_id=TENANT, day="2026-11-22", spent=10)),
        )
    )
    def operate(self, command: Any) -> None:
        self.send(command)

    @rule(limit=st.sampled_from([50, 100, 200]), ocr=st.booleans())
    def redeploy(self, limit: int, ocr: bool) -> None:
        self.budget_rules = dataclasses.replace(self.budget_rules, limit=limit, ocr_fallback=ocr)

    @rule(step=st.sampled_from([1000, 3 * HOUR, 25 * HOUR, -HOUR, -30 * HOUR]))
    def time_passes(self, step: int) -> None:
        self.clock += step

    @precondition(lambda self: self.row is not None and self.disaster == "ledger")
    @rule()
    def ledger_is_lost(self) -> None:
        """Tasks that waited in it have to be replayed. Open grants go on and are charged to the next ledger."""
        self.deliver_all()
        self.committed = self.cursor
        if self.row is not None:
            gone = [self.parked[number].task.post_id for number in core.queue(self.row, 0, 1000)]
            open_ = [self.granted[grant_id][0] for grant_id in self.row.open]
            self.unanswered -= {*gone, *open_}
        self.row, self.exact = None, False
        self.parked.clear()
        self.opened.clear()

    @precondition(lambda self: self.disaster == "calls")
    @rule()
    def calls_are_lost(self) -> None:
        """The topic of the calls was recreated: the ends of these grants will never be reported."""
        self.calls.clear()

    # -- the callers

    @precondition(lambda self: self.calls)
    @rule(pick=st.integers(0, 5), how=st.sampled_from(CLEAN + CUT), tokens=st.sampled_from([1, 5, 20]))
    def work(self, pick: int, how: str, tokens: int) -> None:
        grant = self.calls[pick % len(self.calls)]
        if self.finish(grant, how, min(tokens, grant.estimate)):
            self.calls.remove(grant)

    @rule(how=st.sampled_from(["answered", "refused"]))
    def work_off(self, how: str) -> None:
        """Handle all waiting grants, also after failures, so that the ledger's memory fills."""
        self.deliver_all()
        for _ in range(12):
            if not self.calls:
                return
            grant = self.calls.pop(0)
            self.finish(grant, how, min(5, grant.estimate))
            self.deliver_all()

    def finish(self, grant: Grant, how: str, tokens: int) -> bool:
        """Handle one grant. Returns False if the worker dies meanwhile and the grant is redelivered."""
        name, picture = grant.task.post_id, grant.task.medium.sha256
        if grant.provider == "ocr_fallback":
            return self.end(grant, Release(tenant_id=TENANT, grant_id=grant.id))
        if grant.id in self.records:
            known = self.records[grant.id]
            return self.cut_off(grant) if known is None else self.settle(grant, known)
        if picture in self.answers:
            return self.settle(grant, 0)
        if how in ("refused", "missing"):
            return self.end(grant, Release(tenant_id=TENANT, grant_id=grant.id))
        cost = grant.estimate + 25 if how == "dearer" else tokens
        if how in ("moves on", "uploads on"):
            self.abroad.append(UnderWay(grant, cost, begun=how == "moves on"))
            if how == "moves on":
                self.records[grant.id] = None
            return False
        if how in ("crash", "lost"):
            self.records[grant.id] = None
            return how == "lost" and self.cut_off(grant)
        assert not self.bill[grant.id], f"{name}: a second call on one grant"
        self.bill[grant.id] += cost
        if how in ("lost billed", "crash billed"):
            self.records[grant.id] = None
            return how == "lost billed" and self.cut_off(grant)
        self.records[grant.id] = cost
        self.answers.add(picture)
        if how != "crash when stored":
            self.settle(grant, cost)
        return not how.startswith("crash")

    def settle(self, grant: Grant, tokens: int) -> bool:
        return self.end(grant, Settle(tenant_id=TENANT, grant_id=grant.id, tokens=tokens))

    def end(self, grant: Grant, command: Any) -> bool:
        self.send(command)
        self.unanswered.discard(grant.task.post_id)
        return True

    def cut_off(self, grant: Grant) -> bool:
        if grant.task.attempt >= ATTEMPTS:
            return self.settle(grant, grant.estimate)
        task = grant.task.model_copy(update={"attempt": grant.task.attempt + 1})
        self.send(Lost(tenant_id=TENANT, grant_id=grant.id, estimate=grant.estimate, task=task))
        return True

    @precondition(lambda self: self.abroad)
    @rule(dearer=st.booleans(), dies=st.booleans())
    def call_abroad_ends(self, dearer: bool, dies: bool) -> None:
        call = self.abroad.pop(0)
        answered = call.grant.task.medium.sha256 in self.answers
        if not call.begun and (dies or answered or call.grant.id in self.records):
            return  # nothing was sent: it checks again whether another worker has begun or has an answer
        cost = call.tokens + (call.grant.estimate + 25 if dearer and not dies else 0)
        self.bill[call.grant.id] += cost
        if not dies:
            self.records[call.grant.id] = cost
            self.answers.add(call.grant.task.medium.sha256)
            self.settle(call.grant, cost)

    @precondition(lambda self: self.calls)
    @rule(pick=st.integers(0, 5))
    def dead_letter(self, pick: int) -> None:
        grant = self.calls.pop(pick % len(self.calls))
        if grant.id not in self.records:
            self.end(grant, Release(tenant_id=TENANT, grant_id=grant.id))
        else:
            known = self.records[grant.id]
            self.settle(grant, grant.estimate if known is None else known)

    # -- what must hold

    def follow(self, at: Moment, command: Any, decision: core.BudgetDecision) -> None:
        """After a command is applied: note what it reports and what the ledger charges for it."""
        row, before = decision.row, self.row
        assert row is not None
        spent_before = before.spent if before is not None and before.day == row.day else 0
        if isinstance(command, Reset):
            assert row.spent == 0
        elif not isinstance(command, Load):
            assert row.spent >= spent_before, "something was given back"
            self.charged += row.spent - spent_before
        match command:
            case Settle():
                self.report(command.grant_id, command.tokens)
            case Lost() if self.reported.get(command.grant_id) is None:
                self.report(command.grant_id, command.estimate)
            case Wake() if before is not None:
                for grant_id, grant in before.open.items():
                    if at.time_ms - grant.since_ms >= core.LOST_AFTER_MS:
                        self.report(grant_id, self.granted[grant_id][1])
        self.exact = self.exact and not row.doubtful_below
        self.hold(row, decision)
        opened = set(row.open) - (set(before.open) if before is not None else set())
        assert not opened & self.opened, "a grant that was closed is open again"
        self.opened |= opened

    def report(self, grant_id: str, tokens: int) -> None:
        self.reported[grant_id] = max(tokens, self.reported.get(grant_id, 0))

    def hold(self, row: core.BudgetRow, decision: core.BudgetDecision) -> None:
        given = [message for message in decision.send if isinstance(message, Grant)]
        if any(grant.provider == "gigachat" for grant in given):
            assert row.spent + row.reserved <= core.effective_limit(row, self.budget_rules)
        assert {grant.id for grant in given} <= set(row.open)
        assert len(row.open) <= self.budget_rules.max_concurrent
        assert min(row.spent, row.reserved, row.waiting) >= 0

    @invariant()
    def charged_is_what_was_reported(self) -> None:
        due = sum(self.reported.values())
        assert self.charged >= due
        if self.exact:
            assert self.charged == due

    def teardown(self) -> None:
        """The limit is raised, all workers work, a day passes: all tasks are answered, all calls are charged."""
        if not hasattr(self, "inbox"):
            return
        for _ in range(60):
            for command in (Load(tenant_id=TENANT, day="", spent=0), Resume(tenant_id=TENANT), Wake(tenant_id=TENANT)):
                self.send(command)
            self.send(SetLimit(tenant_id=TENANT, limit=10**6))
            self.deliver_all()
            if self.row is not None and not (self.row.waiting or self.row.open or self.calls or self.abroad):
                break
            while self.abroad:
                self.call_abroad_ends(dearer=False, dies=False)
            while self.calls:
                grant = self.calls.pop(0)
                assert self.finish(grant, "answered", min(5, grant.estimate))
                self.deliver_all()
            self.clock += 25 * HOUR
        assert self.row is not None
        assert (self.row.waiting, self.row.open, self.unanswered) == (0, {}, set())
        self.charged_is_what_was_reported()
        for grant_id, tokens in self.bill.items():
            assert tokens <= self.reported[grant_id], "a call that nobody was charged for"


def test_the_bill_never_exceeds_the_ledger() -> None:
    run_state_machine_as_test(
        BillMachine,
        settings=settings(
            max_examples=examples(200), stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
