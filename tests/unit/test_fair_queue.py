"""Turns of tenants: a tenant that sends much delays only itself."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from bridges.fair_queue import FairQueue, Held


def held(tenant: str, number: int) -> Held:
    return Held("stream", str(number).encode(), None, tenant, f"post-{number}", attempt=True)


def filled(tenants: str) -> FairQueue:
    queue = FairQueue()
    for number, tenant in enumerate(tenants):
        queue.put(held(tenant, number))
    return queue


def take(queue: FairQueue, count: int, may_go: Callable[[str], bool] = lambda tenant: True) -> list[Held]:
    return [held for _ in range(count) if (held := queue.take(may_go))]


def test_tenants_take_turns() -> None:
    queue = filled("aaaaaabbc")
    assert "".join(each.tenant_id for each in take(queue, 100)) == "abcabaaaa"
    assert len(queue) == 0


def test_a_new_tenant_is_served_in_the_next_round() -> None:
    queue = filled("a" * 1000 + "b" * 1000)
    take(queue, 10)
    queue.put(held("late", 1))
    assert "late" in {each.tenant_id for each in take(queue, 3)}


@given(st.text("abcd", max_size=50), st.lists(st.integers(0, 7), max_size=30))
def test_nothing_is_lost_and_a_tenants_entries_stay_in_order(tenants: str, takes: list[int]) -> None:
    queue, taken = filled(tenants), list[Held]()
    for count in takes:
        batch = take(queue, count)
        assert len(batch) <= count
        taken += batch
        assert len(queue) == len(tenants) - len(taken)
    taken += take(queue, len(tenants))
    assert sorted(int(each.entry_id) for each in taken) == list(range(len(tenants)))
    for tenant in set(tenants):
        own = [int(each.entry_id) for each in taken if each.tenant_id == tenant]
        assert own == sorted(own)


@given(st.text("abcd", min_size=1, max_size=50))
def test_no_tenant_gets_a_second_turn_before_every_tenant_had_one(tenants: str) -> None:
    first_round = take(filled(tenants), len(set(tenants)))
    assert {each.tenant_id for each in first_round} == set(tenants)


def test_a_tenant_without_room_is_skipped_and_keeps_its_place() -> None:
    queue = filled("aabbc")
    assert "".join(each.tenant_id for each in take(queue, 2, lambda tenant: tenant != "a")) == "bc"
    assert "".join(each.tenant_id for each in take(queue, 9)) == "aba"
