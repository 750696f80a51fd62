"""The posts core under random commands in random order, checked against rules that always hold."""

from __future__ import annotations

from datetime import timedelta
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
from tests.samples import AT, AT_MS, analyzed, medium, missing
from vision_app.domain import posts as core
from vision_app.domain.moment import Moment
from vision_app.messages import (
    Analyzed,
    AskAgain,
    Deferred,
    Emission,
    Failed,
    Forget,
    MediaOutcome,
    MediaTask,
    Opened,
    Outcome,
    PolicyVerdict,
    PostResult,
    Uploaded,
)

NAMES = "abcd"
VERSIONS = ("vision@2026-11-22#p1", "vision@2027-01-01#p2")
HOUR = 3_600_000


def an_outcome(kind: str, number: int, version: str) -> Outcome:
    match kind:
        case "analyzed":
            made = AT + timedelta(seconds=number)
            return analyzed(f"Вид {number}", tokens=number, vision_version=version, analyzed_at=made)
        case "deferred":
            return Deferred(reason="budget", retry_at=AT + timedelta(days=1 + number % 3))
        case "failed":
            return Failed(reason="refused")
    return missing()


class PostMachine(RuleBasedStateMachine):
    @initialize(unused=st.none())
    def start(self, unused: None) -> None:
        self.row: core.PostRow | None = None
        self.clock, self.next_offset = AT_MS, 0
        self.version = VERSIONS[0]
        self.sent: list[MediaTask] = []
        self.numbers = 0
        self.history: list[tuple[Moment, Any]] = []
        self.emission: Emission | None = None
        self.listed: dict[str, int] = {}
        self.dispatches: dict[str, int] = {}

    # -- commands

    @rule(
        names=st.lists(st.sampled_from(NAMES), max_size=6),
        refused=st.sets(st.sampled_from(NAMES), max_size=2),
        force=st.sampled_from([False, False, False, True]),
        replay=st.sampled_from([False, False, True]),
    )
    def open(self, names: list[str], refused: set[str], force: bool, replay: bool) -> None:
        event = Uploaded(
            tenant_id="t",
            post_id="p",
            trace_id=f"trace{len(self.history)}",
            occurred_at=AT,
            idempotency_key="k",
            media_files=[medium(name, position=place) for place, name in enumerate(names)],
        )
        verdicts = [PolicyVerdict(analyze=name not in refused, reason="policy") for name in names]
        self.deliver(Opened(event=event, verdicts=verdicts, force=force, replay=replay))

    @precondition(lambda self: self.sent)
    @rule(
        ends=st.lists(
            st.tuples(st.integers(0, 9), st.sampled_from(["analyzed", "analyzed", "deferred", "failed", "skipped"])),
            min_size=1,
            max_size=5,
        )
    )
    def outcomes(self, ends: list[tuple[int, str]]) -> None:
        for pick, kind in ends:
            recent = self.sent[-10:]
            task, self.numbers = recent[pick % len(recent)], self.numbers + 1
            self.deliver(task.outcome(an_outcome(kind, self.numbers, self.version)))

    @precondition(lambda self: self.history)
    @rule(back=st.integers(1, 6))
    def deliver_again(self, back: int) -> None:
        """Redelivery of the last commands after a rebalance, with the same offsets and times."""
        for at, command in self.history[-back:]:
            decision = core.decide(self.row, command, at, core.PostRules(vision_version=self.version))
            if self.row is not None:
                assert decision.observed == [("duplicate", {})]
                assert (decision.row, decision.send, decision.forget) == (None, [], False)

    @rule()
    def another_version(self) -> None:
        self.version = VERSIONS[1 - VERSIONS.index(self.version)]

    @rule(hours=st.sampled_from([1, 25]))
    def time_passes(self, hours: int) -> None:
        self.clock += hours * HOUR

    @rule()
    def the_clock_steps_back(self) -> None:
        self.clock -= 1000

    @rule(right=st.booleans())
    def forget(self, right: bool) -> None:
        completed = self.row.completed_ms if self.row and self.row.completed_ms else 0
        self.deliver(Forget(tenant_id="t", post_id="p", completed_ms=completed if right else completed + 1))

    @rule(ago=st.sampled_from([-1, 0, HOUR]))
    def the_ledger_is_lost(self, ago: int) -> None:
        before = self.clock - ago
        self.deliver(AskAgain(tenant_id="t", post_id="p", deferred_before_ms=before, in_work_before_ms=before - HOUR))

    # -- the shell

    def deliver(self, command: Any) -> None:
        self.clock += 3
        at = Moment(time_ms=self.clock, offset=self.next_offset)
        self.next_offset += 1
        rules = core.PostRules(vision_version=self.version)
        decision = core.decide(self.row, command, at, rules)
        assert decision == core.decide(self.row, command, at, rules), "not pure"
        self.hold(self.row, command, decision, at)
        if isinstance(command, Opened) and self.row and not command.force:
            self.hold_answered(self.row, command, decision, at, rules)
        if decision.forget:
            self.forgotten(at)
        elif decision.row is not None:
            self.history.append((at, command))
            self.row = core.PostRow.model_validate(decision.row.model_dump(mode="json"))
            assert self.row == decision.row

    def forgotten(self, at: Moment) -> None:
        assert self.row is not None
        assert all(not state.in_work for state in self.row.media.values())
        assert not any(isinstance(state.latest, Deferred) for state in self.row.media.values())
        assert at.time_ms - (self.row.completed_ms or at.time_ms) >= core.FORGET_AFTER_MS
        self.row, self.emission = None, None
        self.history.clear()
        self.listed.clear()
        self.dispatches.clear()

    # -- what must hold

    def hold(self, before: core.PostRow | None, command: Any, decision: core.PostDecision, at: Moment) -> None:
        if isinstance(command, Opened):
            self.hold_dispatches(before, command, decision, at)
        elif isinstance(command, AskAgain):
            self.hold_again(before, command, decision)
        else:
            assert not any(isinstance(message, MediaTask) for message in decision.send)
        row = decision.row
        results = [message for message in decision.send if isinstance(message, PostResult)]
        assert len(results) <= 1
        if row is None:
            assert results == []
            assert isinstance(command, Forget | AskAgain) or decision.reject
            return
        self.hold_outcomes(before, row, command)
        for result in results:
            self.hold_result(row, result)
        complete = not any(state.in_work for state in row.media.values())
        became = before is None or any(state.in_work for state in before.media.values())
        if complete and became:
            assert results, "complete but not emitted"
        if before is not None and complete and not became and isinstance(command, MediaOutcome):
            changed = {k: s.outcome for k, s in before.media.items()} != {k: s.outcome for k, s in row.media.items()}
            assert bool(results) == changed, "emitted though nothing changed, or not though it did"

    def hold_answered(
        self, before: core.PostRow, command: Opened, decision: core.PostDecision, at: Moment, rules: core.PostRules
    ) -> None:
        """A publication that the policy need not pass on would have changed nothing."""
        if core.is_answered(before, command.event, at.time_ms, rules):
            assert (decision.send, decision.forget, decision.reject) == ([], False, None)
            assert decision.row is not None
            assert (decision.row.media, decision.row.event.media_files) == (before.media, before.event.media_files)

    def hold_dispatches(
        self, before: core.PostRow | None, command: Opened, decision: core.PostDecision, at: Moment
    ) -> None:
        tasks = [message for message in decision.send if isinstance(message, MediaTask)]
        shas = [task.medium.sha256 for task in tasks]
        assert len(shas) == len(set(shas)), "twins asked twice"
        wanted = {
            m.sha256 for m, verdict in zip(command.event.media_files, command.verdicts, strict=True) if verdict.analyze
        }
        for name in wanted:
            assert (name in shas) == self.should_ask(before.media.get(name) if before else None, command, at)
        assert set(shas) <= wanted
        for task in tasks:
            assert task.dispatch == self.dispatches.get(task.medium.sha256, 0) + 1
            self.dispatches[task.medium.sha256] = task.dispatch
        self.sent += tasks
        counts = [m.sha256 for m in command.event.media_files]
        for name in counts:
            self.listed[name] = max(self.listed.get(name, 0), counts.count(name))

    def hold_again(self, before: core.PostRow | None, command: AskAgain, decision: core.PostDecision) -> None:
        tasks = [message for message in decision.send if isinstance(message, MediaTask)]
        media = before.media.items() if before else ()
        bounds = {True: command.in_work_before_ms, False: command.deferred_before_ms}
        waiting = {name: state for name, state in media if state.in_work or isinstance(state.latest, Deferred)}
        lost = {name for name, state in waiting.items() if state.dispatched_ms < bounds[state.in_work]}
        assert {task.medium.sha256 for task in tasks} == lost
        for task in tasks:
            assert task.dispatch == self.dispatches.get(task.medium.sha256, 0) + 1
            self.dispatches[task.medium.sha256] = task.dispatch
        self.sent += tasks

    def should_ask(self, state: core.MediumState | None, command: Opened, at: Moment) -> bool:
        if state is None or command.force:
            return True
        if command.replay and not state.in_work and isinstance(state.latest, Deferred):
            return True
        if state.in_work or isinstance(state.latest, Deferred):
            return at.time_ms - state.dispatched_ms >= core.REDISPATCH_AFTER_MS
        if isinstance(state.outcome, Analyzed):
            return state.outcome.answer.vision_version != self.version
        return True

    def hold_outcomes(self, before: core.PostRow | None, row: core.PostRow, command: Any) -> None:
        for name, state in row.media.items():
            old = before.media[name].outcome if before and name in before.media else None
            assert state.in_work or state.outcome is not None
            if isinstance(old, Analyzed):
                assert isinstance(state.outcome, Analyzed), "an analysis replaced by less"
                if isinstance(command, MediaOutcome) and command.dispatch < state.dispatch:
                    assert state.outcome == old, "an analysis replaced by an older one"
            if isinstance(command, MediaOutcome) and isinstance(command.outcome, Analyzed) and name == command.sha256:
                assert isinstance(state.outcome, Analyzed), "a paid answer dropped"
        if before is not None:
            assert set(before.media) <= set(row.media)

    def hold_result(self, row: core.PostRow, result: PostResult) -> None:
        assert self.emission is None or self.emission < result.emission, "an emission that does not grow"
        self.emission = result.emission
        complete = not any(state.in_work for state in row.media.values())
        assert (result.status != "in_work") == complete
        names = [item.medium.sha256 for item in result.media]
        assert {name: names.count(name) for name in set(names)} == self.listed, "a listed position is missing"
        for item in result.media:
            state = row.media[item.medium.sha256]
            assert item.outcome == (None if state.in_work else state.outcome)

    @invariant()
    def the_event_lists_every_position(self) -> None:
        if self.row is not None:
            names = [item.sha256 for item in self.row.event.media_files]
            assert {name: names.count(name) for name in set(names)} == self.listed
            assert len(self.row.encode()) < 500_000

    def teardown(self) -> None:
        """Once every medium asked for has its answer, the post is complete."""
        if getattr(self, "row", None) is None:
            return
        assert self.row is not None
        for name, state in self.row.media.items():
            if state.in_work:
                task = next(t for t in reversed(self.sent) if t.medium.sha256 == name and t.dispatch == state.dispatch)
                self.numbers += 1
                self.deliver(task.outcome(an_outcome("analyzed", self.numbers, self.version)))
        assert self.row.completed_ms is not None
        assert core.status_of(self.row) != "in_work"


def test_a_post_keeps_its_rules_whatever_happens() -> None:
    run_state_machine_as_test(
        PostMachine,
        settings=settings(
            max_examples=examples(200), stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
