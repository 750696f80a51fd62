"""The model itself repairs an unreadable answer, once, under a separate grant."""

from __future__ import annotations

import pytest

from tests.agents.conftest import GOOD, World
from tests.agents.test_analysis import found_record, one, outcomes, settled

BROKEN = "На картинке кот. classification - фото, labels - кот, окно"


@pytest.fixture(autouse=True)
def _stored(world: World) -> None:
    world.store()


async def test_an_unusable_answer_is_paid_and_a_repair_is_asked_for(world: World) -> None:
    world.provider.answers = [BROKEN]
    await one(world)
    assert outcomes(world) == [], "the post waits for the repair"
    settle, reserve = world.sent("vision.budget")
    assert (settle["type"], settle["tokens"]) == ("settle", 1000)
    assert (reserve["type"], reserve["purpose"]) == ("reserve", "repair")
    assert 0 < reserve["estimate"] < 1000, "a text costs less than a picture"


async def test_a_repaired_answer_is_the_posts_and_costs_both_calls(world: World) -> None:
    world.provider.answers = [BROKEN, GOOD]
    await one(world)
    outcome = await one(world, id="g2", purpose="repair")
    assert outcome["kind"] == "analyzed"
    assert outcome["tokens_billed"] == 2000
    assert "repaired" in outcome["answer"]["faults"]
    assert settled(world) == [("g1", 1000), ("g2", 1000)]
    record = found_record(world, "g2")
    assert record is not None
    assert (record["state"], record["tokens"]) == ("done", 1000)


async def test_a_repair_that_fails_is_not_tried_again(world: World) -> None:
    world.provider.answers = [BROKEN]
    await one(world)
    outcome = await one(world, id="g2", purpose="repair")
    assert (outcome["kind"], outcome["reason"]) == ("failed", "unusable")
    again = await one(world, id="g3")
    assert (again["kind"], again["reason"]) == ("failed", "unusable")
    assert len(world.provider.calls) == 2
    assert settled(world)[-1] == ("g3", 0)


async def test_a_redelivered_repair_settles_the_same_and_does_not_call_again(world: World) -> None:
    world.provider.answers = [BROKEN, GOOD]
    await one(world)
    first = await one(world, id="g2", purpose="repair")
    again = await one(world, id="g2", purpose="repair")
    assert (again["kind"], again["tokens_billed"]) == (first["kind"], first["tokens_billed"])
    assert len(world.provider.calls) == 2
    assert settled(world)[-1] == ("g2", 1000)
