"""The plan of a soak run is repeatable, complete, and ends within the run."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from vision_app.lab.faults import FAULTS
from vision_app.lab.soak.brokers import longest_silence
from vision_app.lab.soak.plan import SHARES, draw, draw_disturbances
from vision_app.lab.soak.rounds import COMMANDS, EVENTS, SERVICES, nth
from vision_app.lab.soak.traffic import draw_picture

ALL = ("redis", "kafka", "postgres", "s3", "neo4j", "gigachat")


def plan(seed: int, posts: int = 1000) -> Any:
    signals: dict[Any, int] = {"kill": 50, "terminate": 3, "freeze": 2}
    return draw(seed, "run", posts=posts, workers=2, signals=signals, services=ALL, faults=FAULTS, outage_seconds=15.0)


def test_the_same_seed_draws_the_same_run_and_another_another() -> None:
    assert plan(1) == plan(1)
    assert plan(1) != plan(2)


@pytest.mark.parametrize("seed", range(5))
def test_a_run_has_all_that_was_asked_for_in_order_and_in_time(seed: int) -> None:
    drawn = plan(seed)
    assert Counter(signal.signal for signal in drawn.signals) == {"kill": 50, "terminate": 3, "freeze": 2}
    assert sorted(outage.service for outage in drawn.outages) == sorted(ALL)
    assert {post.kind for post in drawn.posts} == set(SHARES)
    for planned in (drawn.posts, drawn.signals, drawn.outages):
        times = [one.at for one in planned]
        assert times == sorted(times)
        assert times[0] >= 0
        assert times[-1] <= 1


@pytest.mark.parametrize("seed", range(5))
def test_brokers_are_struck_as_often_as_asked_for(seed: int) -> None:
    wanted: dict[Any, int] = {"kill": 10, "cut": 2, "freeze": 2, "restart": 1, "controller": 1, "rolling": 1}
    drawn = draw_disturbances(seed, 3, wanted)
    assert drawn == draw_disturbances(seed, 3, wanted)
    assert Counter(one.kind for one in drawn) == wanted
    assert {one.broker for one in drawn} <= {1, 2, 3}
    times = [one.at for one in drawn]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 1


@pytest.mark.parametrize(
    ("announced", "silence"),
    [
        ([11, 14, 15], 3.0),
        ([11, 100], 89.0),  # the gap begins in time and counts whole
        ([100], 90.0),  # nothing was announced in time
        ([11, *range(12, 75, 2), 200], 2.0),  # the last gap begins too late
        ([], 0.0),
    ],
)
def test_the_silence_after_a_disturbance(announced: list[int], silence: float) -> None:
    assert longest_silence([1000 * at for at in (1, 5, *announced)], 10_000, 15.0) == silence


def test_one_picture_belongs_to_one_tenant_so_that_one_call_is_what_it_costs() -> None:
    drawn = plan(7)
    owners: dict[int, str] = {}
    for post in drawn.posts:
        for picture in post.pictures:
            assert owners.setdefault(picture, post.tenant_id) == post.tenant_id
    assert len({post.post_id for post in drawn.posts}) == len(drawn.posts)
    assert drawn.poor in drawn.tenants


def test_pictures_repeat_with_their_number_and_differ_otherwise() -> None:
    assert draw_picture(1, 2) == draw_picture(1, 2)
    assert len({draw_picture(seed, number) for seed in (1, 2) for number in range(50)}) == 100


def test_rounds_of_the_crash_suite_have_tenants_posts_and_pictures_of_their_own() -> None:
    rounds = [nth("run", number) for number in range(60)]
    assert len({one.tenant for one in rounds} | {one.poor for one in rounds}) == 120
    posts = [post for one in rounds for post in one.posts]
    assert len({post.post_id for post in posts}) == len(posts)
    pictures = [{at for post in one.posts for at in post.pictures} for one in rounds]
    assert sum(map(len, pictures)) == len(set().union(*pictures))
    assert {one.service for one in rounds} == set(SERVICES)
    assert {one.command for one in rounds} == set(COMMANDS)
    assert {one.event for one in rounds} == set(EVENTS)
