"""Preflight: a stored answer is free, a missing object costs nothing, all other media reserve money."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.agents.conftest import SHA, World, away
from tests.fakes import until
from tests.samples import analyzed
from vision_app.domain.calls import StoredAnswer
from vision_app.messages import Medium
from vision_app.providers.pictures import estimate_tokens
from vision_app.stores.answers import AnswerStore
from vision_app.stores.s3 import ObjectForbidden


async def stored(world: World, verdict: str = "ok") -> None:
    answer = analyzed(verdict=verdict).answer
    if verdict in ("refused", "unusable"):
        answer = answer.model_copy(update={"analysis": None})
    answers = AnswerStore(world.s3, world.app.settings.gigachat_vision_model)
    await answers.save(
        StoredAnswer(
            answer=answer,
            tenant_id="t1",
            sha256=SHA,
            grant_id="earlier",
            content="",
            stored_at=datetime(2999, 1, 1, tzinfo=UTC),
        )
    )


async def test_a_picture_that_is_there_reserves_its_estimate(world: World) -> None:
    world.store()
    async with world.agent("media") as agent:
        await world.tell(agent, world.task())
    (reserve,) = world.sent("vision.budget")
    size = len(world.s3.objects["media/t1/red.png"])
    assert reserve["type"] == "reserve"
    assert reserve["estimate"] == estimate_tokens(size, "image/png", world.app.settings) > 0
    assert reserve["task"]["times"]["checked"] > 0
    assert world.order() == ["send vision.budget", "ack"]
    assert ("read", "media/t1/red.png") not in world.s3.asked, "preflight does not read the object"


async def test_a_stored_answer_is_free_and_needs_no_object(world: World) -> None:
    await stored(world)
    async with world.agent("media") as agent:
        await world.tell(agent, world.task())
    (outcome,) = world.sent("vision.posts")
    assert outcome["outcome"]["kind"] == "analyzed"
    assert (outcome["outcome"]["cached"], outcome["outcome"]["tokens_billed"]) == (True, 0)
    assert outcome["dispatch"] == 1
    assert world.sent("vision.budget") == []


async def test_an_answer_without_content_leaves_the_decision_to_analysis(world: World) -> None:
    world.store()
    await stored(world, "refused")
    async with world.agent("media") as agent:
        await world.tell(agent, world.task())
    assert [command["type"] for command in world.sent("vision.budget")] == ["reserve"]


async def test_force_ignores_a_partial_answer(world: World) -> None:
    world.store()
    await stored(world, "partial")
    async with world.agent("media") as agent:
        await world.tell(agent, world.task(), world.task(force=True))
    assert len(world.sent("vision.posts")) == len(world.sent("vision.budget")) == 1


async def test_a_missing_object_is_skipped_without_money(world: World) -> None:
    nameless = world.task(medium=Medium(sha256=SHA, mime_type="image/png"))
    async with world.agent("media") as agent:
        await world.tell(agent, world.task(), nameless)
    for outcome in world.sent("vision.posts"):
        assert (outcome["outcome"]["kind"], outcome["outcome"]["reason"]) == ("skipped", "s3_missing")
    assert len(world.sent("vision.posts")) == 2
    assert world.sent("vision.budget") == []


async def test_a_forbidden_object_is_skipped(world: World) -> None:
    world.s3.fail("head", "media/t1", ObjectForbidden("denied"))
    async with world.agent("media") as agent:
        await world.tell(agent, world.task())
    assert world.sent("vision.posts")[0]["outcome"]["reason"] == "s3_forbidden"


async def test_while_the_store_is_away_the_task_waits_and_is_no_failure(world: World) -> None:
    world.store()
    world.s3.fail("read", "vision/", away(), away())
    world.s3.fail("head", "media/t1", away(), away())
    async with world.agent("media") as agent:
        await world.tell(agent, world.task())
    assert len(world.sent("vision.budget")) == 1
    assert world.sent("vision.dlq") == []


async def test_an_unexpected_error_answers_the_post_and_dead_letters_the_task(world: World) -> None:
    world.s3.fail("head", "media/t1", KeyError("ours"))
    async with world.agent("media") as agent:
        await world.tell(agent, world.task())
        await until(lambda: world.sent("vision.dlq"))
    (outcome,), (letter,) = world.sent("vision.posts"), world.sent("vision.dlq")
    assert (outcome["outcome"]["kind"], outcome["outcome"]["reason"]) == ("failed", "exception")
    assert outcome["outcome"]["dead_letter_id"] == letter["id"]
    assert (letter["tenant_id"], letter["post_id"], letter["error"]) == ("t1", "p1", "KeyError")
    assert world.order() == ["send vision.posts", "send vision.dlq", "ack"]


async def test_a_message_that_is_not_a_task_is_dead_lettered_alone(world: World) -> None:
    async with world.agent("media") as agent:
        await world.tell(agent, b"{}")
    assert len(world.sent("vision.dlq")) == 1
    assert world.sent("vision.posts") == []
