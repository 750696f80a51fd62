"""The protocol of a call: every row of its table, and random runs of two workers in which nothing is paid twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.examples import examples
from vision_app.domain import calls
from vision_app.domain.calls import Call, CallRecord, Conclude, CutOff, Expired, Step, StoredAnswer, WaitForOther
from vision_app.messages import Analysis, Answer, Grant, MediaTask, Medium, Verdict

DEADLINE = 60.0
START = datetime(2026, 11, 26, 12, tzinfo=UTC)
ESTIMATE, COST = 3000, 1000


def grant_of(id: str = "g1", purpose: Any = "answer", **task: Any) -> Grant:
    given = MediaTask(
        tenant_id="t", post_id="p", trace_id="x", medium=Medium(sha256="s", s3_key="k"), dispatch=1, **task
    )
    return Grant(id=id, provider="gigachat", purpose=purpose, estimate=ESTIMATE, task=given)


def answer_of(grant_id: str = "g1", verdict: Verdict = "ok", tokens: int = COST, faults: Any = ()) -> StoredAnswer:
    answer = Answer(
        verdict=verdict,
        analysis=Analysis(classification="photo", description="x") if verdict == "ok" else None,
        provider="gigachat",
        model="m",
        prompt_version="1",
        vision_version="1",
        tokens=tokens,
        analyzed_at=START,
        duration_ms=1,
        faults=list(faults),
    )
    return StoredAnswer(answer=answer, tenant_id="t", sha256="s", grant_id=grant_id, content="text", stored_at=START)


def record_of(state: Any, owner: str = "a/1", age: float = 10.0, tokens: int | None = None) -> CallRecord:
    return CallRecord(state=state, grant_id="g1", owner=owner, tokens=tokens, at=START - timedelta(seconds=age))


def step_of(record: CallRecord | None, found: StoredAnswer | None, purpose: str = "answer", owner: str = "b/1") -> Step:
    return calls.next_step(grant_of(purpose=purpose), record, found, owner=owner, now=START, deadline_seconds=DEADLINE)


OWN, OTHER, BROKEN = answer_of(), answer_of("g0"), answer_of("g0", "unusable")
STARTED, DONE = record_of("started"), record_of("done", tokens=700)


@pytest.mark.parametrize(
    ("record", "found", "step"),
    [
        (None, None, Call()),
        (None, OTHER, Conclude(OTHER, 0)),
        (None, BROKEN, Conclude(BROKEN, 0)),
        (STARTED, OWN, Conclude(OWN, COST)),
        (STARTED, OTHER, WaitForOther()),
        (STARTED, None, WaitForOther()),
        (record_of("started", age=DEADLINE), None, CutOff()),
        (record_of("started", age=-1), None, CutOff()),  # after a clock was set back, the age says nothing
        (record_of("started", owner="b/0"), OTHER, CutOff()),  # this worker itself, before its restart
        (record_of("started", owner=""), None, CutOff()),  # unreadable
        (DONE, OWN, Conclude(OWN, 700)),
        (DONE, None, Expired(700)),
        (record_of("done"), None, Expired(0)),
    ],
)
def test_each_row_of_the_table(record: CallRecord | None, found: StoredAnswer | None, step: Step) -> None:
    assert step_of(record, found) == step


@pytest.mark.parametrize(
    ("record", "found", "step"),
    [
        (None, None, Expired(None)),
        (None, BROKEN, Call(BROKEN)),
        (None, OTHER, Conclude(OTHER, 0)),
        (None, answer_of("g0", "unusable", faults=[calls.REPAIR_FAILED]), "conclude"),
        (None, answer_of("g0", "refused"), "conclude"),
        (STARTED, BROKEN, WaitForOther()),
        (DONE, BROKEN, Conclude(BROKEN, 700)),
        (DONE, None, Expired(700)),
    ],
)
def test_each_row_for_a_repair(record: CallRecord | None, found: StoredAnswer, step: Any) -> None:
    expected = Conclude(found, 0) if step == "conclude" else step
    assert step_of(record, found, purpose="repair") == expected


def test_a_forced_analysis_takes_only_good_answers_but_those_it_paid_for() -> None:
    forced = grant_of(force=True)
    assert calls.only_good(forced, None)
    assert not calls.only_good(forced, STARTED)
    assert not calls.only_good(grant_of(force=True, purpose="repair"), None)
    assert not calls.only_good(grant_of(), None)


def test_a_call_begins_once() -> None:
    grant = grant_of()
    assert calls.may_begin(grant, None, None, "a/1")
    assert calls.may_begin(grant, STARTED, None, "a/1")  # its own earlier attempt, refused for free
    assert not calls.may_begin(grant, STARTED, None, "b/1")
    assert not calls.may_begin(grant, None, OTHER, "a/1")
    assert not calls.may_begin(grant_of(purpose="repair"), None, OTHER, "a/1")


class TwoWorkers(RuleBasedStateMachine):
    """Two workers, one picture, grant after grant. The worker that holds the partition takes the steps.

    The other one may still be making a call that it began before the partition moved. Workers die at any moment, S3's
    lifecycle removes answers, and the provider bills every request that it does not refuse.
    """

    @initialize(force=st.booleans())
    def begin(self, force: bool) -> None:
        self.now = START
        self.starts = {"a": 1, "b": 1}
        self.doing: dict[str, Any] = {"a": None, "b": None}  # (what, grant, since, answer)
        self.holder = "a"
        self.records: dict[str, CallRecord] = {}
        self.answer: StoredAnswer | None = None
        self.billed: dict[str, list[int]] = {}
        self.charged: dict[str, int] = {}
        self.grants = 0
        self.task = {"force": force}
        self.give("answer")

    # -- the ledger

    def give(self, purpose: str) -> None:
        self.grants += 1
        self.grant = grant_of(f"g{self.grants}", purpose, **self.task)

    def charge(self, tokens: int, purpose: str = "answer") -> None:
        self.charged[self.grant.id] = tokens
        self.give(purpose)

    # -- the worker that holds the partition

    def owner(self, worker: str) -> str:
        return f"{worker}/{self.starts[worker]}"

    def found(self, record: CallRecord | None) -> StoredAnswer | None:
        bad = self.answer is not None and self.answer.answer.verdict != "ok"
        return None if bad and calls.only_good(self.grant, record) else self.answer

    @precondition(lambda self: self.doing[self.holder] is None)
    @rule()
    def look(self) -> None:
        record = self.records.get(self.grant.id)
        owner = self.owner(self.holder)
        found = self.found(record)
        match calls.next_step(self.grant, record, found, owner=owner, now=self.now, deadline_seconds=DEADLINE):
            case Conclude(stored, tokens):
                repair = stored.grant_id == self.grant.id and calls.is_repairable(stored)
                self.charge(tokens, "repair" if repair else "answer")
            case Expired(tokens):
                self.charge(tokens or 0)
            case CutOff():
                self.charge(self.grant.estimate, self.grant.purpose)
            case Call(broken):
                self.doing[self.holder] = ("upload", self.grant, self.now, broken)

    def doers(self, what: str) -> list[str]:
        return [worker for worker, doing in self.doing.items() if doing is not None and doing[0] == what]

    @precondition(lambda self: self.doers("upload"))
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        self._send(data.draw(st.sampled_from(self.doers("upload"))))

    def _send(self, worker: str) -> None:
        _, grant, _, broken = self.doing[worker]
        record = self.records.get(grant.id)
        ours = worker == self.holder and grant == self.grant
        if not ours or not calls.may_begin(grant, record, self.found(None), self.owner(worker)):
            self.doing[worker] = None
            return
        self.records[grant.id] = CallRecord(state="started", grant_id=grant.id, owner=self.owner(worker), at=self.now)
        self.billed.setdefault(grant.id, []).append(COST)
        self.doing[worker] = ("request", grant, self.now, broken)

    @precondition(lambda self: self.doers("request"))
    @rule(data=st.data())
    def be_refused_for_free(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.doers("request")))
        _, grant, *_ = self.doing[worker]
        self.billed[grant.id].pop()
        del self.records[grant.id]
        self.doing[worker] = None

    @precondition(lambda self: self.doers("request"))
    @rule(data=st.data(), verdict=st.sampled_from(["ok", "unusable", "unusable", "refused"]))
    def store_the_answer(self, data: st.DataObject, verdict: Verdict) -> None:
        self._store_the_answer(data.draw(st.sampled_from(self.doers("request"))), verdict)

    def _store_the_answer(self, worker: str, verdict: Verdict) -> None:
        _, grant, since, broken = self.doing[worker]
        tokens, faults = COST, []
        if broken is not None:
            tokens, faults = COST + broken.answer.tokens, [] if verdict == "ok" else [calls.REPAIR_FAILED]
        self.answer = answer_of(grant.id, verdict, tokens, faults)
        self.doing[worker] = ("answer", grant, since, None)

    @precondition(lambda self: self.doers("answer"))
    @rule(data=st.data())
    def close_the_record(self, data: st.DataObject) -> None:
        self._close_the_record(data.draw(st.sampled_from(self.doers("answer"))))

    def _close_the_record(self, worker: str) -> None:
        grant = self.doing[worker][1]
        self.records[grant.id] = CallRecord(
            state="done", grant_id=grant.id, owner=self.owner(worker), tokens=COST, at=self.now
        )
        self.doing[worker] = None

    # -- what happens to them

    @rule()
    def move_the_partition(self) -> None:
        self.holder = "b" if self.holder == "a" else "a"

    @precondition(lambda self: self.doers("request") or self.doers("answer"))
    @rule(worker=st.sampled_from("ab"))
    def die(self, worker: str) -> None:
        self.doing[worker] = None
        self.starts[worker] += 1

    @precondition(lambda self: self.answer is not None)
    @rule()
    def lose_the_answer(self) -> None:
        self.answer = None

    @rule(seconds=st.sampled_from([1.0, 20.0, DEADLINE]))
    def wait(self, seconds: float) -> None:
        """A running call ends within its deadline. So does a worker's upload, which it may begin again."""
        self.now += timedelta(seconds=seconds)
        for worker, doing in self.doing.items():
            if doing is not None and doing[0] != "upload" and (self.now - doing[2]).total_seconds() >= DEADLINE:
                self.doing[worker] = None  # its own deadline cut it off; the answer was not stored

    # -- what holds

    @invariant()
    def one_call_for_a_grant(self) -> None:
        assert all(len(billed) <= 1 for billed in self.billed.values())

    @invariant()
    def one_call_at_a_time(self) -> None:
        assert sum(doing is not None and doing[0] == "request" for doing in self.doing.values()) <= 1

    @invariant()
    def what_was_billed_is_charged(self) -> None:
        for grant, charged in self.charged.items():
            assert charged >= sum(self.billed.get(grant, ())), f"{grant} was charged {charged}"

    @invariant()
    def nothing_is_charged_for_nothing(self) -> None:
        assert all(not charged or grant in self.billed for grant, charged in self.charged.items())

    def teardown(self) -> None:
        """In any state, the worker that holds the partition ends the grant without outside help."""
        if not hasattr(self, "grant"):
            return
        grant = self.grant.id
        for _ in range(8):
            for what, step in (
                ("upload", self._send),
                ("request", lambda worker: self._store_the_answer(worker, "ok")),
                ("answer", self._close_the_record),
            ):
                for worker in self.doers(what):
                    step(worker)
            if self.doing[self.holder] is None:
                self.look()
            self.wait(DEADLINE / 2)
        assert grant in self.charged


TwoWorkers.TestCase.settings = settings(max_examples=examples(800), stateful_step_count=40, deadline=None)
TestTwoWorkers = TwoWorkers.TestCase
