"""The budget core, rule by rule, by plain calls. test_budget_properties.py has random sequences."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from vision_app.domain.budget import (
    LOST_AFTER_MS,
    Bounds,
    BudgetDecision,
    BudgetRow,
    BudgetRules,
    Parked,
    decide,
    effective_limit,
    outlived,
    view,
)
from vision_app.domain.budget_ledger import KEPT_TASK_BYTES
from vision_app.domain.moment import Applied, Moment
from vision_app.messages import (
    BudgetCommand,
    Deferred,
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
    Skipped,
    Wake,
)

NOON = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp() * 1000)
HOUR = 60 * 60 * 1000
MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
TENANT = "t"
BOUNDS = Bounds()


def task(name: str, *, ocr: bool = False) -> MediaTask:
    return MediaTask(
        tenant_id=TENANT, post_id=name, trace_id=name, medium=Medium(sha256=name), dispatch=1, ocr_allowed=ocr
    )


class Tenant:
    """One tenant's row and parked tasks, kept as the shell keeps them. `do` returns the decision."""

    def __init__(self, *, limit: int = 100, loaded: bool = True, **rules: Any) -> None:
        self.rules = BudgetRules(limit=limit, **rules)
        self.row: BudgetRow | None = None
        self.parked: dict[int, Parked] = {}
        self.time_ms, self.offset = NOON, -1
        if loaded:
            self.do(Load(tenant_id=TENANT, day="2026-11-22", spent=0))

    def do(self, command: BudgetCommand, *, at: Moment | None = None) -> BudgetDecision:
        if at is None:
            self.offset += 1
            self.time_ms += 1
            at = Moment(time_ms=self.time_ms, offset=self.offset)
        decision = decide(self.row, command, at, self.rules, self.parked.get)
        self.parked |= decision.park
        self.row = decision.row or self.row
        for number in decision.unpark:
            del self.parked[number]
        return decision

    def reserve(self, name: str, estimate: int = 40, *, ocr: bool = False) -> BudgetDecision:
        return self.do(Reserve(tenant_id=TENANT, task=task(name, ocr=ocr), estimate=estimate))

    def settle(self, grant: Grant, tokens: int) -> BudgetDecision:
        return self.do(Settle(tenant_id=TENANT, grant_id=grant.id, tokens=tokens))

    def release(self, grant: Grant) -> BudgetDecision:
        return self.do(Release(tenant_id=TENANT, grant_id=grant.id))

    def lost(self, grant: Grant) -> BudgetDecision:
        return self.do(
            Lost(tenant_id=TENANT, grant_id=grant.id, estimate=grant.estimate, purpose=grant.purpose, task=grant.task)
        )

    def spend(self, tokens: int) -> None:
        """Bring the ledger's spending up by `tokens` through a grant of its own."""
        [grant] = granted(self.reserve("spender", min(tokens, self.view["remaining"])))
        self.settle(grant, tokens)

    def settle_others(self, count: int) -> None:
        """Open and settle grants of other tasks, so that the row's memory of closed grants fills."""
        for number in range(count):
            [grant] = granted(self.reserve(f"other{number}", 1))
            self.settle(grant, 1)

    @property
    def ledger(self) -> BudgetRow:
        assert self.row is not None
        return self.row

    @property
    def view(self) -> Any:
        return view(self.ledger, Moment(time_ms=self.time_ms, offset=0), self.rules)


def granted(decision: BudgetDecision) -> list[Grant]:
    return [message for message in decision.send if isinstance(message, Grant)]


def names(decision: BudgetDecision) -> list[str]:
    return [grant.task.post_id for grant in granted(decision)]


def outcomes(decision: BudgetDecision) -> dict[str, Any]:
    return {m.post_id: m.outcome for m in decision.send if isinstance(m, MediaOutcome)}


def seen(decision: BudgetDecision) -> list[str]:
    return [what for what, _ in decision.observed]


# --- room and slots ---------------------------------------------------------------------------------------------------


def test_a_task_that_fits_is_granted_and_its_estimate_reserved() -> None:
    tenant = Tenant()
    [grant] = granted(tenant.reserve("a", 60))
    assert (grant.provider, grant.estimate, grant.task.post_id) == ("gigachat", 60, "a")
    assert grant.task.times["granted"] == tenant.time_ms
    assert (tenant.ledger.reserved, tenant.ledger.spent, tenant.view["remaining"]) == (60, 0, 40)
    assert tenant.parked == {}


