"""A grant that follows from a preflight of this worker is not looked up once more, unless that may be wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tests.agents.conftest import SHA, World
from tests.agents.test_media import stored
from vision_app.analysis.preflights import Preflights
from vision_app.domain.calls import CallRecord
from vision_app.messages import MediaTask
from vision_app.stores.keys import call_key

RECORD = call_key("t1", "g1")


@pytest.fixture(autouse=True)
def _stored(world: World) -> None:
    world.store()


async def preflight(world: World) -> MediaTask:
    """Let the media agent look at the picture. Returns the task for which it reserves money."""
    async with world.agent("media") as agent:
        await world.tell(agent, world.task())
    world.s3.asked.clear()
    return MediaTask.model_validate(world.sent("vision.budget")[-1]["task"])


async def grant(world: World, task: MediaTask, id: str = "g1", **fields: Any) -> dict[str, Any]:
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant(id, task=task, **fields))
    outcome: dict[str, Any] = world.sent("vision.posts")[-1]["outcome"]
    return outcome


def looks(world: World) -> int:
    """How often the record of the call was read."""
    return world.s3.asked.count(("read", RECORD))


async def test_a_new_grant_is_looked_up_once_right_before_its_call(world: World) -> None:
    outcome = await grant(world, await preflight(world))
    assert outcome["kind"] == "analyzed"
    assert looks(world) == 1
    assert world.s3.asked[0] == ("read", "media/t1/red.png"), "nothing is asked before the picture"


async def test_a_grant_that_comes_again_is_looked_up_first(world: World) -> None:
    """As after a crash between the call and its acknowledgement: the call was made, and is not made again."""
    task = await preflight(world)
    await grant(world, task)
    world.s3.asked.clear()
    await grant(world, task)
    assert len(world.provider.calls) == 1
    assert world.s3.asked[0] == ("read", RECORD)
    assert ("read", "media/t1/red.png") not in world.s3.asked


async def test_an_answer_that_came_after_the_preflight_is_not_paid_again(world: World) -> None:
    task = await preflight(world)
    await stored(world)
    outcome = await grant(world, task)
    assert (outcome["kind"], outcome["cached"]) == ("analyzed", True)
    assert world.provider.calls == [], "the second look, right before the call, finds it"


async def test_a_call_that_another_worker_began_after_the_preflight_is_not_made_again(world: World) -> None:
    """The assumption, that nobody else had the partition, is wrong here: a worker that was frozen may think so."""
    task = await preflight(world)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    other = CallRecord(state="started", grant_id="g1", owner="worker-2/x", at=long_ago)
    world.s3.objects[RECORD] = other.model_dump_json().encode()
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant(task=task))
    assert world.provider.calls == []
    assert [command["type"] for command in world.sent("vision.budget")[1:]] == ["lost"], "it may have been billed"


async def test_an_answer_that_cannot_be_reused_is_looked_at_first(world: World) -> None:
    """A refused answer is there at the preflight: the grant needs it, and gets no second call for it."""
    await stored(world, "refused")
    outcome = await grant(world, await preflight(world))
    assert outcome["kind"] == "failed"
    assert world.provider.calls == []
    assert ("read", "media/t1/red.png") not in world.s3.asked


# --- which grants are new ---------------------------------------------------------------------------------------------


def in_generation(number: int) -> Any:
    return SimpleNamespace(message=SimpleNamespace(generation_id=number))


def task_of(world: World, **fields: Any) -> MediaTask:
    return world.task(**fields).at(checked=1000)


def test_only_the_first_grant_of_a_preflight_is_new(world: World) -> None:
    preflights, task = Preflights(), task_of(world)
    preflights.note_unanswered(in_generation(1), task)
    assert preflights.is_new(in_generation(1), world.grant(task=task))
    assert not preflights.is_new(in_generation(1), world.grant(task=task))


def test_after_a_rebalance_no_grant_is_new(world: World) -> None:
    """Another worker may have had the partition, and begun the call."""
    preflights, task = Preflights(), task_of(world)
    preflights.note_unanswered(in_generation(1), task)
    assert not preflights.is_new(in_generation(2), world.grant(task=task))
    assert not preflights.is_new(in_generation(1), world.grant(task=task))


@pytest.mark.parametrize("other", [{"post_id": "p2"}, {"tenant_id": "t2"}])
def test_a_grant_of_another_post_or_tenant_is_not_new(world: World, other: dict[str, Any]) -> None:
    preflights = Preflights()
    preflights.note_unanswered(in_generation(1), task_of(world))
    assert not preflights.is_new(in_generation(1), world.grant(task=task_of(world, **other)))


def test_a_grant_of_an_earlier_preflight_is_not_new(world: World) -> None:
    """The media task came again after a rebalance; the grant of its first preflight may have a record."""
    preflights = Preflights()
    preflights.note_unanswered(in_generation(2), task_of(world).at(checked=2000))
    assert not preflights.is_new(in_generation(2), world.grant(task=task_of(world)))


def test_the_oldest_preflights_are_forgotten(world: World) -> None:
    preflights = Preflights(kept=2)
    for post in ("p1", "p2", "p3"):
        preflights.note_unanswered(in_generation(1), task_of(world, post_id=post))
    new = [
        preflights.is_new(in_generation(1), world.grant(task=task_of(world, post_id=post)))
        for post in ("p1", "p2", "p3")
    ]
    assert new == [False, True, True]


def test_a_repair_is_never_new(world: World) -> None:
    """It needs the broken answer."""
    preflights, task = Preflights(), task_of(world)
    preflights.note_unanswered(in_generation(1), task)
    assert not preflights.is_new(in_generation(1), world.grant(task=task, purpose="repair"))
    assert preflights.is_new(in_generation(1), world.grant(task=task))


def test_the_picture_is_part_of_the_preflight(world: World) -> None:
    task = task_of(world)
    other = task.model_copy(update={"medium": task.medium.model_copy(update={"sha256": SHA[::-1]})})
    preflights = Preflights()
    preflights.note_unanswered(in_generation(1), task)
    assert not preflights.is_new(in_generation(1), world.grant(task=other))
