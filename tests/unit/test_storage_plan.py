"""The clean-up's planner: protected objects stay, the target is reached if possible, the largest give up first."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from vision_app.domain.storage import (
    CLEANED,
    DAY,
    Aim,
    CleanupTally,
    Deletion,
    Kind,
    StorageLimits,
    StoredObject,
    ages,
    expired,
    level_down,
    plan,
    plan_deletions,
    protection,
    stale,
)

NOW = 1_795_000_000.0
LIMITS = StorageLimits(
    total_bytes=1500,
    emergency_bytes=1400,
    target_bytes=1200,
    tenant_bytes=400,
    type_bytes={"media": 1000, "vision": 400, "crawl": 200},
    ttl={"media": 30 * DAY, "vision": 14 * DAY, "crawl": 7 * DAY},
    emergency_age={"vision": 7 * DAY, "crawl": 3 * DAY},
    upload_grace=14 * DAY,
    call_record_age=14 * DAY,
)
MANUAL = Aim("manual")


def stored(
    number: int = 0,
    tenant: str = "a",
    kind: Kind = "media",
    size: int = 10,
    days: float = 1.0,
    seen: float | None = -1.0,
) -> StoredObject:
    """An object `days` old. A post listed it `seen` days ago; by default at the upload, never if None."""
    modified = NOW - days * DAY
    at = modified if seen == -1.0 else None if seen is None else NOW - seen * DAY
    return StoredObject(f"{kind}/{tenant}/{number:06}", tenant, kind, size, modified, at)


def planned(objects: list[StoredObject], aim: Aim | None = None, limits: StorageLimits = LIMITS) -> list[Deletion]:
    return list(plan_deletions(lambda: ages(objects), limits, aim or Aim(), NOW))


def left(objects: list[StoredObject], deletions: list[Deletion]) -> list[StoredObject]:
    gone = {deletion.key for deletion in deletions}
    assert len(gone) == len(deletions)
    return [item for item in objects if item.key not in gone]


def total(objects: list[StoredObject]) -> int:
    return sum(item.size_bytes for item in objects)


# --- examples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "days", "gone"),
    [
        ("media", 29, False),
        ("media", 31, True),
        ("answer", 13, False),
        ("answer", 15, True),
        ("document", 15, True),
        ("crawl", 6, False),
        ("crawl", 8, True),
        ("album", 1000, False),
        ("other", 1000, False),
        ("call", 13, False),
        ("call", 15, True),
    ],
)
def test_an_expired_object_is_deleted(kind: Kind, days: float, gone: bool) -> None:
    assert [d.reason for d in planned([stored(kind=kind, days=days, seen=None)])] == (["ttl"] if gone else [])


def test_a_picture_that_a_post_listed_lately_is_in_use_however_old() -> None:
    assert planned([stored(days=100, seen=29)]) == []
    assert [d.reason for d in planned([stored(days=100, seen=31)])] == ["ttl"]


def test_a_record_of_a_paid_call_is_kept_as_long_as_its_message_may_come_again() -> None:
    long = replace(LIMITS, call_record_age=20 * DAY)
    assert planned([stored(kind="call", days=19)], limits=long) == []


def test_what_a_post_in_work_needs_stays_even_when_the_bucket_is_full() -> None:
    full = [stored(number, size=100, days=40, seen=40)._replace(needed=True) for number in range(20)]
    assert planned(full, MANUAL) == []
    tally = CleanupTally(LIMITS, MANUAL, NOW)
    for item in full:
        tally.add(item)
    assert plan(tally).shortfall_bytes == 800
    assert tally.protected == {"needed": 2000}


def test_a_fresh_upload_is_kept_for_its_post() -> None:
    waiting = [stored(number, size=100, days=2, seen=None) for number in range(20)]
    assert planned(waiting) == []
    again = [stored(number, size=100, days=2, seen=5) for number in range(20)]
    assert planned(again) == [], "uploaded anew after the last post that listed it"


def test_crawled_pages_are_deleted_first_then_answers_then_media() -> None:
    limits = replace(LIMITS, type_bytes=dict.fromkeys(("media", "vision", "crawl"), 10_000))
    objects = [
        *[stored(n, kind="crawl", days=4) for n in range(5)],
        *[stored(n, kind="answer", days=8) for n in range(5)],
        *[stored(n, kind="crawl", size=1, days=2) for n in range(90)],
        *[stored(n, kind="answer", size=1, days=6) for n in range(90)],
        *[stored(n, size=130, days=20, seen=n) for n in range(10)],
    ]
    gone = planned(objects, limits=limits)
    assert Counter(d.content_type for d in gone) == {"crawl": 5, "vision": 5, "media": 3}
    assert {d.key[-1] for d in gone if d.content_type == "media"} == {"9", "8", "7"}
    assert total(left(objects, gone)) <= LIMITS.target_bytes


def test_below_the_threshold_only_an_operator_brings_the_bucket_down() -> None:
    objects = [stored(n, tenant=f"t{n % 4}", size=13) for n in range(100)]
    limits = replace(LIMITS, type_bytes={**LIMITS.type_bytes, "media": 10_000})
    assert planned(objects, limits=limits) == []
    assert total(left(objects, planned(objects, MANUAL, limits))) in range(1200 - 13, 1201)
    assert planned(objects, Aim("ttl"), limits) == []
    assert total(left(objects, planned(objects, Aim("manual", target_bytes=700), limits))) in range(700 - 13, 701)
    assert planned(objects, Aim("manual", "crawl"), limits) == []


def test_an_operators_clean_up_brings_tenants_below_their_limit() -> None:
    objects = [stored(n, size=10, days=n / 10) for n in range(60)] + [stored(n, "b", size=10) for n in range(39)]
    gone = planned(objects, MANUAL)
    assert {(d.tenant_id, d.reason) for d in gone} == {("a", "tenant_limit")}
    assert sorted(d.key for d in gone) == [f"media/a/{n:06}" for n in range(40, 60)], "the least recently used"
    assert planned(objects) == []


def test_a_type_above_its_limit_gives_its_least_recently_used() -> None:
    objects = [stored(n, f"t{n % 2}", "answer", size=10, days=n / 10, seen=None) for n in range(50)]
    gone = planned(objects)
    assert {d.reason for d in gone} == {"type_limit"}
    assert sorted(d.key[-2:] for d in gone) == [str(n) for n in range(40, 50)]


def test_14_5_of_15_comes_down_to_12_evenly() -> None:
    """The largest tenants give up objects down to one level; tenants below it keep everything."""
    sizes = {"small": 100, "middle": 350, "large": 450, "huge": 550}
    objects = [stored(n, t, size=1, days=n / 100) for t, size in sizes.items() for n in range(size)]
    limits = replace(LIMITS, type_bytes={**LIMITS.type_bytes, "media": 10_000})
    rest = Counter(item.tenant_id for item in left(objects, planned(objects, limits=limits)))
    assert rest == {"small": 100, "middle": 350, "large": 375, "huge": 375}


def test_objects_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="order of their last use"):
        list(plan_deletions(lambda: [stored(days=1.0), stored(days=2.0)], LIMITS, Aim(), NOW))


@pytest.mark.parametrize(
    ("held", "free", "need", "gives"),
    [
        ({"a": 10, "b": 4}, {"a": 10, "b": 4}, 0, {}),
        ({"a": 10, "b": 4}, {"a": 10, "b": 4}, 6, {"a": 6}),
        ({"a": 10, "b": 4}, {"a": 10, "b": 4}, 8, {"a": 7, "b": 1}),
        ({"a": 10, "b": 4}, {"a": 2, "b": 4}, 5, {"a": 2, "b": 3}),
        ({"a": 10, "b": 4}, {"a": 2, "b": 1}, 5, {"a": 2, "b": 1}),
        ({}, {}, 5, {}),
    ],
)
def test_level_down(held: dict[str, int], free: dict[str, int], need: int, gives: dict[str, int]) -> None:
    assert level_down(held, free, need) == gives


# --- properties -------------------------------------------------------------------------------------------------------

SIZES = st.integers(0, 120)
OBJECTS = st.lists(
    st.builds(
        stored,
        tenant=st.sampled_from(["a", "b", "c", "d"]),
        kind=st.sampled_from(["media", "media", "answer", "call", "document", "crawl", "album", "other"]),
        size=SIZES,
        days=st.floats(0, 40),
        seen=st.none() | st.floats(0, 40),
    ).flatmap(lambda item: st.booleans().map(lambda needed: item._replace(needed=needed))),
    max_size=60,
).map(lambda items: [item._replace(key=f"{item.key}-{n}") for n, item in enumerate(items)])
AIMS = st.builds(
    Aim,
    trigger=st.sampled_from(["schedule", "manual", "ttl"]),
    content_type=st.none() | st.sampled_from(["media", "vision", "crawl"]),
    target_bytes=st.none() | st.integers(0, 2000),
)


@given(objects=OBJECTS, aim=AIMS)
@settings(max_examples=examples(150), deadline=None)
def test_only_unprotected_objects_are_deleted_and_every_reachable_target_is_reached(
    objects: list[StoredObject], aim: Aim
) -> None:
    by_key = {item.key: item for item in objects}
    gone = planned(objects, aim)
    rest = left(objects, gone)
    for deletion in gone:
        item = by_key[deletion.key]
        assert protection(item, LIMITS, NOW) is None
        assert aim.content_type in (None, item.content_type)
        assert (deletion.reason == "ttl") == expired(item, LIMITS, NOW)
        assert deletion.reason in ("ttl", "type_limit") or stale(item, LIMITS, NOW)
    might = [i for i in rest if protection(i, LIMITS, NOW) is None and aim.content_type in (None, i.content_type)]
    assert not [item for item in might if expired(item, LIMITS, NOW)]
    old = [item for item in might if stale(item, LIMITS, NOW) and item.size_bytes]
    if aim.target_bytes is not None:
        assert total(rest) <= aim.target_bytes or not old
    elif aim.trigger != "ttl":
        assert total(rest) <= (LIMITS.target_bytes if aim.trigger == "manual" else LIMITS.emergency_bytes) or not old
        for content_type in CLEANED:
            of_type = [item for item in rest if item.content_type == content_type]
            free = [item for item in might if item.content_type == content_type and item.size_bytes]
            assert total(of_type) <= LIMITS.type_bytes[content_type] or not free


@given(objects=OBJECTS, aim=AIMS)
@settings(deadline=None)
def test_the_same_objects_in_any_order_give_the_same_plan_and_a_second_run_finds_nothing(
    objects: list[StoredObject], aim: Aim
) -> None:
    gone = planned(objects, aim)
    assert planned(objects[::-1], aim) == gone
    assert [d for d in planned(left(objects, gone), aim) if d.size_bytes] == []


@given(objects=OBJECTS, target=st.integers(0, 2000))
@settings(deadline=None)
def test_no_rule_frees_more_than_one_object_too_much(objects: list[StoredObject], target: int) -> None:
    limits = replace(LIMITS, type_bytes=dict.fromkeys(CLEANED, 10**9))
    gone = planned(objects, Aim("manual", target_bytes=target), limits)
    freed = sum(d.size_bytes for d in gone if d.reason == "emergency")
    kept = total(objects) - sum(d.size_bytes for d in gone if d.reason == "ttl")
    assert freed <= max(0, kept - target) + len(CLEANED) * 120


@given(
    counts=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 60), min_size=1),
    size=st.integers(1, 40),
    target=st.integers(0, 5000),
)
@settings(deadline=None)
def test_tenants_end_level(counts: dict[str, int], size: int, target: int) -> None:
    """Tenants that gave up objects do not end below the others, except for the last object of each."""
    objects = [stored(n, t, size=size, days=n / 10) for t, count in counts.items() for n in range(count)]
    limits = replace(LIMITS, type_bytes=dict.fromkeys(CLEANED, 10**9))
    gone = planned(objects, Aim("manual", target_bytes=target), limits)
    held = Counter(dict.fromkeys(counts, 0))
    held.update({t: c * size for t, c in counts.items()})
    gave = Counter[str]()
    for d in gone:
        gave[d.tenant_id] += d.size_bytes
    rest = {tenant: held[tenant] - gave[tenant] for tenant in counts}
    level = min((rest[tenant] for tenant in gave), default=None)
    if level is not None:
        assert all(rest[tenant] <= level + size * (len(counts) + 1) for tenant in counts)