def test_exactly_the_limit_fits() -> None:
    tenant = Tenant()
    assert names(tenant.reserve("a", 40)) == ["a"]
    assert names(tenant.reserve("b", 60)) == ["b"]


def test_nothing_is_granted_beyond_the_limit_and_the_task_waits_silently_for_reservations() -> None:
    tenant = Tenant()
    tenant.reserve("a", 60)
    waiting = tenant.reserve("b", 41)
    assert waiting.send == []
    assert tenant.ledger.waiting == 1


def test_a_settlement_below_the_estimate_lets_the_head_go() -> None:
    tenant = Tenant()
    [grant] = granted(tenant.reserve("a", 60))
    tenant.reserve("b", 80)
    assert names(tenant.settle(grant, 20)) == ["b"]


def test_a_call_dearer_than_its_reservation_is_charged_and_then_nothing_new_starts() -> None:
    tenant = Tenant()
    [grant] = granted(tenant.reserve("a", 60))
    tenant.settle(grant, 130)
    assert tenant.ledger.spent == 130
    assert tenant.view["remaining"] == 0
    assert granted(tenant.reserve("b", 1)) == []


def test_at_most_three_grants_are_open() -> None:
    tenant = Tenant()
    given = [grant for name in "abcd" for grant in granted(tenant.reserve(name, 1))]
    assert [grant.task.post_id for grant in given] == ["a", "b", "c"]
    assert names(tenant.release(given[1])) == ["d"]


def test_the_queue_is_first_in_first_out_even_if_a_later_one_would_fit() -> None:
    tenant = Tenant()
    [grant] = granted(tenant.reserve("a", 60))
    assert tenant.reserve("b", 80).send == []
    assert tenant.reserve("c", 1).send == []
    assert names(tenant.settle(grant, 10)) == ["b", "c"]


def test_a_full_queue_skips_retryably() -> None:
    tenant = Tenant(max_concurrent=1, max_queue=2)
    for name in "abc":
        tenant.reserve(name, 1)
    refused = outcomes(tenant.reserve("d", 1))["d"]
    assert isinstance(refused, Skipped)
    assert (refused.reason, refused.details["retryable"]) == ("budget", True)
    assert tenant.ledger.waiting == 2


# --- exhaustion -------------------------------------------------------------------------------------------------------


def test_when_the_budget_is_spent_waiting_tasks_are_deferred_to_midnight_once() -> None:
    tenant = Tenant()
    tenant.spend(90)
    told = outcomes(tenant.reserve("a"))["a"]
    assert isinstance(told, Deferred)
    assert (told.reason, told.retry_at) == ("budget", MIDNIGHT)
    assert list(outcomes(tenant.reserve("b"))) == ["b"]
    assert tenant.do(Wake(tenant_id=TENANT)).send == []
    assert tenant.ledger.waiting == 2


def test_reset_at_is_the_rows_midnight_though_the_clock_stepped_back_a_day() -> None:
    tenant = Tenant()
    tenant.spend(90)
    tenant.time_ms -= 24 * HOUR
    assert outcomes(tenant.reserve("a"))["a"].retry_at == MIDNIGHT
    assert tenant.ledger.day == "2026-11-22"


def test_ocr_instead_if_allowed_within_the_slots() -> None:
    tenant = Tenant(ocr_fallback=True)
    tenant.spend(90)
    given = [grant for name in "abcd" for grant in granted(tenant.reserve(name, ocr=True))]
    assert [(grant.task.post_id, grant.provider, grant.estimate) for grant in given] == [
        ("a", "ocr_fallback", 0),
        ("b", "ocr_fallback", 0),
        ("c", "ocr_fallback", 0),
    ]
    assert names(tenant.release(given[0])) == ["d"]


@pytest.mark.parametrize(("policy", "allowed"), [(True, False), (False, True)])
def test_no_ocr_unless_policy_and_medium_allow_it(policy: bool, allowed: bool) -> None:
    tenant = Tenant(ocr_fallback=policy)
    tenant.spend(90)
    assert isinstance(outcomes(tenant.reserve("a", ocr=allowed))["a"], Deferred)


def test_a_repair_is_never_done_by_ocr() -> None:
    tenant = Tenant(ocr_fallback=True)
    tenant.spend(90)
    repair = Reserve(tenant_id=TENANT, task=task("a", ocr=True), estimate=40, purpose="repair")
    assert isinstance(outcomes(tenant.do(repair))["a"], Deferred)


