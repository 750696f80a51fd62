"""An operator's changes to a tenant's budget, in the core: dropping waiting tasks, pausing; and a new day."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.test_budget import HOUR, MIDNIGHT, NOON, TENANT, Tenant, granted, names, outcomes, seen
from vision_app.domain.budget import Bounds
from vision_app.domain.moment import Moment
from vision_app.messages import Deferred, Drop, Load, Pause, Reset, Resume, SetLimit, Skipped, Wake

AT_ONCE = Bounds().announced_per_command


def paused_queue(count: int, **more: Any) -> Tenant:
    tenant = Tenant(**more)
    tenant.do(Pause(tenant_id=TENANT))
    for number in range(count):
        tenant.reserve(f"p{number}", 10)
    return tenant


# --- drop -------------------------------------------------------------------------------------------------------------


def test_all_that_wait_are_dropped_and_answered_as_skipped() -> None:
    tenant = paused_queue(3)
    dropped = outcomes(tenant.do(Drop(tenant_id=TENANT)))
    assert list(dropped) == ["p0", "p1", "p2"]
    assert dropped["p1"] == Skipped(reason="budget", details={"dropped": True, "retryable": True})
    assert (tenant.ledger.waiting, tenant.parked, tenant.ledger.holes) == (0, {}, [])
    assert tenant.do(Resume(tenant_id=TENANT)).send == []


@pytest.mark.parametrize("number", [0, 1, 3])
def test_one_is_dropped_and_the_others_keep_their_order(number: int) -> None:
    tenant = paused_queue(4)
    assert list(outcomes(tenant.do(Drop(tenant_id=TENANT, first=number, before=number + 1)))) == [f"p{number}"]
    assert tenant.ledger.waiting == 3
    assert set(tenant.parked) == {0, 1, 2, 3} - {number}
    again = tenant.do(Drop(tenant_id=TENANT, first=number, before=number + 1))
    assert again.send == []
    left = [f"p{n}" for n in range(4) if n != number]
    assert names(tenant.do(Resume(tenant_id=TENANT))) == left


def test_numbers_outside_of_the_queue_drop_no_task() -> None:
    tenant = paused_queue(2)
    assert tenant.do(Drop(tenant_id=TENANT, first=2, before=9)).send == []
    assert tenant.do(Drop(tenant_id=TENANT, first=1, before=1)).send == []
    assert tenant.ledger.waiting == 2


def test_a_long_queue_is_dropped_in_pieces_and_later_tasks_stay() -> None:
    tenant = paused_queue(2 * AT_ONCE + 5)
    decision = tenant.do(Drop(tenant_id=TENANT))
    tenant.reserve("later", 10)
    pieces = [len(outcomes(decision))]
    while drops := [message for message in decision.send if isinstance(message, Drop)]:
        decision = tenant.do(drops[0])
        pieces.append(len(outcomes(decision)))
    assert pieces == [AT_ONCE, AT_ONCE, 5]
    assert [waiting.task.post_id for waiting in tenant.parked.values()] == ["later"]


def test_exactly_a_piece_needs_no_second_command() -> None:
    tenant = paused_queue(AT_ONCE)
    assert not any(isinstance(message, Drop) for message in tenant.do(Drop(tenant_id=TENANT)).send)


def test_a_dropped_task_whose_entry_is_gone_is_counted_and_no_hole_stays_behind() -> None:
    tenant = paused_queue(3)
    del tenant.parked[1]
    decision = tenant.do(Drop(tenant_id=TENANT))
    assert list(outcomes(decision)) == ["p0", "p2"]
    assert seen(decision) == ["missing_parked"]
    assert (tenant.ledger.waiting, tenant.ledger.first) == (0, 3)


def test_dropping_the_head_lets_the_next_one_go() -> None:
    tenant = Tenant(limit=100)
    tenant.reserve("spender", 60)
    tenant.reserve("large", 90)
    tenant.reserve("small", 40)
    decision = tenant.do(Drop(tenant_id=TENANT, first=1, before=2))
    assert list(outcomes(decision)) == ["large"]
    assert names(decision) == ["small"]


def test_deferred_tasks_can_be_dropped() -> None:
    tenant = Tenant(limit=100)
    tenant.spend(100)
    assert isinstance(outcomes(tenant.reserve("a", 10))["a"], Deferred)
    assert isinstance(outcomes(tenant.do(Drop(tenant_id=TENANT)))["a"], Skipped)


# --- pause and what is loaded -----------------------------------------------------------------------------------------


def test_a_lost_ledger_is_paused_again_unless_an_operator_said_otherwise_since() -> None:
    lost = Tenant(loaded=False)
    lost.do(Load(tenant_id=TENANT, day="2026-11-22", spent=0, paused=True))
    assert granted(lost.reserve("a", 10)) == []
    resumed = Tenant(loaded=False)
    resumed.do(Resume(tenant_id=TENANT))
    resumed.do(Load(tenant_id=TENANT, day="2026-11-22", spent=0, paused=True))
    assert names(resumed.reserve("a", 10)) == ["a"]


# --- midnight ---------------------------------------------------------------------------------------------------------


def test_after_midnight_who_was_deferred_is_granted_without_being_published_again() -> None:
    tenant = Tenant(limit=100)
    tenant.spend(100)
    deferred = outcomes(tenant.reserve("a", 60))["a"]
    assert deferred.retry_at == MIDNIGHT
    day_later = Moment(time_ms=NOON + 12 * HOUR, offset=tenant.offset + 1)
    assert names(tenant.do(Wake(tenant_id=TENANT), at=day_later)) == ["a"]
    assert (tenant.ledger.day, tenant.ledger.spent, tenant.ledger.reserved) == ("2026-11-23", 0, 60)


def test_a_grant_open_over_midnight_is_charged_to_the_day_in_which_it_settles() -> None:
    tenant = Tenant(limit=100)
    [grant] = granted(tenant.reserve("a", 60))
    tenant.time_ms = round(datetime(2026, 11, 23, 0, 0, 1, tzinfo=UTC).timestamp() * 1000)
    tenant.settle(grant, 50)
    assert (tenant.ledger.day, tenant.ledger.spent) == ("2026-11-23", 50)


def test_a_reset_and_a_raised_limit_let_the_deferred_go() -> None:
    for command in (Reset(tenant_id=TENANT), SetLimit(tenant_id=TENANT, limit=200)):
        tenant = Tenant(limit=100)
        tenant.spend(100)
        tenant.reserve("a", 60)
        assert names(tenant.do(command)) == ["a"]