def test_a_head_that_got_ocr_no_longer_blocks_the_queue() -> None:
    tenant = Tenant(ocr_fallback=True)
    [blocking] = granted(tenant.reserve("s", 90))
    tenant.reserve("dear", 60, ocr=True)
    tenant.reserve("cheap", 5)
    done = tenant.settle(blocking, 90)
    assert [(g.task.post_id, g.provider) for g in granted(done)] == [("dear", "ocr_fallback"), ("cheap", "gigachat")]


def test_deferrals_continue_a_hundred_at_a_time_by_a_wake_to_itself() -> None:
    tenant = Tenant()
    [blocking] = granted(tenant.reserve("s", 90))
    for number in range(2 * BOUNDS.announced_per_command + 50):
        tenant.reserve(f"n{number}")
    decision, told, wakes = tenant.settle(blocking, 90), 0, 0
    while True:
        told += len(outcomes(decision))
        assert len(outcomes(decision)) <= BOUNDS.announced_per_command
        wake = [message for message in decision.send if isinstance(message, Wake)]
        if not wake:
            break
        wakes += len(wake)
        decision = tenant.do(wake[0])
    assert (told, wakes) == (2 * BOUNDS.announced_per_command + 50, 2)


def test_an_estimate_above_the_days_limit_is_deferred_and_blocks_no_other_task() -> None:
    tenant = Tenant()
    told = outcomes(tenant.reserve("dear", 101))["dear"]
    assert isinstance(told, Deferred)
    assert told.retry_at == MIDNIGHT
    assert (told.details["estimated_tokens"], told.details["limit"]) == (101, 100)
    assert names(tenant.reserve("a", 60)) == ["a"]
    assert tenant.ledger.waiting == 1
    assert names(tenant.do(SetLimit(tenant_id=TENANT, limit=200))) == ["dear"]


def test_a_limit_below_one_reservation_keeps_what_waits_in_its_place() -> None:
    """`vision budget set 0`: six tasks wait, are told when they go on, and go on in order with the old limit."""
    tenant = Tenant(max_concurrent=1)
    [spender] = granted(tenant.reserve("spender", 10))
    for number in range(6):
        tenant.reserve(f"n{number}", 10)
    told = outcomes(tenant.do(SetLimit(tenant_id=TENANT, limit=0)))
    assert list(told) == [f"n{number}" for number in range(6)]
    assert all(isinstance(outcome, Deferred) and outcome.retry_at == MIDNIGHT for outcome in told.values())
    assert outcomes(tenant.reserve("new", 10))["new"] == told["n0"], "one published since is treated alike"
    assert tenant.settle(spender, 10).send == [], "told once, not at every command"
    order = []
    decision = tenant.do(SetLimit(tenant_id=TENANT, limit=100))
    while given := granted(decision):
        order += names(decision)
        decision = tenant.settle(given[0], 1)
    assert order == [*(f"n{number}" for number in range(6)), "new"]
    assert (tenant.ledger.waiting, tenant.ledger.holes, tenant.parked) == (0, [], {})


def test_a_limit_between_two_estimates_grants_the_cheaper_task_and_keeps_the_dearer_one_queued() -> None:
    tenant = Tenant(max_concurrent=1)
    [spender] = granted(tenant.reserve("spender", 10))
    for name, estimate in (("dear1", 80), ("cheap1", 10), ("dear2", 80), ("cheap2", 10)):
        tenant.reserve(name, estimate)
    told = outcomes(tenant.do(SetLimit(tenant_id=TENANT, limit=50)))
    assert list(told) == ["dear1"], "the others wait for the slot"
    free = tenant.settle(spender, 1)
    assert (names(free), list(outcomes(free))) == (["cheap1"], ["dear2"])
    after = tenant.settle(granted(free)[0], 1)
    assert (names(after), outcomes(after)) == (["cheap2"], {})
    tenant.settle(granted(after)[0], 1)
    assert names(tenant.do(SetLimit(tenant_id=TENANT, limit=90))) == ["dear1"]


def test_a_task_above_the_limit_is_deferred_again_each_day() -> None:
    tenant = Tenant()
    tenant.reserve("dear", 101)
    tenant.time_ms += 12 * HOUR
    told = outcomes(tenant.do(Wake(tenant_id=TENANT)))["dear"]
    assert (told.kind, told.retry_at) == ("deferred", datetime(2026, 11, 24, tzinfo=UTC))


def test_tasks_above_the_limit_do_not_count_toward_the_queues_maximum() -> None:
    tenant = Tenant(max_concurrent=1, max_queue=10)
    kinds = [outcomes(tenant.reserve(f"dear{number}", 101))[f"dear{number}"].kind for number in range(7)]
    assert kinds == ["deferred"] * 5 + ["skipped"] * 2
    tenant.reserve("spender", 1)
    for number in range(5):
        assert tenant.reserve(f"n{number}", 1).send == []
    assert outcomes(tenant.reserve("one too many", 1))["one too many"].kind == "skipped"


def test_tasks_above_a_lowered_limit_are_deferred_a_hundred_at_a_time() -> None:
    tenant = Tenant(max_concurrent=1)
    tenant.reserve("spender", 10)
    for number in range(2 * BOUNDS.announced_per_command + 50):
        tenant.reserve(f"n{number}", 10)
    decision, told, wakes = tenant.do(SetLimit(tenant_id=TENANT, limit=5)), 0, 0
    while True:
        assert len(outcomes(decision)) <= BOUNDS.announced_per_command
        told += len(outcomes(decision))
        wake = [message for message in decision.send if isinstance(message, Wake)]
        if not wake:
            break
        wakes += len(wake)
        decision = tenant.do(wake[0])
    assert (told, wakes) == (2 * BOUNDS.announced_per_command + 50, 2)
    assert len(tenant.ledger.encode()) < 5_000


def test_an_estimate_over_the_limit_gets_ocr_if_allowed() -> None:
    tenant = Tenant(ocr_fallback=True)
    [grant] = granted(tenant.reserve("a", 101, ocr=True))
    assert (grant.provider, grant.estimate) == ("ocr_fallback", 0)


def test_a_lowered_limit_defers_tasks_above_it_anywhere_in_the_queue() -> None:
    tenant = Tenant()
    tenant.spend(90)
    tenant.reserve("a", 20)
    tenant.reserve("b", 80)
    told = outcomes(tenant.do(SetLimit(tenant_id=TENANT, limit=50)))
    assert {name: type(outcome) for name, outcome in told.items()} == {"a": Deferred, "b": Deferred}
    assert tenant.ledger.waiting == 2


def test_the_gaps_of_the_queue_stay_small_however_many_pass_the_one_that_waits() -> None:
    tenant = Tenant(ocr_fallback=True, max_concurrent=1)
    tenant.spend(90)
    tenant.reserve("stuck")
    open_grants = [grant for n in range(5) for grant in granted(tenant.reserve(f"x{n}", ocr=True))]
    for number in range(500):  # there is always a later one that waits for the slot
        open_grants += granted(tenant.reserve(f"o{number}", ocr=True))
        open_grants += granted(tenant.release(open_grants.pop(0)))
    assert tenant.ledger.first < tenant.ledger.next - 400
    assert len(tenant.ledger.holes) == 1
    assert tenant.ledger.waiting == len(tenant.parked)
    assert len(tenant.ledger.encode()) < 5_000


# --- how grants end ---------------------------------------------------------------------------------------------------


def test_settled_once_whatever_is_repeated() -> None:
    tenant = Tenant()
    [grant] = granted(tenant.reserve("a"))
    tenant.settle(grant, 30)
    again = tenant.settle(grant, 30)
    assert (tenant.ledger.spent, seen(again)) == (30, ["duplicate"])


def test_a_released_grant_that_turns_out_paid_is_charged() -> None:
    tenant = Tenant()
    [grant] = granted(tenant.reserve("a"))
    tenant.release(grant)
    assert (tenant.ledger.spent, tenant.ledger.reserved) == (0, 0)
    tenant.settle(grant, 30)
    tenant.settle(grant, 30)
    tenant.release(grant)
    assert tenant.ledger.spent == 30


def test_a_lost_call_is_charged_its_estimate_and_its_task_asks_again() -> None:
    tenant = Tenant()
    [grant] = granted(tenant.reserve("a", 40))
    [second] = granted(tenant.lost(grant))
    assert (tenant.ledger.spent, second.task.post_id, second.id != grant.id) == (40, "a", True)
    assert granted(tenant.lost(grant)) == []


@pytest.mark.parametrize(("tokens", "spent"), [(30, 40), (40, 40), (55, 55)])
def test_a_lost_call_that_settles_after_all_costs_the_higher_of_the_two(tokens: int, spent: int) -> None:
    tenant = Tenant(limit=1000)
    [grant] = granted(tenant.reserve("a", 40))
    [second] = granted(tenant.lost(grant))
    tenant.settle(grant, tokens)
    assert tenant.ledger.spent == spent
    assert granted(tenant.lost(grant)) == []
    tenant.release(second)


def test_lost_after_release_charges_and_asks_again() -> None:
    tenant = Tenant()
    [grant] = granted(tenant.reserve("a", 40))
    tenant.release(grant)
    assert names(tenant.lost(grant)) == ["a"]
    assert tenant.ledger.spent == 40


def test_a_settlement_older_than_the_rows_memory_is_ignored_and_counted() -> None:
    tenant = Tenant(limit=1000)
    [old] = granted(tenant.reserve("a", 1))
    tenant.settle(old, 1)
    tenant.settle_others(BOUNDS.settled_remembered)
    assert len(tenant.ledger.closed) == BOUNDS.settled_remembered
    spent = tenant.ledger.spent
    assert "late_settle" in seen(tenant.settle(old, 500))
    assert tenant.ledger.spent == spent


def test_a_lost_older_than_the_rows_memory_charges_nothing_but_keeps_its_task() -> None:
    tenant = Tenant(limit=1000)
    [old] = granted(tenant.reserve("a", 1))
    tenant.settle(old, 1)
    tenant.settle_others(BOUNDS.settled_remembered)
    spent = tenant.ledger.spent
    late = tenant.lost(old)
    assert ("late_lost" in seen(late), names(late), tenant.ledger.spent) == (True, ["a"], spent)


def test_a_grant_of_a_lost_ledger_is_charged_here_once() -> None:
    before = Tenant()
    [grant] = granted(before.reserve("a"))
    after = Tenant()
    after.row = None
    after.time_ms += HOUR
    after.do(Load(tenant_id=TENANT, day="2026-11-22", spent=0))
    after.settle(grant, 30)
    after.settle(grant, 30)
    assert after.ledger.spent == 30
    assert granted(after.reserve("b"))[0].id != grant.id


def test_two_births_and_two_tenants_never_share_a_grant_id_though_all_else_repeats() -> None:
    ids = set()
    for born in ("one", "other"):
        for tenant_id in ("t", "u"):
            at = Moment(time_ms=NOON, offset=0)  # the same record, read again after the ledger was lost (same offset)
            reserve = Reserve(tenant_id=tenant_id, task=task("a"), estimate=1)
            born_row = decide(None, reserve, at, BudgetRules(limit=9), lambda n: None, born)
            load = Load(tenant_id=tenant_id, day=at.day, spent=0)
            later = Moment(time_ms=NOON + 9, offset=1)
            given = decide(born_row.row, load, later, BudgetRules(limit=9), born_row.park.get, "unused")
            ids |= {g.id for g in granted(given)}
    assert len(ids) == 4


def test_no_grant_is_given_before_its_ledgers_name_is_stored() -> None:
    for command in (
        Load(tenant_id=TENANT, day="2026-11-22", spent=0),
        Reserve(tenant_id=TENANT, task=task("a"), estimate=1),
        Resume(tenant_id=TENANT),
    ):
        assert granted(decide(None, command, Moment(NOON, 0), BudgetRules(limit=9), lambda n: None, "x")) == []


def test_decided_again_under_other_rules_a_command_gives_no_id_to_another_task() -> None:
    """The worker sent a grant, died before the row was written, and came back with half the limit."""
    tenant = Tenant(limit=100)
    row, at = tenant.row, Moment(time_ms=NOON + 100, offset=50)
    reserve = Reserve(tenant_id=TENANT, task=task("a"), estimate=80)
    [phantom] = granted(decide(row, reserve, at, tenant.rules, tenant.parked.get))
    tenant.rules = BudgetRules(limit=50)
    assert granted(tenant.do(reserve, at=at)) == []
    tenant.time_ms, tenant.offset = at.time_ms, at.offset
    [other] = granted(tenant.reserve("b", 10))
    assert other.id != phantom.id
    tenant.settle(phantom, 30)
    assert tenant.ledger.spent == 30, "it was paid, though this row never gave it"


def test_a_grant_of_an_abandoned_decision_is_still_charged() -> None:
    """Its number is smaller than those settled and forgotten meanwhile. It must not look settled because of that."""
    tenant = Tenant(limit=100)
    tenant.reserve("dear", 120)
    tenant.settle_others(BOUNDS.settled_remembered + 5)
    tenant.do(Reset(tenant_id=TENANT))
    row, at = tenant.row, Moment(time_ms=tenant.time_ms + 1, offset=tenant.offset + 1)
    raised = SetLimit(tenant_id=TENANT, limit=200)
    [phantom] = granted(decide(row, raised, at, tenant.rules, tenant.parked.get))  # the worker dies before the row
    assert phantom.task.post_id == "dear"
    tenant.do(Pause(tenant_id=TENANT), at=Moment(time_ms=at.time_ms, offset=at.offset + 1))
    tenant.offset, tenant.time_ms = at.offset + 1, at.time_ms
    spent = tenant.ledger.spent
    tenant.settle(phantom, 110)
    assert tenant.ledger.spent == spent + 110


def test_a_released_grant_is_charged_when_it_turns_out_paid_however_late() -> None:
    tenant = Tenant(limit=10_000)
    [old] = granted(tenant.reserve("a"))
    tenant.release(old)
    tenant.settle_others(3 * BOUNDS.settled_remembered)
    spent = tenant.ledger.spent
    tenant.settle(old, 30)
    tenant.settle(old, 30)
    assert tenant.ledger.spent == spent + 30


def test_beyond_the_memory_of_released_grants_too_much_is_charged_never_too_little() -> None:
    tenant = Tenant(limit=10_000)
    [settled_] = granted(tenant.reserve("paid"))
    tenant.settle(settled_, 10)
    given = []
    for number in range(BOUNDS.unsettled_remembered + 1):
        given += granted(tenant.reserve(f"n{number}"))
        tenant.release(given[-1])
    tenant.settle_others(BOUNDS.settled_remembered)
    assert len(tenant.ledger.closed) == BOUNDS.settled_remembered + BOUNDS.unsettled_remembered
    assert len(tenant.ledger.encode()) < 12_000
    spent = tenant.ledger.spent
    for grant in given:
        tenant.settle(grant, 30)
    assert tenant.ledger.spent == spent + 30 * len(given)
    tenant.settle(settled_, 10)
    assert tenant.ledger.spent == spent + 30 * len(given) + 10, "older than what was forgotten: in doubt, charged"


def test_ocr_grants_fill_no_memory_that_paid_ones_need() -> None:
    tenant = Tenant(limit=1000, ocr_fallback=True)
    [old] = granted(tenant.reserve("a"))
    tenant.release(old)
    tenant.spend(960)
    for number in range(2 * BOUNDS.unsettled_remembered):
        [ocr] = granted(tenant.reserve(f"n{number}", 50, ocr=True))
        tenant.release(ocr)
    tenant.settle(old, 30)
    assert tenant.ledger.spent == 990


def test_a_grant_open_for_a_day_is_charged_by_wake_and_its_task_is_granted_anew() -> None:
    """Its message is gone: the topic was recreated or offsets were moved. Its end would never be reported."""
    tenant = Tenant()
    [grant] = granted(tenant.reserve("a", 40))
    tenant.time_ms += LOST_AFTER_MS - 2
    tenant.do(Wake(tenant_id=TENANT))
    assert tenant.ledger.reserved == 40
    [again] = granted(tenant.do(Wake(tenant_id=TENANT)))
    assert (again.task.post_id, again.id != grant.id) == ("a", True)
    assert (tenant.ledger.reserved, tenant.ledger.spent) == (40, 40)
    assert granted(tenant.lost(grant)) == [], "it does report itself after all: the task waits already"
    tenant.settle(again, 0)
    assert (tenant.ledger.reserved, tenant.ledger.spent) == (0, 40)


def test_a_task_too_large_for_the_row_is_charged_by_wake_and_queued_when_it_reports_itself() -> None:
    tenant = Tenant()
    large = task("a").model_copy(update={"trace_id": "x" * KEPT_TASK_BYTES})
    [grant] = granted(tenant.do(Reserve(tenant_id=TENANT, task=large, estimate=40)))
    assert len(tenant.ledger.encode()) < KEPT_TASK_BYTES
    tenant.time_ms += LOST_AFTER_MS
    assert granted(tenant.do(Wake(tenant_id=TENANT))) == []
    assert tenant.ledger.spent == 40
    assert names(tenant.lost(grant)) == [large.post_id]
    assert tenant.ledger.spent == 40


# --- a deployment or the policy file changes the rules ----------------------------------------------------------------


def test_a_limit_raised_by_a_deployment_lets_the_queue_go_on_at_the_next_wake() -> None:
    tenant = Tenant()
    tenant.spend(90)
    tenant.reserve("a")
    assert not outlived(tenant.ledger, tenant.rules)
    tenant.rules = BudgetRules(limit=200)
    assert outlived(tenant.ledger, tenant.rules)
    assert names(tenant.do(Wake(tenant_id=TENANT))) == ["a"]
    assert not outlived(tenant.ledger, tenant.rules)


def test_ocr_allowed_by_a_new_policy_serves_those_who_were_deferred_before() -> None:
    tenant = Tenant()
    tenant.spend(90)
    assert isinstance(outcomes(tenant.reserve("a", ocr=True))["a"], Deferred)
    tenant.rules = BudgetRules(limit=100, ocr_fallback=True)
    assert outlived(tenant.ledger, tenant.rules)
    [grant] = granted(tenant.do(Wake(tenant_id=TENANT)))
    assert (grant.task.post_id, grant.provider) == ("a", "ocr_fallback")


def test_a_tenants_own_limit_is_not_outlived_by_a_deployments() -> None:
    tenant = Tenant()
    tenant.do(SetLimit(tenant_id=TENANT, limit=70))
    assert not outlived(tenant.ledger, BudgetRules(limit=10**6))


# --- days -------------------------------------------------------------------------------------------------------------


def test_midnight_zeroes_spent_carries_grants_over_and_serves_the_queue() -> None:
    tenant = Tenant()
    tenant.spend(60)
    [grant] = granted(tenant.reserve("a", 40))
    tenant.reserve("b", 50)
    tenant.time_ms += 12 * HOUR
    woken = tenant.do(Wake(tenant_id=TENANT))
    assert names(woken) == ["b"]
    assert (tenant.ledger.day, tenant.ledger.spent, tenant.ledger.reserved) == ("2026-11-23", 0, 90)
    tenant.settle(grant, 40)
    assert tenant.ledger.spent == 40


def test_a_clock_that_steps_back_over_midnight_gives_no_second_day() -> None:
    tenant = Tenant()
    tenant.time_ms += 12 * HOUR
    tenant.spend(100)
    tenant.time_ms -= HOUR
    assert granted(tenant.reserve("a", 1)) == []
    tenant.time_ms += HOUR
    assert granted(tenant.reserve("b", 1)) == []


def test_a_view_after_midnight_shows_the_new_day_before_any_command_came() -> None:
    tenant = Tenant()
    tenant.spend(60)
    tenant.time_ms += 12 * HOUR
    assert (tenant.view["day"], tenant.view["spent"]) == ("2026-11-23", 0)
    assert tenant.view["reset_at"] == "2026-11-24T00:00:00+00:00"
    assert tenant.ledger.spent == 60


# --- operators --------------------------------------------------------------------------------------------------------


def test_reset_zeroes_spent_only_and_serves_the_queue() -> None:
    tenant = Tenant()
    tenant.spend(60)
    tenant.reserve("a", 40)
    tenant.reserve("b", 50)
    assert names(tenant.do(Reset(tenant_id=TENANT))) == ["b"]
    assert (tenant.ledger.spent, tenant.ledger.reserved) == (0, 90)


def test_a_raised_limit_serves_the_queue_and_none_means_the_default() -> None:
    tenant = Tenant()
    tenant.spend(90)
    tenant.reserve("a")
    assert names(tenant.do(SetLimit(tenant_id=TENANT, limit=200))) == ["a"]
    tenant.do(SetLimit(tenant_id=TENANT, limit=None))
    assert effective_limit(tenant.ledger, tenant.rules) == 100


def test_a_lowered_limit_takes_no_grant_away_but_starts_nothing_new() -> None:
    tenant = Tenant()
    tenant.reserve("a", 60)
    tenant.do(SetLimit(tenant_id=TENANT, limit=50))
    assert tenant.ledger.reserved == 60
    assert tenant.reserve("b", 10).send == []


def test_paused_nothing_is_granted_or_announced_until_resumed() -> None:
    tenant = Tenant()
    tenant.do(Pause(tenant_id=TENANT))
    assert tenant.reserve("a").send == []
    assert tenant.do(Wake(tenant_id=TENANT)).send == []
    assert names(tenant.do(Resume(tenant_id=TENANT))) == ["a"]


# --- loading ----------------------------------------------------------------------------------------------------------


def test_without_a_row_tasks_wait_until_todays_spending_is_loaded() -> None:
    tenant = Tenant(loaded=False)
    first = tenant.reserve("a", 40)
    assert (first.load, first.send) == (True, [])
    loaded = tenant.do(Load(tenant_id=TENANT, day="2026-11-22", spent=70, limit=120))
    assert (names(loaded), loaded.load, tenant.ledger.spent) == (["a"], False, 70)
    tenant.do(Load(tenant_id=TENANT, day="2026-11-22", spent=70, limit=120))
    assert tenant.ledger.spent == 70


def test_a_load_of_another_day_adds_nothing() -> None:
    tenant = Tenant(loaded=False)
    tenant.do(Load(tenant_id=TENANT, day="2026-11-21", spent=70))
    assert (tenant.ledger.spent, tenant.ledger.loaded) == (0, True)


def test_an_operators_command_before_the_load_is_kept() -> None:
    tenant = Tenant(loaded=False)
    tenant.do(SetLimit(tenant_id=TENANT, limit=10))
    tenant.do(Reset(tenant_id=TENANT))
    tenant.do(Load(tenant_id=TENANT, day="2026-11-22", spent=70, limit=120))
    assert (tenant.ledger.spent, tenant.ledger.limit) == (0, 10)


def test_a_reset_of_yesterday_does_not_hide_what_today_was_spent() -> None:
    tenant = Tenant(loaded=False)
    tenant.do(Reset(tenant_id=TENANT))
    tenant.time_ms += 12 * HOUR
    tenant.do(Load(tenant_id=TENANT, day="2026-11-23", spent=70))
    assert tenant.ledger.spent == 70


def test_a_wake_makes_no_row() -> None:
    assert Tenant(loaded=False).do(Wake(tenant_id=TENANT)).row is None


# --- the same command again -------------------------------------------------------------------------------------------


def test_a_redelivered_command_is_recognised() -> None:
    tenant = Tenant()
    tenant.reserve("a")
    again = tenant.do(
        Reserve(tenant_id=TENANT, task=task("a"), estimate=40), at=Moment(time_ms=tenant.time_ms, offset=tenant.offset)
    )
    assert (again.row, again.send, seen(again)) == (None, [], ["duplicate"])


def test_redelivered_before_the_row_was_written_it_decides_the_same() -> None:
    tenant = Tenant()
    tenant.spend(90)
    row, parked = tenant.row, dict(tenant.parked)
    at = Moment(time_ms=tenant.time_ms + 1, offset=tenant.offset + 1)
    command = Reserve(tenant_id=TENANT, task=task("a"), estimate=40)
    first = decide(row, command, at, tenant.rules, parked.get)
    again = decide(row, command, at, tenant.rules, (parked | first.park).get)
    assert first == again


def test_a_recreated_topic_is_not_mistaken_for_old_commands() -> None:
    tenant = Tenant()
    tenant.reserve("a")
    new = Moment(time_ms=tenant.time_ms + HOUR, offset=0)
    assert names(tenant.do(Reserve(tenant_id=TENANT, task=task("b"), estimate=40), at=new)) == ["b"]


def test_a_command_from_before_a_step_back_of_the_clock_is_still_recognised() -> None:
    tenant = Tenant()
    tenant.reserve("a", 10)
    before = Moment(time_ms=tenant.time_ms, offset=tenant.offset)
    tenant.time_ms -= 1000
    tenant.reserve("b", 10)
    again = tenant.do(Reserve(tenant_id=TENANT, task=task("a"), estimate=10), at=before)
    assert seen(again) == ["duplicate"]


def test_a_recovered_row_never_steps_back() -> None:
    held = Applied(offset=5, time_ms=100)
    assert held.newer_than(Applied(offset=4, time_ms=100))
    assert not held.newer_than(held)
    assert not held.newer_than(Applied(offset=0, time_ms=200))
    assert held.then(Moment(time_ms=90, offset=6)).newer_than(held)


def test_a_missing_parked_task_is_skipped_and_reported() -> None:
    tenant = Tenant(max_concurrent=1)
    [grant] = granted(tenant.reserve("a"))
    tenant.reserve("b")
    tenant.reserve("c")
    del tenant.parked[tenant.ledger.first]
    tenant.parked[-1] = next(iter(tenant.parked.values()))  # garbage outside of the bounds is never read
    decision = decide(
        tenant.row, Release(tenant_id=TENANT, grant_id=grant.id), Moment(NOON * 2, 99), tenant.rules, tenant.parked.get
    )
    assert ("missing_parked" in seen(decision), names(decision)) == (True, ["c"])


def test_a_message_that_is_not_a_command_is_rejected() -> None:
    with pytest.raises(TypeError, match="no budget command"):
        Tenant().do(cast(Any, task("a")))


def test_row_and_parked_survive_their_encoding() -> None:
    tenant = Tenant(ocr_fallback=True)
    tenant.spend(90)
    tenant.reserve("stuck")
    tenant.reserve("o", ocr=True)
    tenant.reserve("b")
    stored: Callable[[Any], Any] = type(tenant.ledger).model_validate_json
    assert stored(tenant.ledger.encode()) == tenant.ledger
    for entry in tenant.parked.values():
        assert Parked.model_validate(entry.model_dump(mode="json")) == entry
